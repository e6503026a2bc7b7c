"""Texts are kept beside the app: nobody waits, none is lost at the end, and a disk that fails is told once."""

from __future__ import annotations

import threading
import time

import pytest
from history_maker import make_entry
from test_history_screen import see

from engine.config import SamplingParams
from engine.inference.stream import Token
from engine.worker.protocol import ParamsChanged, Started, Tokens
from minigpt_tui.history.making import entry_of
from minigpt_tui.history.recorder import Recorder
from minigpt_tui.history.store import Store
from minigpt_tui.paths import history_file
from minigpt_tui.widgets.history_entry import text_content
from minigpt_tui.wishes import Written
from minigpt_tui.writing import Writing

pytest_plugins = ("play_fixtures",)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.db"


def kept(path) -> list[str]:
    with Store(path) as store:
        return [entry.text for entry in store.every()]


def test_what_is_recorded_is_on_the_disk_once_it_is_closed(path):
    numbers: list[int] = []
    recorder = Recorder(path, on_kept=numbers.append)
    for place in range(50):
        recorder.record(make_entry(text=str(place)))
    assert recorder.close()
    assert kept(path) == [str(place) for place in reversed(range(50))]
    assert numbers == list(range(1, 51))
    recorder.record(make_entry(text="again"))
    assert recorder.close()
    assert kept(path)[0] == "again"


def test_recording_does_not_wait_for_a_file_that_is_locked(path):
    with Store(path) as other:
        other._connection.execute("BEGIN IMMEDIATE")
        recorder = Recorder(path)
        recorder.record(make_entry())  # it would never come back
        assert not recorder.close(0.1)
        other._connection.execute("COMMIT")
    for _ in range(500):
        if kept(path):
            break
        time.sleep(0.01)
    assert kept(path) == [" was here."]


def test_a_failure_is_told_once_and_the_next_text_is_tried_again(path):
    path.mkdir()
    told: list[str] = []
    arrived = threading.Event()
    recorder = Recorder(path, on_problem=told.append, on_kept=lambda _: arrived.set())
    for _ in range(3):
        recorder.record(make_entry(text="lost"))
    for _ in range(500):
        if recorder._waiting.empty() and told:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    path.rmdir()
    recorder.record(make_entry(text="kept"))
    assert arrived.wait(10)
    assert recorder.close()
    assert kept(path) == ["kept"]
    assert len(told) == 1
    assert "could not be kept" in told[0]


def test_a_damaged_file_is_set_aside_and_the_text_kept(path):
    path.write_bytes(b"damage" * 200)
    told: list[str] = []
    recorder = Recorder(path, on_problem=told.append)
    recorder.record(make_entry(text="kept"))
    assert recorder.close()
    assert kept(path) == ["kept"]
    assert "damaged" in told[0]


def test_what_was_deleted_long_ago_is_purged_with_the_first_text(path, monkeypatch):
    with Store(path) as store:
        gone, undone = store.add(make_entry(text="gone")), store.add(make_entry(text="undone"))
        store.delete([gone])
        store._connection.execute("UPDATE entries SET deleted = 1.0 WHERE id = ?", (gone,))
        store.delete([undone])
    recorder = Recorder(path)
    recorder.record(make_entry(text="new"))
    assert recorder.close()
    with Store(path) as store:
        assert store.restore([gone, undone]) == [undone]
        assert not store.select("SELECT 1 FROM texts WHERE id = ?", gone)


def test_a_file_that_was_moved_away_while_the_app_runs_is_begun_anew(path):
    told: list[str] = []
    first = threading.Event()
    recorder = Recorder(path, on_problem=told.append, on_kept=lambda _: first.set())
    recorder.record(make_entry(text="before"))
    assert first.wait(10)
    path.rename(path.with_name("elsewhere.db"))
    recorder.record(make_entry(text="after"))
    assert recorder.close()
    assert kept(path) == ["after"]
    assert not told


def test_a_text_of_the_screen_says_where_its_settings_changed():
    writing = Writing()
    writing.start(Started(id=1, prompt="Go", prompt_tokens=(1, 2), seed=7), "Go", SamplingParams())
    pieces = [" on", "", " and", " on"]  # the second is held back
    tokens = [Token(place, 2 + place, text, text, 0.0) for place, text in enumerate(pieces)]
    writing.apply([Tokens(id=1, tokens=tuple(tokens[:2]), context=4)])
    writing.apply([ParamsChanged(id=1, position=4, params=SamplingParams(temperature=1.2))])
    writing.apply([Tokens(id=1, tokens=tuple(tokens[2:]), context=6)])
    entry = entry_of(writing, "play")
    assert (entry.prompt, entry.text) == ("Go", " on and on")
    assert [change.position for change in entry.changes] == [4]
    assert entry.change_at == (3,)
    assert "Go on⟨temperature 1.20⟩ and on" in text_content(entry).plain


async def test_a_text_that_cannot_be_kept_is_told_on_the_screen(make_app):
    history_file().mkdir(parents=True)
    async with make_app().run_test(size=(140, 40)) as pilot:
        pilot.app.post_message(Written(make_entry()))
        await see(pilot, "This text could not be kept in the history", "All texts stay on the screen")
