"""What a session leaves is there at the next start: its texts, the one that was shown, the place in it and the draft; a
process that is killed loses a few seconds at most.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted_client import ScriptedClient
from test_branches_on_screen import a_text, texts, write
from test_play_screen import NARROW, WIDE, begin, settled, shown

from minigpt_tui.kept_branches import load_kept
from minigpt_tui.paths import branches_file
from minigpt_tui.screens import play_keeping

pytest_plugins = ("play_fixtures",)

LONG = "\n".join(f"line {number}" for number in range(200))


async def restored(pilot) -> None:
    """Wait until the last session is there."""
    for _ in range(100):
        if pilot.app.play._restored:
            break
        await asyncio.sleep(0.01)
    await settled(pilot)


async def test_all_of_the_last_session_comes_back_also_when_it_was_left_in_mid_stream(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await restored(pilot)
        await a_text(pilot, client)
        await pilot.press("g")
        await settled(pilot)
        client.streams[-1].start(seed=9)
        client.streams[-1].write(LONG)
        await settled(pilot)
        await pilot.press("home", "down", "down", "a")
        app = pilot.app
        await pilot.press(*"!?")
        await settled(pilot)
        top = app.play._text.scroll_offset.y
        app.play.close_texts()
    async with make_app(client=ScriptedClient()).run_test(size=NARROW) as pilot:
        app = pilot.app
        await restored(pilot)
        assert texts(app) == ["abcdefgh", "ab" + LONG]
        assert app.play.writing.document.text() == "ab" + LONG
        assert (app.play.writing.seed, app.play.writing.finish_reason) == (9, "cancelled")
        assert app.play._text.scroll_offset.y == top == 2
        assert not app.play._text.following
        assert app.play._prompt.text == "ab!?"
        assert "branch 2 of 2" in shown(app, "#text")
        await pilot.press("escape", "c")
        await settled(pilot)
        again = app.play._live._engine.streams[-1]
        assert again.prompt_tokens[:2] == (0, 1)
        assert len(again.prompt_tokens) == 2 + len(LONG)
        assert again.params.seed == 9


async def test_leaving_in_mid_stream_leaves_no_work_that_never_began(make_app, client, recwarn):
    async with make_app().run_test(size=WIDE) as pilot:
        await settled(pilot)
        stream = await begin(pilot, client)
        stream.write("some text")
        await settled(pilot)
        pilot.app.play._save_now()
        pilot.app.workers.cancel_all()  # as the app does when it leaves, before the work has begun
        await pilot.app.action_quit()
    gc.collect()
    assert [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)] == []


async def test_what_is_asked_before_the_last_session_is_back_comes_first(make_app, client, monkeypatch):
    async with make_app().run_test(size=WIDE) as pilot:
        await restored(pilot)
        await a_text(pilot, client)
        pilot.app.play.close_texts()
    gate = slow_disk(monkeypatch)
    async with make_app(client=(second := ScriptedClient())).run_test(size=WIDE) as pilot:
        app = pilot.app
        (await begin(pilot, second, "new", "er")).finish()
        await settled(pilot)
        kept = branches_file().read_bytes()
        gate.set()
        await restored(pilot)
        assert app.play.writing.document.text() == "newer"
        assert texts(app) == ["abcdefgh", "newer"]
        assert app.play._prompt.text == "new"
        app.play.close_texts()
        assert branches_file().read_bytes() != kept
    assert [len(branch.part.trace) for branch in load_kept()[0].branches] == [2, 6]


async def test_an_app_that_is_left_before_the_last_session_is_back_loses_neither(make_app, client, monkeypatch):
    async with make_app().run_test(size=WIDE) as pilot:
        await restored(pilot)
        await a_text(pilot, client)
        pilot.app.play.close_texts()
    slow_disk(monkeypatch)
    async with make_app(client=(second := ScriptedClient())).run_test(size=WIDE) as pilot:
        await begin(pilot, second, "new", "er")
        pilot.app.play.close_texts()
    assert [len(branch.part.trace) for branch in load_kept()[0].branches] == [2, 6]


def slow_disk(monkeypatch) -> asyncio.Event:
    """Let the last session come back when the event says so."""
    late = play_keeping.PlayKeeping._restore
    gate = asyncio.Event()

    async def slow(self) -> None:
        await gate.wait()
        await late(self)

    monkeypatch.setattr(play_keeping.PlayKeeping, "_restore", slow)
    return gate


async def test_what_could_not_be_read_is_told_and_set_aside(make_app, own_home):
    path = branches_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not what it was")
    async with make_app().run_test(size=WIDE) as pilot:
        await restored(pilot)
        assert "could not be read" in shown(pilot.app, "#notice")
        assert path.with_suffix(".damaged").read_bytes() == b"not what it was"


async def test_two_apps_at_the_same_time_do_each_other_no_harm(make_app, client):
    first, second = make_app(), make_app(client=(other := ScriptedClient()))
    async with first.run_test(size=WIDE) as pilot:
        await restored(pilot)
        await a_text(pilot, client)
        async with second.run_test(size=WIDE) as pilot_too:
            await restored(pilot_too)
            await pilot_too.press("ctrl+a", "backspace")
            (await begin(pilot_too, other, "xy", "z")).finish()
            await settled(pilot_too)
            second.play.close_texts()
        await pilot.press("c")
        await write(pilot, client, "ij", prompt="abcdefgh")
        first.play.close_texts()
    kept, problem = load_kept()
    assert not problem
    assert [len(branch.part.trace) for branch in kept.branches] == [8]


WRITES_FOR_EVER = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from scripted_client import ScriptedClient
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.screens import play_keeping

play_keeping.SAVE_SECONDS = 0.1

async def main():
    client = ScriptedClient()
    app = MiniGPTApp(client=client)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("a", "b", "enter")
        while not client.streams:
            await asyncio.sleep(0.01)
        client.streams[0].start()
        for number in range(100_000):
            client.streams[0].write("word ")
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


@pytest.mark.posix
def test_a_process_that_is_killed_in_mid_stream_loses_a_moment_alone(own_home):
    command = [sys.executable, "-c", WRITES_FOR_EVER, str(Path(__file__).parent)]
    process = subprocess.Popen(command, env=os.environ | {"MINIGPT_HOME": str(own_home)}, cwd=Path(__file__).parents[2])
    try:
        sizes: list[int] = []
        end = time.monotonic() + 60
        while len(sizes) < 3 and time.monotonic() < end and process.poll() is None:
            kept = load_kept()[0].branches
            if kept and (not sizes or len(kept[0].part.trace) > sizes[-1]):
                sizes.append(len(kept[0].part.trace))
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(sizes) == 3, "the text was not kept while it was written"
    kept, problem = load_kept()
    assert not problem
    [branch] = kept.branches
    assert branch.facts.finish_reason == "lost"
    assert "".join(text for text, _ in branch.part.texts).startswith("abword word word")
    assert len(branch.part.trace) >= sizes[-1]


async def test_what_was_written_is_kept_however_the_app_ends(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await restored(pilot)
        await begin(pilot, client, "ab", "cd")
    kept, problem = load_kept()
    assert not problem
    [branch] = kept.branches
    assert branch.part.texts == (("ab", 0), ("cd", 1))
