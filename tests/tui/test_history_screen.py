"""The History screen under the keyboard and the mouse, on a real history."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from array import array

import pytest
from history_maker import make_entry
from textual.app import App

from engine.config import SamplingParams
from engine.worker.protocol import ParamsAt
from minigpt_tui.history.shell_line import shell_line
from minigpt_tui.history.store import Store
from minigpt_tui.paths import history_file
from minigpt_tui.screens.history import HistoryScreen
from minigpt_tui.settings import Session
from minigpt_tui.themes import DARK, variable_defaults
from minigpt_tui.widgets.history_entry import facts_content, text_content
from minigpt_tui.wishes import OpenEntry

pytest_plugins = ("play_fixtures",)

WIDE, NARROW, LEAST = (140, 40), (80, 24), (60, 20)


class HistoryApp(App[None]):
    """The screen alone, and what it wishes of the app."""

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.wishes: list[OpenEntry] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return variable_defaults(self.current_theme)

    def on_mount(self) -> None:
        self.push_screen(HistoryScreen(Session()))

    def on_open_entry(self, event: OpenEntry) -> None:
        self.wishes.append(event)


@pytest.fixture
def kept(own_home):
    """Keeps texts in the test's own home."""

    def keep(*entries) -> list[int]:
        with Store() as store:
            return [store.add(entry) for entry in entries]

    return keep


async def until(is_so, seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.04)):
        if is_so():
            return
        await asyncio.sleep(0.04)
    raise AssertionError("it did not come about")


def shown(app: App[None]) -> str:
    """The screen as text."""
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


async def see(pilot, *words: str) -> None:
    """Wait until the screen shows all these words, wherever they wrap."""

    def seen() -> bool:
        text = " ".join(shown(pilot.app).replace("│", " ").split())
        return all(" ".join(word.split()) in text for word in words)

    try:
        await until(seen)
    except AssertionError:
        raise AssertionError(f"{words} not in\n{shown(pilot.app)}") from None


async def answer(pilot, text: str) -> None:
    """Type an answer, at once."""
    pilot.app.screen.query_one("#ask Input").value = text
    await pilot.press("enter")


def history_app(size=WIDE):
    return HistoryApp().run_test(size=size)


# What is shown


@pytest.mark.parametrize("size", [WIDE, NARROW, LEAST])
async def test_an_empty_history_says_what_fills_it(kept, size):
    async with history_app(size) as pilot:
        await see(pilot, "No text is kept yet: F2 writes one.", "generate --record")
        await pilot.press("enter", "r", "f", "n", "t", "y", "L", "d", "u", "e", "space")
        assert not pilot.app.wishes


async def test_the_chosen_text_stands_there_in_full(kept):
    params = SamplingParams(seed=7, temperature=0.9, max_new_tokens=40)
    entry = make_entry(
        text=" was here.\nIt [red]left\x1b[31m.",
        params=params,
        changes=(ParamsAt(len("The fox was"), params.replace(temperature=1.4)),),
        tags=("fables", "best"),
        note="why not",
        sha256="abcdef" * 10,
        favourite=True,
    )
    kept(entry)
    async with history_app() as pilot:
        await see(pilot, "The fox was⟨temperature 1.40⟩ here.", "It [red]left␛[31m.")
        await see(pilot, "temperature 0.90", "seed 7", "cpu fp32", "60/s", "abcdefabcdef", "#fables #best", "why not")
        await see(pilot, "2027-01-15", "★", shell_line(entry).partition(" --seed")[0])


async def test_a_text_of_many_tokens_and_of_many_characters_are_both_marked_where_they_changed(kept):
    changed = ParamsAt(3, SamplingParams(seed=7, top_k=9))
    kept(make_entry(text=" was here", tokens=(5, 6, 7), prompt_tokens=(1, 2), changes=(changed,), change_at=(4,)))
    async with history_app() as pilot:
        await see(pilot, "The fox was⟨top-k 9")


async def test_the_list_has_the_latest_first_and_follows_what_another_process_keeps(kept):
    kept(*(make_entry(text=f" number {place}") for place in range(3)))
    async with history_app() as pilot:
        await see(pilot, "History · 3", "The fox number 2", "The fox number 0")
        lines = [line.partition("││")[0] for line in shown(pilot.app).splitlines()]
        rows = [line for line in lines if "The fox number" in line]
        assert [row.partition("number ")[2][0] for row in rows[:3]] == ["2", "1", "0"]
        await pilot.press("down")
        await see(pilot, "2 · shakespeare")
        kept(make_entry(text=" came later"))
        await see(pilot, "History · 4", "came later", "2 · shakespeare")  # the chosen one stays


@pytest.mark.parametrize("size", [NARROW, LEAST])
async def test_in_a_narrow_terminal_list_and_text_take_turns(kept, size):
    kept(make_entry(text="\nsecond line"))
    async with history_app(size) as pilot:
        await see(pilot, "The fox second line")
        assert "in a shell" not in shown(pilot.app)
        await pilot.press("tab")
        await see(pilot, "in a shell")
        await pilot.press("escape")
        await see(pilot, "History · 1")
        assert "in a shell" not in shown(pilot.app)


