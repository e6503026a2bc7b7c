"""The Batch screen under the keyboard, with an engine that says what each test wants."""

from __future__ import annotations

import asyncio
import csv
import json

import pytest
from scripted_client import ScriptedClient

from engine.errors import CheckpointError, TokenizerError, WorkerError
from minigpt_tui.batch import run
from minigpt_tui.screens.batch import BatchScreen

pytest_plugins = ("play_fixtures",)

WIDE, NARROW = (140, 40), (80, 24)


@pytest.fixture
def kept(monkeypatch) -> list:
    """What would go into the history."""
    entries = []
    monkeypatch.setattr(
        "minigpt_tui.app_wishes.WishingScreens.on_written", lambda self, event: entries.append(event.entry)
    )
    return entries


async def settled(pilot, seconds: float = 0.06) -> None:
    """Wait for a frame and its painting."""
    await asyncio.sleep(seconds)
    await pilot.pause()


async def opened(pilot, *prompts: str) -> BatchScreen:
    """Go to the screen, and have these prompts in its field."""
    await pilot.press("f8")
    await settled(pilot)
    screen = pilot.app.screen
    assert isinstance(screen, BatchScreen)
    screen._prompts.load_text("\n".join(prompts))
    return screen


def shown(screen, selector: str) -> str:
    """What a part of the screen shows, border included."""
    region = screen.query_one(selector).region
    lines = screen._compositor.render_strips()[region.y : region.bottom]
    return "\n".join(strip.crop(region.x, region.right).text for strip in lines)


async def test_all_prompts_are_written_on_from_at_once_and_each_is_kept(make_app, client, kept):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"ab", "enter", "enter", *"cd", "ctrl+g")
        await settled(pilot)
        assert [stream.prompt for stream in client.streams] == ["ab", "cd"]
        assert "shakespeare · 3.2M" in shown(screen, "#top")
        assert len({stream.params.seed for stream in client.streams}) == 1
        assert {stream.pace for stream in client.streams} == {0.0}
        assert screen.focused.id == "results"
        for stream, text in zip(client.streams, ("the [red]king", "the lord"), strict=True):
            stream.start()
            stream.write(text)
        client.streams[1].finish()
        await settled(pilot, 0.15)
        assert "1 of 2" in shown(screen, "#results")
        assert "tok/s in all" in shown(screen, "#status")
        assert [entry.text for entry in kept] == ["the lord"]
        client.streams[0].finish("stop")
        await settled(pilot, 0.15)
        first, second = shown(screen, "#results").splitlines()[1:3]
        assert "ab" in first
        assert "the [red]king" in first
        assert "ended by itself" in first
        assert "13" in first
        assert "60 tok/s" in second
        assert [(entry.source, entry.prompt, entry.text) for entry in kept] == [
            ("batch", "cd", "the lord"), ("batch", "ab", "the [red]king"),
        ]  # fmt: skip
        assert "2 of 2 written · 21 tokens" in shown(screen, "#status")
        assert "abthe [red]king" in shown(screen, "#whole")
        await pilot.press("down")
        await settled(pilot)
        assert "cdthe lord" in shown(screen, "#whole")
        assert "2 of 2" in shown(screen, "#whole")


async def test_so_many_are_sent_at_once_and_stop_keeps_what_is_there(make_app, client, kept, monkeypatch):
    monkeypatch.setattr(run, "AT_ONCE", 2)
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot, *"abcde")
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert [stream.prompt for stream in client.streams] == ["a", "b"]
        for stream in client.streams:
            stream.start()
        client.streams[0].write("one")
        client.streams[0].finish()
        await settled(pilot)
        assert [stream.prompt for stream in client.streams] == ["a", "b", "c"]
        client.streams[1].write("tw")
        await settled(pilot)
        await pilot.press("escape")
        await settled(pilot, 0.15)
        assert all(stream.cancelled for stream in client.streams[1:])
        assert len(client.streams) == 3
        assert [(entry.text, entry.finish_reason) for entry in kept] == [("one", "length"), ("tw", "cancelled")]
        assert "2 not begun" in shown(screen, "#status")
        assert shown(screen, "#results").count("not begun") == 2


async def test_what_is_being_written_when_the_app_leaves_is_handed_over_once(make_app, client, kept):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot, "a", "b", "c")
        await pilot.press("ctrl+g")
        await settled(pilot)
        for stream, text in zip(client.streams, ("one", "tw", ""), strict=True):
            stream.start()
            stream.write(text)
        client.streams[0].finish()
        await settled(pilot)
        assert [(entry.text, entry.finish_reason) for entry in screen.close_texts()] == [("tw", "cancelled")]
        await settled(pilot)
        assert [entry.text for entry in kept] == ["one"]


async def test_a_file_has_settings_for_each_line_and_a_wrong_line_is_named(make_app, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"prompt": "a", "temperature": 0, "seed": 5}\n{"prompt": "b\\nc", "max_new_tokens": 9}\n')
    bad.write_text('{"prompt": "a"}\n{"prompt": "b", "temprature": 1}\n')
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        await pilot.press("escape", "S", *"42", "enter")
        await pilot.press("f", "ctrl+u", *bad.name, "enter")
        await settled(pilot)
        said = shown(screen, "#ask")
        assert "line 2 of bad.jsonl" in said
        assert screen._ask.is_open
        await pilot.press("ctrl+u", *good.name, "enter")
        await settled(pilot)
        assert "2 · of good.jsonl" in shown(screen, "#prompts")
        await pilot.press("g")
        await settled(pilot)
        first, second = client.streams
        assert (first.prompt, first.params.temperature, first.params.seed) == ("a", 0, 5)
        assert (second.prompt, second.params.max_new_tokens, second.params.seed) == ("b\nc", 9, 42)


