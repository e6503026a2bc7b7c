"""The Compare screen under the keyboard, with an engine that says what each test wants."""

from __future__ import annotations

import asyncio
import json

import pytest
from run_maker import RunMaker
from scripted_client import ScriptedClient

from engine.errors import CheckpointError, WorkerError
from minigpt_tui.comparing.words import NOISE, NOISE_SHORT
from minigpt_tui.connecting.server_place import ServerPlace
from minigpt_tui.screens.compare import CompareScreen
from minigpt_tui.wishes import CompareModels

pytest_plugins = ("play_fixtures",)

WIDE, NARROW = (140, 40), (80, 24)


class ModelsClient(ScriptedClient):
    """Notes which model each text was asked of, and lacks those that are called damaged."""

    def generate(self, prompt="", *, model="", **asked):
        stream = super().generate(prompt, **asked)
        stream.model = model
        return stream

    async def load(self, model="", device="auto", precision="auto"):
        if "damaged" in model:
            self.loads.append(model)
            raise CheckpointError("model.safetensors is not what was written", "copy or train it again")
        return await super().load(model, device, precision)


@pytest.fixture
def client() -> ModelsClient:
    return ModelsClient()


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


async def turned(pilot) -> None:
    """Wait until what was turned is written anew."""
    await settled(pilot, 0.5)


async def opened(pilot) -> CompareScreen:
    await pilot.press("f3")
    await settled(pilot)
    screen = pilot.app.screen
    assert isinstance(screen, CompareScreen)
    return screen


async def sent(pilot, prompt: str = "ab") -> CompareScreen:
    screen = await opened(pilot)
    await pilot.press(*prompt, "enter")
    await settled(pilot)
    return screen


async def written(pilot, client, *texts: str, prompt: str = "ab", finish: bool = True) -> CompareScreen:
    """Have each column write a text."""
    screen = await sent(pilot, prompt)
    for stream, text in zip(client.streams[-len(texts) :], texts, strict=True):
        stream.start(seed=stream.params.seed)
        stream.write(text)
        if finish:
            stream.finish()
    await settled(pilot)
    return screen


def shown(screen, selector: str) -> str:
    """What a part of the screen shows, border included."""
    region = screen.query_one(selector).region
    lines = screen._compositor.render_strips()[region.y : region.bottom]
    return "\n".join(strip.crop(region.x, region.right).text for strip in lines)


def whole_screen(screen) -> str:
    return "\n".join(strip.text for strip in screen._compositor.render_strips())


def marked(screen, place: int) -> str:
    """The characters of a column that are marked as a parting."""
    pane = screen._panes[place]
    colour = pane.get_component_rich_style("compare-column--parting", partial=True).bgcolor
    return "".join(
        segment.text
        for row in range(pane.size.height)
        for segment in pane.render_line(row)
        if segment.style and segment.style.bgcolor == colour
    )


def standing_back(screen, place: int) -> str:
    """The characters of a column that are shown as the same."""
    pane = screen._panes[place]
    colour = pane.get_component_rich_style("compare-column--same", partial=True).color
    return "".join(
        segment.text
        for row in range(pane.size.height)
        for segment in pane.render_line(row)
        if segment.style and segment.style.color == colour
    ).strip()