async def test_a_hundred_thousand_texts_are_scrolled_and_only_rows_in_sight_are_read(kept, monkeypatch):
    kept(make_entry())
    read: list[int] = []
    rows = Store.rows
    monkeypatch.setattr(Store, "find", lambda self, query: iter([array("q", range(100_000, 0, -1))]))
    monkeypatch.setattr(Store, "rows", lambda self, ids: [read.extend(ids), rows(self, ids)][1])
    async with history_app() as pilot:
        await see(pilot, "History · 100,000")
        await pilot.press("end")
        await see(pilot, "The fox was here.", "1 · shakespeare")
        assert pilot.app.screen._list.index() == 99_999
        await pilot.press("pageup", "home")
        assert len(read) < 400


# Finding


async def test_typing_finds_and_the_last_word_counts(kept):
    kept(make_entry(text=" a bird"), make_entry(text=" a bear", note="big"), make_entry(text=" a bee"))
    async with history_app() as pilot:
        await see(pilot, "History · 3")
        await pilot.press("slash", "b", "e")
        await see(pilot, "History · 2")
        await pilot.press("a", "r", "space", "B", "I")
        await see(pilot, "History · 1", "1 text found", "fox a bear")
        await pilot.press("g", "x")
        await see(pilot, "Nothing was found")
        await pilot.press("backspace", "enter")
        assert pilot.app.focused.id == "entries"
        await see(pilot, "History · 1")
        await pilot.press("escape")
        await see(pilot, "History · 3")
        assert pilot.app.screen._search.value == ""


def test_what_was_looked_for_is_underlined_in_the_text():
    content = text_content(make_entry(text=" was here. A FOX."), 'fox "was h"')
    lines = [content.plain[span.start : span.end] for span in content.spans if span.style == "underline"]
    assert sorted(lines) == ["FOX", "fox", "was h"]


async def test_letters_are_text_in_the_search_field(kept):
    kept(make_entry(text=" under the fence"))
    async with history_app() as pilot:
        await see(pilot, "History · 1")
        await pilot.press("slash", *"fd")
        await see(pilot, "Nothing was found")
        with Store() as store:
            assert len(store.ids()) == 1
            assert not store.entry(1).favourite


async def test_filters_by_model_date_favourites_and_tag(kept):
    kept(
        make_entry(model="fables-nano", time=1_700_000_000.0, tags=("sea",)),
        make_entry(model="shakespeare", favourite=True, tags=("sea", "sky")),
        make_entry(model="shakespeare"),
    )
    async with history_app() as pilot:
        await see(pilot, "History · 3")
        await pilot.press("m")
        await see(pilot, "shakespeare 2, fables-nano 1")
        await answer(pilot, "nano")
        await see(pilot, "History · 1 of fables-nano")
        await pilot.press("escape", "F")
        await see(pilot, "History · 1 of ★")
        await pilot.press("F", "T")
        await see(pilot, "sea 2, sky 1")
        await answer(pilot, "sea")
        await see(pilot, "History · 2 of #sea")
        await pilot.press("D")
        await answer(pilot, "2023-11-01..2023-11-30")
        await see(pilot, "History · 1 of 2023-11-01..2023-11-30 · #sea")
        await pilot.press("D")
        await answer(pilot, "soon")
        await see(pilot, "is no date")
        await pilot.press("escape", "escape")
        await see(pilot, "History · 3")


# What can be done with a text


async def test_a_text_opens_in_play_and_is_replayed(kept):
    kept(make_entry())
    async with history_app() as pilot:
        await see(pilot, "in a shell")
        await pilot.press("enter", "r")
        await until(lambda: len(pilot.app.wishes) == 2)
        first, second = pilot.app.wishes
        assert (first.entry.id, first.replay, second.replay) == (1, False, True)
        assert first.entry.prompt_tokens == make_entry().prompt_tokens


async def test_favourites_notes_and_tags_are_kept(kept):
    kept(make_entry(), make_entry())
    async with history_app() as pilot:
        await see(pilot, "in a shell")
        await pilot.press("f")
        await see(pilot, "it is a favourite", "· ★")
        await pilot.press("n")
        await answer(pilot, "a note [b]")
        await see(pilot, "noted", "a note [b]")
        await pilot.press("t")
        await answer(pilot, "#one two")
        await see(pilot, "#one #two")
        await pilot.press("slash", *"a note")
        await see(pilot, "History · 1")
    with Store() as store:
        entry = store.entry(2)
        assert (entry.favourite, entry.note, entry.tags) == (True, "a note [b]", ("one", "two"))
        assert not store.entry(1).favourite


