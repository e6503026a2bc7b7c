"""What a question at the bottom, a notice and the palette promise: keys that work where the reader is, and the words
that decide on the screen.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from scripted_client import ScriptedClient
from test_play_screen import NARROW, WIDE, begin, settled, shown

from engine import catalog
from engine.catalog import CheckpointInfo
from engine.errors import TokenizerError, WorkerError
from minigpt_tui.settings import session_file

pytest_plugins = ("play_fixtures",)


@pytest.mark.parametrize("hostile", ["x [/red] y", "[red]", "[/x]", "[@click=app.quit]go[/]", "tail\\", "a[b"])
async def test_a_models_name_and_facts_are_data_in_the_list_of_models(make_app, client, monkeypatch, hostile):
    infos = [
        CheckpointInfo(name=f"x[{hostile}", path="/m/1", family="nanochat", trained_on=hostile),
        CheckpointInfo(name=f"x[{hostile}2", path="/m/2", problem=hostile),
    ]
    monkeypatch.setattr(catalog, "list_checkpoints", lambda: infos)
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("escape", "l")
        await pilot.pause()
        for typed in ((), ("x",), ("backspace", "left_square_bracket")):
            await pilot.press(*typed)
            if typed:
                await asyncio.sleep(0.3)
            await settled(pilot)
            picture = "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())
            assert f"x[{hostile}2" in picture
            assert f"trained on {hostile}" in picture
            assert f"damaged: {hostile}" in picture


async def test_the_question_whether_to_overwrite_is_whole_at_80_columns(make_app, client, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "a-rather-long-name-for-a-poem.txt"
    (tmp_path / name).write_text("mine")
    async with make_app().run_test(size=NARROW) as pilot:
        await begin(pilot, client, "ab", "cd")
        pilot.app.play._save_name = name
        await pilot.press("w", "enter")
        await pilot.pause()
        asked = " ".join(shown(pilot.app, "#ask").split())
        assert "enter overwrites the file" in asked
        assert "is there already" in asked


async def test_the_warning_comes_back_with_the_name_that_it_is_about(make_app, client, tmp_path: Path):
    (tmp_path / "poem").write_text("mine")
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "ab", "cd")
        pilot.app.play._save_name = str(tmp_path / "poem")
        await pilot.press("w", "enter", "end", "x")
        await pilot.pause()
        assert "overwrites" not in shown(pilot.app, "#ask")
        await pilot.press("backspace")
        await pilot.pause()
        assert "enter overwrites the file" in shown(pilot.app, "#ask")


@pytest.mark.parametrize("leave", ["tab", "click"])
async def test_a_question_closes_when_the_focus_leaves_it(make_app, client, leave):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "ab", "cd")
        await pilot.press("w")
        await pilot.pause()
        assert pilot.app.screen.query_one("#ask").display
        assert not pilot.app.screen.query_one("#status").display
        await (pilot.press("tab") if leave == "tab" else pilot.click("#prompt"))
        await settled(pilot)
        assert not pilot.app.screen.query_one("#ask").display
        assert pilot.app.screen.query_one("#status").display
        assert pilot.app.focused.id in ("text", "prompt")
        assert pilot.app.focused.id == "prompt" or leave == "tab"


async def test_esc_closes_the_question_before_it_stops_the_text(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, "ab", "cd")
        await pilot.press("w")
        await pilot.pause()
        pilot.app.play.action_stop()
        await settled(pilot)
        assert not pilot.app.screen.query_one("#ask").display
        assert not stream.cancelled


async def test_the_keys_of_a_notice_act_at_once_where_the_prompt_is_empty(make_app):
    client = ScriptedClient(load_error=TokenizerError("it is damaged", "copy it again"))
    async with make_app(client=client).run_test(size=WIDE) as pilot:
        await settled(pilot)
        assert "l model" in shown(pilot.app, "#notice")
        await pilot.press("l")
        await settled(pilot)
        assert type(pilot.app.screen).__name__ == "CommandPalette"


async def test_a_notice_over_a_begun_prompt_takes_no_key_away_and_says_how_to_leave(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("h", "i")
        pilot.app.play.tell("Something", "It went wrong.", "l model")
        await settled(pilot)
        assert pilot.app.focused.id == "prompt"
        assert "⇧tab leaves the prompt · l model" in shown(pilot.app, "#notice")
        await pilot.press("shift+tab")
        await settled(pilot)
        assert "leaves the prompt" not in shown(pilot.app, "#notice")
        assert pilot.app.focused.id == "text"


async def test_an_engine_that_did_not_start_is_tried_again_by_a_key(make_app):
    class Broken(ScriptedClient):
        broken = True

        async def start(self) -> None:
            if self.broken:
                self.move("dead", "no torch")
                raise WorkerError("the engine did not start")
            await super().start()

    client = Broken()
    async with make_app(client=client).run_test(size=WIDE) as pilot:
        for _ in range(4):
            await settled(pilot)
        client.broken = False
        await pilot.press("g")
        await settled(pilot)
        assert client.loads
        assert pilot.app.play.model is not None
        assert not client.streams  # no text was asked for


async def test_again_writes_the_prompt_that_was_asked_for_though_the_engine_refused_it(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        (await begin(pilot, client, "old", "x")).finish()
        await settled(pilot)
        await pilot.press("a", "ctrl+j", "b", "enter")
        await settled(pilot)
        asked = client.streams[-1].prompt
        assert asked != "old"
        client.streams[-1].fail(TokenizerError("this cannot be read", "try another"))
        await settled(pilot)
        for key in ("g", "G"):
            await pilot.press(key)
            await settled(pilot)
            assert client.streams[-1].prompt == asked
        assert len(client.streams) == 4


async def test_a_turned_setting_is_on_disk_without_leaving(make_app, client, monkeypatch):
    monkeypatch.setattr("minigpt_tui.screens.play_writing.KEEP_SECONDS", 0.02)
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("tab", "T", "full_stop")
        await asyncio.sleep(0.2)
        await pilot.pause()
        kept = json.loads(session_file().read_text())
        assert kept["params"]["temperature"] == pytest.approx(0.85)
        assert kept["pace"] == 100


@pytest.mark.parametrize("size", [(50, 24), (80, 15)])
async def test_a_terminal_that_is_too_small_shows_that_sentence_alone(make_app, client, size):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "ab", "cd")
        await pilot.press("w")
        await pilot.resize_terminal(*size)
        await settled(pilot)
        parts = ("#top", "#middle", "#prompt", "#status", "#ask")
        assert not any(pilot.app.screen.query_one(part).display for part in parts)
        assert "needs 60 columns" in shown(pilot.app, "#too-small")