async def test_one_prompt_and_one_seed_are_written_in_all_columns_at_once(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await sent(pilot, "ab")
        first, second = client.streams
        assert (first.prompt, second.prompt) == ("ab", "ab")
        assert first.params.seed == second.params.seed == screen.asked_seed
        assert first.params.temperature != second.params.temperature
        assert first.params.replace(temperature=1.0) == second.params.replace(temperature=1.0)
        assert screen.focused.id == "column-0"
        for stream, text in ((first, "cold"), (second, "warm")):
            stream.start()
            stream.write(text)
        await settled(pilot)
        assert "cold" in shown(screen, "#column-0")
        assert "warm" in shown(screen, "#column-1")
        assert "streaming" in shown(screen, "#status")


async def test_where_they_part_the_character_is_marked_and_what_is_the_same_stands_back(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "the king is dead", "the lord is dead")
        assert marked(screen, 1) == "l"
        assert marked(screen, 0) == "k"
        assert standing_back(screen, 1) == "the  is dead"
        assert "2 parts from 1 at token 5" in shown(screen, "#note")


async def test_marks_are_right_whichever_column_is_ahead_and_columns_that_never_part_say_so(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await sent(pilot)
        first, second = client.streams
        second.start()
        second.write("the lord of all")
        await settled(pilot)
        assert marked(screen, 1) == ""
        first.start()
        first.write("the king")
        await settled(pilot)
        assert marked(screen, 1) == "l"
        first.write(" of none")
        await settled(pilot)
        assert standing_back(screen, 1) == "the  of"
        await pilot.press("G")
        await settled(pilot)
        for stream in client.streams[2:]:
            stream.start()
            stream.write("the king")
            stream.finish()
        await settled(pilot)
        assert marked(screen, 1) == ""
        assert standing_back(screen, 1) == "the king"
        assert "2 is the same as 1" in shown(screen, "#note")


async def test_models_are_compared_by_character_and_by_their_loss_on_the_first_text(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        pilot.app.post_message(CompareModels(("one", "two")))
        await settled(pilot)
        screen = await written(pilot, client, "the king", "the lord")
        assert [column.info.name for column in screen.columns] == ["one", "two"]
        assert "2 parts from 1 at character 5" in shown(screen, "#note")  # they may have other tokenizers
        await pilot.press("u")
        await settled(pilot)
        assert client.scored == ["abthe king"] * 2
        assert f"on 1: {screen.columns[1].scored:.2f}" in shown(screen, "#column-1")


async def test_figures_are_in_the_lower_borders_and_that_noise_is_keyed_by_position_is_said_once(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "to be or to be", "a b c d e f g")
        border = shown(screen, "#column-0").splitlines()[-1]
        assert "loss 1.00" in border
        assert "60 tok/s" in border
        assert "distinct 0.60 0.75 1.00" in border
        assert "distinct 1.00 1.00 1.00" in shown(screen, "#column-1").splitlines()[-1]
        assert "distinct words" in shown(screen, "#status")
        assert whole_screen(screen).count(NOISE) == 1
        await pilot.resize_terminal(60, 24)
        await settled(pilot)
        assert shown(screen, "#note").count(NOISE_SHORT) == 1


async def test_of_the_noise_of_a_server_nothing_is_promised(make_app, client):
    client.place = ServerPlace("localhost:1")
    async with make_app().run_test(size=WIDE) as pilot:
        await opened(pilot)
        assert "noise" not in whole_screen(pilot.app.screen)
        screen = await written(pilot, client, "the king", "the lord")
        assert "noise" not in whole_screen(screen)
        assert shown(screen, "#note").strip().startswith("2 parts from 1 at")


async def test_a_turned_setting_has_its_column_alone_written_anew_with_the_same_seed(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "the king", "the lord")
        before = client.streams[1].params
        await pilot.press("right", "T", "T")
        assert len(client.streams) == 2  # not before they rest
        await turned(pilot)
        assert len(client.streams) == 3
        assert client.streams[2].params == before.replace(temperature=before.temperature + 0.1)
        assert "temp 1.30" in shown(screen, "#column-1").splitlines()[0]
        client.streams[2].start()
        client.streams[2].write("the land")
        await settled(pilot)
        assert marked(screen, 1) == "l"
        assert marked(screen, 0) == "k"
        await pilot.press("S", *"9" * 20, "enter")  # out of range: refused in words
        await settled(pilot)
        assert screen._ask.is_open
        await pilot.press("ctrl+u", *"42", "enter")
        await turned(pilot)
        assert [stream.params.seed for stream in client.streams[3:]] == [42, 42]
        assert "seed 42" in shown(screen, "#prompt")


async def test_again_draws_a_new_seed_for_all_same_again_keeps_it_and_what_they_replace_is_kept(make_app, client, kept):
    async with make_app().run_test(size=WIDE) as pilot:
        await written(pilot, client, "the king", "the lord", finish=False)
        await pilot.press("g")
        await settled(pilot)
        seeds = [stream.params.seed for stream in client.streams]
        assert seeds[2] == seeds[3] != seeds[0]
        assert client.streams[0].closed
        assert [entry.text for entry in kept] == ["the king", "the lord"]
        await pilot.press("G")
        await settled(pilot)
        assert client.streams[5].params.seed == client.streams[4].params.seed == seeds[2]
        assert len(kept) == 2  # those that had not begun left nothing


async def test_esc_stops_all_columns_and_what_was_written_stays_and_is_kept(make_app, client, kept):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "the king", "the lord", finish=False)
        await pilot.press("escape")
        await settled(pilot)
        assert all(stream.cancelled for stream in client.streams)
        assert [column.text for column in screen.columns] == ["the king", "the lord"]
        assert [(entry.source, entry.text, entry.finish_reason) for entry in kept] == [
            ("compare", "the king", "cancelled"),
            ("compare", "the lord", "cancelled"),
        ]
        assert [entry.params.temperature for entry in kept] == [c.params.temperature for c in screen.columns]
        assert {(entry.prompt, entry.sha256) for entry in kept} == {("ab", "5ha")}
        assert "stopped" in shown(screen, "#status")


async def test_what_is_being_written_when_the_app_leaves_is_handed_over_once(make_app, client, kept):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "the king", "the lord", finish=False)
        assert [(entry.text, entry.finish_reason) for entry in screen.close_texts()] == [
            ("the king", "cancelled"),
            ("the lord", "cancelled"),
        ]
        assert screen.close_texts() == []
        await settled(pilot)
        assert kept == []


async def test_a_model_that_fails_is_said_in_its_column_and_the_other_goes_on(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        pilot.app.post_message(CompareModels(("good", "damaged")))
        await settled(pilot)
        screen = await sent(pilot)
        assert [stream.model for stream in client.streams] == ["good"]
        client.streams[0].start()
        client.streams[0].write("the king")
        client.streams[0].finish()
        await settled(pilot)
        assert "the king" in shown(screen, "#column-0")
        assert "not what was written" in shown(screen, "#column-1").replace("\n", " ")
        assert not screen._notice.is_open


async def test_a_model_that_is_loaded_is_said_texts_begin_together_and_esc_takes_them_back(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        client.load_gate = asyncio.Event()
        await pilot.press("a", "b", "enter")
        await settled(pilot)
        assert "loading shakespeare" in shown(screen, "#column-0")
        assert "loading shakespeare" in shown(screen, "#status")
        assert client.streams == []
        await pilot.press("escape")
        client.load_gate.set()
        await settled(pilot)
        assert client.streams == []
        assert "ready" in shown(screen, "#status")
        client.load_gate = asyncio.Event()
        await pilot.press("g")
        await settled(pilot)
        client.load_gate.set()
        await settled(pilot)
        assert len(client.streams) == 2


async def test_a_dead_engine_is_told_of_once_and_the_texts_stay(make_app, client, kept):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "the king", "the lord", finish=False)
        for stream in client.streams:
            stream.fail(WorkerError("the engine's process was killed", "its log says more"))
        await settled(pilot)
        assert "killed" in shown(screen, "#notice")
        assert "safe" in shown(screen, "#notice")
        assert [column.text for column in screen.columns] == ["the king", "the lord"]
        assert {entry.finish_reason for entry in kept} == {"lost"}
        await pilot.press("G")
        await settled(pilot)
        assert len(client.streams) == 4
        assert not screen._notice.is_open


async def test_columns_come_and_go_between_two_and_four(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "the king", "the lord")
        await pilot.press("-")
        await settled(pilot)
        assert len(screen.columns) == 2
        await pilot.press("+", "+", "+")
        await settled(pilot)
        assert len(screen.columns) == 4
        assert len({column.params.temperature for column in screen.columns}) == 4
        assert [stream.params.seed for stream in client.streams] == [screen.asked_seed] * 4  # the new ones are written
        assert screen.focused.id == "column-3"
        await pilot.press("-")
        await settled(pilot)
        assert len(screen.columns) == 3
        assert client.streams[3].closed


async def test_without_its_first_column_the_others_are_compared_anew(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "the king", "the lord")
        await pilot.press("right", "+")
        await settled(pilot)
        client.streams[2].start()
        client.streams[2].write("the land")
        await settled(pilot)
        assert marked(screen, 2) == "l"
        await pilot.press("left", "left", "-")
        await settled(pilot)
        assert [column.text for column in screen.columns] == ["the lord", "the land"]
        assert marked(screen, 1) == "a"
        assert marked(screen, 0) == "o"


async def test_the_checkpoints_of_a_run_show_how_it_learned_and_can_be_walked_through(make_app, client):
    RunMaker()("demo", step=60, steps=60)  # a checkpoint every ten steps
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "x", "y")
        await pilot.press("]")
        await settled(pilot, 0.2)
        assert "no checkpoint of a run" in shown(screen, "#status")
        await pilot.press("c")
        await settled(pilot, 0.2)
        await pilot.press(*"demo")
        await settled(pilot, 0.3)
        await pilot.press("enter")
        await settled(pilot, 0.3)
        steps = ["demo:step-10", "demo:step-30", "demo:step-40", "demo:step-60"]
        assert [column.model for column in screen.columns] == steps
        assert [stream.model for stream in client.streams[2:]] == steps
        assert "demo:step-30" in shown(screen, "#column-1").splitlines()[0]
        await pilot.press("right", "[")
        await settled(pilot, 0.2)
        assert screen.columns[1].model == client.streams[-1].model == "demo:step-20"
        await pilot.press("[", "[")
        await settled(pilot, 0.2)
        assert screen.columns[1].model == "demo:step-10"
        assert "first of its run" in shown(screen, "#status")


async def test_a_sweep_is_a_grid_with_a_cell_for_each_setting(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "x", "y")
        await pilot.press("e", "ctrl+u", *"temperature 0 1 x top-p 2", "enter")
        await settled(pilot)
        assert "has 1 value" in shown(screen, "#ask") or "top_p" in shown(screen, "#ask")
        await pilot.press("backspace", *"0.5 1", "enter")
        await settled(pilot, 0.2)
        cells = client.streams[2:]
        assert [(cell.params.temperature, cell.params.top_p) for cell in cells] == [(0, 0.5), (0, 1), (1, 0.5), (1, 1)]
        assert {cell.params.seed for cell in cells} == {screen.asked_seed}
        assert {cell.pace for cell in cells} == {0.0}
        for cell, text in zip(cells, ("the king", "the king", "the lord", "a lord"), strict=True):
            cell.start()
            cell.write(text)
            cell.finish()
        await settled(pilot, 0.3)
        panes = screen._panes
        assert panes[1].region.y == panes[0].region.y < panes[2].region.y
        assert "loss 1.00" in shown(screen, "#column-3")
        assert marked(screen, 2) == "l"
        await pilot.press("g")  # another seed, for the grid alone
        await settled(pilot)
        assert client.streams[-1].params.seed == screen.asked_seed != cells[0].params.seed
        await pilot.press("escape")  # stops them
        await settled(pilot)
        await pilot.press("down", "right", "enter")
        await settled(pilot)
        assert [pane.display for pane in panes] == [False, False, False, True]
        await pilot.press("escape")
        await settled(pilot)
        assert all(pane.display for pane in panes)
        await pilot.press("escape")
        await settled(pilot)
        assert [column.text for column in screen.columns] == ["x", "y"]
        assert f"seed {client.streams[0].params.seed}" in shown(screen, "#prompt")


async def test_the_cells_of_a_sweep_say_their_settings_in_the_smallest_terminal(make_app, client):
    async with make_app().run_test(size=(60, 20)) as pilot:
        screen = await written(pilot, client, "x", "y")
        await pilot.press("e", "ctrl+u", *"temperature 0.4 0.8 1.2 x top-p 0.5 0.9 1", "enter")
        await settled(pilot, 0.3)
        assert len(screen._panes) == 9
        for pane in screen._panes:
            title = pane.border_title
            assert len(title) <= pane.outer_size.width - 6, title
            assert "t " in title
            assert "p " in title


async def test_a_column_is_copied_saved_and_opened_in_play(make_app, client, tmp_path, monkeypatch):
    shown_in_play = []

    async def note(self, event):
        shown_in_play.append(event.entry)

    monkeypatch.setattr("minigpt_tui.app_wishes.WishingScreens.on_open_entry", note)
    monkeypatch.chdir(tmp_path)
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, "the king", "the `lord`")
        copied = []
        monkeypatch.setattr(pilot.app, "copy_to_clipboard", copied.append)
        await pilot.press("right", "y")
        await settled(pilot)
        assert copied == ["abthe `lord`"]
        await pilot.press("w", "enter")
        await settled(pilot)
        markdown = (tmp_path / "comparison.md").read_text()
        assert "## 2 temp 1.20" in markdown
        assert "the `lord`" in markdown
        assert "2 parts from 1 at token 5" in markdown
        await pilot.press("w", "ctrl+u", *"it.json", "enter")
        await settled(pilot)
        record = json.loads((tmp_path / "it.json").read_text())
        assert record["seed"] == screen.asked_seed
        assert [column["text"] for column in record["columns"]] == ["the king", "the `lord`"]
        assert record["columns"][1]["parts_at"] == 4
        assert record["columns"][1]["loss"] == 1.0
        await pilot.press("o")
        await settled(pilot)
        assert [(entry.text, entry.source) for entry in shown_in_play] == [("the `lord`", "compare")]