async def test_several_are_deleted_and_come_back(kept):
    kept(*(make_entry(text=f" number {place}") for place in range(4)))
    async with history_app() as pilot:
        await see(pilot, "History · 4", "in a shell")
        await pilot.press("space", "down", "space")
        await see(pilot, "2 selected")
        await pilot.press("d")
        await see(pilot, "2 texts deleted; u brings them back", "History · 2")
        with Store() as store:
            assert list(store.ids()) == [3, 1]
        await pilot.press("d")
        await see(pilot, "1 text deleted", "History · 1")
        await pilot.press("u", "u", "u")
        await see(pilot, "History · 4", "nothing was deleted")


def test_the_line_for_a_shell_is_shown_with_its_line_breaks():
    entry = make_entry(prompt="First\nSecond")
    lines = [line[11:] for line in facts_content(entry, 200).plain.split("\n")]
    assert "\n".join(lines).endswith(shell_line(entry))


async def test_copies_are_the_text_and_the_line(kept):
    entry = make_entry()
    kept(entry)
    async with history_app() as pilot:
        await see(pilot, "in a shell")
        await pilot.press("y")
        assert pilot.app.clipboard == "The fox was here."
        await pilot.press("L")
        assert pilot.app.clipboard == shell_line(entry)


async def test_an_export_asks_and_overwrites_nothing_silently(kept, tmp_path):
    kept(*(make_entry(text=f" number {place}") for place in range(3)))
    there = tmp_path / "kept.json"
    there.write_text("mine")
    async with history_app() as pilot:
        await see(pilot, "History · 3", "in a shell")
        await pilot.press("space", "e", "ctrl+u")
        await see(pilot, "export 1 selected to")
        field = pilot.app.screen.query_one("#ask Input")
        field.value = str(tmp_path / "kept.doc")
        await pilot.press("enter")
        await see(pilot, "end its name with .md, .json, .csv or .txt")
        field.value = str(there)
        await pilot.press("enter")
        await see(pilot, "kept.json is there already; enter again overwrites it")
        assert there.read_text() == "mine"
        await pilot.press("enter")
        await until(lambda: there.read_text() != "mine")
        assert json.loads(there.read_text())["text"] == " number 2"
        await pilot.press("escape", "e")
        field.value = str(tmp_path / "all.csv")
        await pilot.press("enter")
        await see(pilot, "3 texts written")
        assert len((tmp_path / "all.csv").read_text().splitlines()) == 4


async def test_statistics_are_a_tab(kept):
    kept(make_entry(time=1_799_000_000.0), make_entry(text="x" * 100, device="cuda", tokens_per_second=900.0))
    async with history_app() as pilot:
        await see(pilot, "History · 2")
        await pilot.press("s")
        await see(pilot, "2 texts", "110 tokens written", "cuda fp32", "900", "tokens of each day", "64–127")
        await pilot.press("s")
        await see(pilot, "History · 2")


# What can go wrong


async def test_a_damaged_file_is_said_and_a_fresh_one_begun(kept):
    kept(make_entry())
    history_file().write_bytes(b"no database" * 100)
    async with history_app() as pilot:
        await see(pilot, "damaged", "No text is kept yet")
        assert len(list(history_file().parent.glob("history.damaged-*.db"))) == 1


async def test_a_file_that_is_damaged_while_it_is_read_is_set_aside(kept, monkeypatch):
    kept(make_entry())
    async with history_app() as pilot:
        await see(pilot, "History · 1", "in a shell")
        screen = pilot.app.screen
        await until(lambda: screen._is_whole)
        with history_file().open("r+b") as file:
            file.seek(100)
            file.write(b"\xff" * 8000)
        screen._store._connection.execute("PRAGMA cache_size = 0")
        screen._store._connection.execute("PRAGMA shrink_memory")
        await pilot.press("f")
        await see(pilot, "The history was damaged", "No text is kept yet")
        kept(make_entry(text=" began anew"))
        await see(pilot, "began anew")


async def test_a_file_that_another_process_began_anew_is_read(kept):
    kept(make_entry(text=" in the old one"))
    async with history_app() as pilot:
        await see(pilot, "in the old one")
        history_file().rename(history_file().with_name("old.db"))
        kept(make_entry(text=" in the new one"))
        await see(pilot, "History · 1", "in the new one")


async def test_a_history_that_cannot_be_opened_is_told(own_home):
    history_file().mkdir(parents=True)
    async with history_app() as pilot:
        await see(pilot, "The history cannot be used")
        await pilot.press("escape", "f", "s", "s", "slash", "a")
        assert pilot.app.is_running


async def test_a_full_disk_is_told_and_nothing_is_lost(kept):
    kept(make_entry())
    async with history_app() as pilot:
        await see(pilot, "in a shell")
        store = pilot.app.screen._store
        [[pages]] = store.select("PRAGMA page_count")
        store.select(f"PRAGMA max_page_count = {pages}")
        await pilot.press("n")
        pilot.app.screen.query_one("#ask Input").value = "x" * 100_000
        await pilot.press("enter")
        await see(pilot, "the disk is full", "What was kept before is untouched")
    with Store() as store:
        assert store.entry(1).note == ""


def test_the_app_starts_without_sqlite():
    program = "import sys, minigpt_tui.app, minigpt_tui.history.recorder; sys.exit('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