async def test_what_is_typed_wrong_or_not_at_all_is_said_in_words(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot, '{"prompt": "a"}', '{"prompt": "b", "top_p": 3}')
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert "Line 2 of the prompts: top_p is 3" in shown(screen, "#notice")
        screen._prompts.load_text("  \n")
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert "no prompt" in shown(screen, "#notice")
        assert client.streams == []
        await pilot.press("escape", "escape", *"N" * 12)
        await settled(pilot)
        assert "must come to an end" in shown(screen, "#status")


async def test_a_file_that_cannot_be_found_is_told_of_in_words(make_app, client, tmp_path):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot, "a")
        screen._table.focus()
        await pilot.press("f")
        for typed, said in (
            ("~nobody-of-this-name/x", "home directory"),
            (str(tmp_path), "is no file"),
            (f"{tmp_path}/none.txt", "none.txt cannot be read"),
        ):
            screen._ask.query_one("Input").value = typed
            await pilot.press("enter")
            await settled(pilot)
            assert said in " ".join(shown(screen, "#ask").split())
        assert screen._prompts.text == "a"


async def test_a_prompt_that_fails_lets_the_others_go_on_and_a_dead_engine_is_told_of(make_app, client, kept):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot, "a", "b", "c")
        await pilot.press("ctrl+g")
        await settled(pilot)
        first, second, third = client.streams
        first.fail(TokenizerError("it has no token for that", "leave it out"))
        second.start()
        second.write("the king")
        await settled(pilot, 0.15)
        assert "it has no token" in shown(screen, "#results")
        assert "not written" in shown(screen, "#results")
        assert not screen._notice.is_open
        second.fail(WorkerError("the engine's process was killed", "its log says more"))
        third.fail(WorkerError("the engine's process was killed", "its log says more"))
        await settled(pilot, 0.15)
        assert shown(screen, "#notice").count("killed") == 1
        assert "safe" in shown(screen, "#notice")
        assert [(entry.text, entry.finish_reason) for entry in kept] == [("the king", "lost")]


async def test_a_model_that_cannot_be_loaded_is_told_of(make_app, own_home):
    client = ScriptedClient(load_error=CheckpointError("it is damaged", "copy it again"))
    async with make_app(client=client).run_test(size=WIDE) as pilot:
        screen = await opened(pilot, "a")
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert "It is damaged: copy it again" in shown(screen, "#notice")
        assert client.streams == []


async def test_results_are_saved_as_lines_of_json_or_a_table_and_opened_in_play(
    make_app, client, tmp_path, monkeypatch
):
    shown_in_play = []

    async def note(self, event):
        shown_in_play.append(event.entry)

    monkeypatch.setattr("minigpt_tui.app_wishes.WishingScreens.on_open_entry", note)
    monkeypatch.chdir(tmp_path)
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot, "a", "b")
        await pilot.press("ctrl+g")
        await settled(pilot)
        for stream, text in zip(client.streams, ('say "no",\nking', "the lord"), strict=True):
            stream.start()
            stream.write(text)
            stream.finish()
        await settled(pilot, 0.15)
        await pilot.press("w", "enter")
        await settled(pilot)
        records = [json.loads(line) for line in (tmp_path / "batch.jsonl").read_text().splitlines()]
        assert [(record["prompt"], record["text"]) for record in records] == [
            ("a", 'say "no",\nking'), ("b", "the lord"),
        ]  # fmt: skip
        assert records[0]["seed"] == records[0]["params"]["seed"] == client.streams[0].params.seed
        assert records[0]["tokens"] == 14
        await pilot.press("w", "ctrl+u", *"it.csv", "enter")
        await settled(pilot)
        with (tmp_path / "it.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["text"] for row in rows] == ['say "no",\nking', "the lord"]
        assert rows[1]["temperature"] == "0.8"
        assert rows[1]["finish_reason"] == "length"
        copied = []
        monkeypatch.setattr(pilot.app, "copy_to_clipboard", copied.append)
        await pilot.press("down", "y", "o")
        await settled(pilot)
        assert copied == ["bthe lord"]
        assert [(entry.text, entry.source) for entry in shown_in_play] == [("the lord", "batch")]
        assert screen.results[1].prompt == "b"


async def test_it_fits_the_terminal(make_app, client):
    async with make_app().run_test(size=(60, 20)) as pilot:
        screen = await opened(pilot, *"abcdefgh")
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert screen._table.size.height >= 3
        assert screen._whole.size.height >= 3
        assert "waiting" in shown(screen, "#results")
        await pilot.press("tab")
        assert screen.focused.id == "whole"
        await pilot.press("tab", "escape")
        await settled(pilot)
        await pilot.resize_terminal(140, 40)
        await settled(pilot)
        assert screen._whole.region.y == screen._prompts.region.y  # beside them
        await pilot.resize_terminal(60, 19)
        await settled(pilot)
        assert "20 rows" in shown(screen, "#small-terminal")