async def test_columns_scroll_together_when_asked(make_app, client):
    long = "\n".join(f"line {n}" for n in range(80))
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await written(pilot, client, long, long)
        one, two = screen._panes
        await pilot.press("home")
        await settled(pilot)
        assert (one.scroll_offset.y, two.scroll_offset.y) == (0, two.max_scroll_y)
        await pilot.press("j", "pagedown", "down")
        await settled(pilot)
        assert one.scroll_offset.y == two.scroll_offset.y > 0
        await pilot.press("end")
        await settled(pilot)
        assert two.following


async def test_it_fits_the_terminal(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await written(pilot, client, "the king", "the lord")
        await pilot.press("+", "+")
        await settled(pilot)
        assert [pane.display for pane in screen._panes] == [False, False, True, True]
        assert all(pane.outer_size.width == 40 for pane in screen._panes[2:])
        await pilot.press("left", "left")
        await settled(pilot)
        assert [pane.display for pane in screen._panes] == [True, True, False, False]
        assert "temp" in shown(screen, "#column-settings")
        await pilot.resize_terminal(*WIDE)
        await settled(pilot)
        assert all(pane.display and pane.outer_size.width == 35 for pane in screen._panes)
        await pilot.resize_terminal(60, 20)
        await settled(pilot)
        assert [pane.display for pane in screen._panes] == [False, True, False, False]
        assert screen._panes[1].size.height >= 8
        await pilot.resize_terminal(59, 20)
        await settled(pilot)
        assert "60 columns" in shown(screen, "#small-terminal")
        assert not screen.query_one("#columns").display


async def test_tab_goes_through_the_columns_and_until_something_is_asked_the_model_of_play_writes(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        assert screen.focused.id == "prompt"
        seen = []
        for _ in range(3):
            await pilot.press("tab")
            seen.append(screen.focused.id)
        assert seen == ["column-0", "column-1", "prompt"]
        await pilot.press("escape")
        assert screen.focused.id == "column-1"
        await pilot.press("1")
        await settled(pilot)
        await pilot.app.run_action("app.use_model('other')")
        await settled(pilot)
        await pilot.press("f3")
        await settled(pilot)
        assert {column.model for column in screen.columns} == {"other"}
