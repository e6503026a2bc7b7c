"""The Play screen under the keyboard and the mouse, with an engine that says what each test wants."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from scripted_client import TEXT, ScriptedClient

from engine.config import ENDLESS, SamplingParams
from engine.errors import CheckpointError, TokenizerError
from minigpt_tui.actions import Where, all_actions
from minigpt_tui.settings import load_session, session_file
from minigpt_tui.text_document import Kind

pytest_plugins = ("play_fixtures",)

WIDE, NARROW = (120, 36), (80, 24)


async def settled(pilot) -> None:
    """Wait for a frame and its painting."""
    await asyncio.sleep(0.05)
    await pilot.pause()


async def begin(pilot, client: ScriptedClient, prompt: str = "ROMEO:", text: str = TEXT, left_out: str = ""):
    """Send a prompt and let the engine write some text."""
    for character in prompt:
        await pilot.press("enter" if character == "\n" else "space" if character == " " else character)
    await pilot.press("enter")
    await settled(pilot)
    stream = client.streams[-1]
    stream.start(left_out=left_out)
    stream.write(text)
    await settled(pilot)
    return stream


def marks(app) -> list[str]:
    document = app.play.writing.document
    pieces = [piece for row in range(document.row_count) for piece in document.pieces(row)]
    return "".join(piece.text for piece in pieces if piece.kind is Kind.MARK).replace("⟩", "⟩|").split("|")[:-1]


def shown(app, selector: str) -> str:
    """What a part of the screen shows, border included."""
    region = app.screen.query_one(selector).region
    lines = app.screen._compositor.render_strips()[region.y : region.bottom]
    return "\n".join(strip.crop(region.x, region.right).text for strip in lines)


async def test_enter_writes_from_the_prompt_and_goes_to_the_text(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        app = pilot.app
        assert stream.prompt == "ROMEO:"
        assert app.focused.id == "text"
        assert app.play.writing.document.text() == "ROMEO:" + TEXT
        assert "streaming" in shown(app, "#status")
        assert "thyself" in shown(app, "#text")
        assert "↵" in shown(app, "#next")
        stream.finish()
        await settled(pilot)
        assert "done" in shown(app, "#status")
        assert "seed 7" in shown(app, "#status")


async def test_esc_stops_and_what_was_written_stays(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        await pilot.press("escape")
        await settled(pilot)
        assert stream.cancelled
        assert pilot.app.play.writing.document.text() == "ROMEO:" + TEXT
        assert "stopped" in shown(pilot.app, "#status")


async def test_esc_takes_back_a_request_that_the_engine_has_not_begun(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press(*"abc", "enter")
        await settled(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert client.streams[-1].closed
        assert "ready" in shown(pilot.app, "#status")


async def test_continue_goes_on_from_the_very_tokens(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, "ab", "cd")
        stream.finish()
        await settled(pilot)
        await pilot.press("c")
        await settled(pilot)
        second = client.streams[-1]
        assert second.prompt_tokens == (0, 1, ord("c"), ord("d"))
        assert second.params.seed == 7
        second.start(text="abcd")
        second.write("ef")
        await settled(pilot)
        assert pilot.app.play.writing.document.text() == "abcdef"
        assert pilot.app.play.writing.tokens() == (0, 1, *map(ord, "cdef"))


async def test_continue_shows_the_stop_string_that_the_model_then_reads(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, "ab", "cd")
        stream.finish("stop")
        await settled(pilot)
        await pilot.press("c")
        await settled(pilot)
        client.streams[-1].start(text="abcdEND")
        client.streams[-1].write("f")
        await settled(pilot)
        assert pilot.app.play.writing.document.text() == "abcdENDf"


async def test_again_draws_a_new_seed_and_the_capital_keeps_it(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        (await begin(pilot, client)).finish()
        await settled(pilot)
        await pilot.press("g")
        await settled(pilot)
        assert (client.streams[-1].prompt, client.streams[-1].params.seed) == ("ROMEO:", None)
        client.streams[-1].start(seed=99)
        await settled(pilot)
        await pilot.press("G")
        await settled(pilot)
        assert (client.streams[-1].prompt, client.streams[-1].params.seed) == ("ROMEO:", 99)
        assert client.streams[-2].closed  # the text before was ended


async def test_z_writes_from_nothing_and_x_clears(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("tab", "z")  # from the prompt to the side panel, where letters act
        await settled(pilot)
        assert client.streams[-1].prompt == ""
        client.streams[-1].start()
        client.streams[-1].write("hello")
        await settled(pilot)
        await pilot.press("x")
        await settled(pilot)
        assert client.streams[-1].closed
        assert pilot.app.play.writing.document.length == 0
        assert "Nothing is written yet" in shown(pilot.app, "#text")


async def test_a_turned_setting_goes_out_while_text_streams_and_is_marked(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        await pilot.press("T")
        await settled(pilot)
        stream.write("x")
        await settled(pilot)
        assert stream.params.temperature == pytest.approx(0.85)
        assert marks(pilot.app) == ["⟨temperature 0.85⟩"]
        assert "0.85" in shown(pilot.app, "#sampling")
        assert pilot.app.play.writing.document.text() == "ROMEO:" + TEXT + "x"


async def test_quick_presses_at_one_place_make_one_mark(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client)
        await pilot.press("T", "T", "k", "T")
        await settled(pilot)
        assert marks(pilot.app) == ["⟨temperature 0.95 · top-k 200⟩"]
        await pilot.press("t", "t", "t", "K")
        await settled(pilot)
        assert marks(pilot.app) == []  # all as it was


async def test_every_setting_is_one_key_away(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("tab")
        for key, field, value in [
            ("t", "temperature", 0.75), ("T", "temperature", 0.85), ("k", "top_k", 200), ("p", "top_p", 0.99),
            ("M", "min_p", 0.01), ("R", "repetition_penalty", 1.05), ("r", "repetition_penalty", 0.95),
            ("n", "max_new_tokens", 300), ("N", "max_new_tokens", 1000), ("e", "max_new_tokens", ENDLESS),
        ]:  # fmt: skip
            await pilot.press(key)
            await pilot.pause()
            assert getattr(pilot.app.session.params, field) == pytest.approx(value), key
            await pilot.press("0")  # all as it was
            await pilot.pause()
            assert pilot.app.session.params == SamplingParams(), key


async def test_a_seed_and_stop_strings_are_typed_and_0_sets_all_back(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("tab", "S", "4", "2", "enter")
        await pilot.pause()
        await pilot.press("slash", "E", "N", "D", "enter")
        await pilot.pause()
        assert pilot.app.session.params == SamplingParams(seed=42, stop=("END",))
        await pilot.press("s")
        await pilot.pause()
        assert pilot.app.session.params.seed not in (None, 42)
        await pilot.press("0")
        await pilot.pause()
        assert pilot.app.session.params == SamplingParams()


async def test_a_typed_value_out_of_range_is_refused_in_words(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("tab")
        assert pilot.app.focused.id == "sampling"
        await pilot.press("9", "9", "enter")  # the first row is temperature
        await pilot.pause()
        assert "it must be from 0 to 10" in shown(pilot.app, "#ask")
        assert pilot.app.session.params.temperature == pytest.approx(0.8)
        await pilot.press("backspace", "backspace", "1", ".", "5", "enter")
        await pilot.pause()
        assert pilot.app.session.params.temperature == pytest.approx(1.5)
        assert pilot.app.focused.id == "sampling"


async def test_arrows_choose_a_row_and_turn_it(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("tab", "down", "down", "left")
        await pilot.pause()
        assert pilot.app.session.params.top_p == pytest.approx(0.99)
        await pilot.press("backspace")
        await pilot.pause()
        assert pilot.app.session.params == SamplingParams()


async def test_the_mouse_turns_settings_too(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        panel = pilot.app.screen.query_one("#sampling")
        end_of_bar = panel.size.width - 5
        await pilot.click("#sampling", offset=(end_of_bar + 1, 1))
        await pilot.pause()
        assert pilot.app.session.params.temperature == pytest.approx(2.0)
        await pilot.click("#sampling", offset=(panel.size.width - 2, 1))
        await pilot.pause()
        assert pilot.app.session.params.temperature == pytest.approx(1.95)


async def test_pace_has_keys_for_slower_faster_and_full_speed(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        assert stream.pace == 60
        await pilot.press("full_stop")
        assert stream.pace == 100
        await pilot.press("greater_than_sign")
        assert stream.pace == 0
        await pilot.press("greater_than_sign", "comma", "comma")
        assert stream.pace == 30
        await pilot.pause()
        assert "pace 30" in shown(pilot.app, "#status")


async def test_the_text_is_copied_without_its_marks(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        await pilot.press("T")
        stream.write("x")
        await settled(pilot)
        await pilot.press("y")
        await pilot.pause()
        assert pilot.app.clipboard == "ROMEO:" + TEXT + "x"
        assert "copied" in shown(pilot.app, "#status")


async def test_text_selected_by_the_mouse_is_what_ctrl_c_copies(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "RO", "MEO:\nspeak well")
        await pilot.mouse_down("#text", offset=(2, 2))
        await pilot.hover("#text", offset=(6, 2))
        await pilot.mouse_up("#text", offset=(6, 2))
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert pilot.app.clipboard == "speak"


async def test_ctrl_c_with_nothing_selected_quits_at_the_second_time(make_app, client):
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert "^c again quits" in shown(app, "#status")
        assert app.is_running
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert app._exit


async def test_saving_asks_before_it_overwrites(make_app, client, tmp_path: Path):
    target = tmp_path / "poem.txt"
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "ab", "cd")
        pilot.app.play._save_name = str(target)
        await pilot.press("w", "enter")
        await pilot.pause()
        assert target.read_text() == "abcd"
        target.write_text("mine")
        await pilot.press("w", "enter")
        await pilot.pause()
        assert "is there already" in shown(pilot.app, "#ask")
        assert target.read_text() == "mine"
        await pilot.press("enter")
        await pilot.pause()
        assert target.read_text() == "abcd"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["poem.txt"]  # noqa: ASYNC240


@pytest.mark.parametrize(("name", "words"), [("", "no name"), ("no/such/folder/x", "no folder"), (".", "is a folder")])
async def test_a_place_where_nothing_can_be_saved_is_said_in_words(make_app, client, name, words):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "ab", "cd")
        pilot.app.play._save_name = name
        await pilot.press("w", "enter")
        await pilot.pause()
        assert words in shown(pilot.app, "#ask")


async def test_up_and_down_recall_earlier_prompts_and_the_draft(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        for prompt in ("one", "two"):
            await begin(pilot, client, prompt, "x")
            await pilot.press("a")
            editor = pilot.app.screen.query_one("#prompt")
            editor.text = ""
        await pilot.press("n", "e", "w", "up")
        assert editor.text == "two"
        await pilot.press("up", "up")
        assert editor.text == "one"
        await pilot.press("down", "down")
        assert editor.text == "new"


async def test_ctrl_j_begins_a_new_line_and_the_editor_grows(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("a", "ctrl+j", "b")
        await pilot.pause()
        editor = pilot.app.screen.query_one("#prompt")
        assert editor.text == "a\nb"
        assert editor.size.height == 2
        await pilot.press("enter")
        await settled(pilot)
        assert client.streams[-1].prompt == "a\nb"


async def test_letters_typed_into_the_prompt_are_text(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        places = (Where.PLAY, Where.SETTINGS)
        letters = [action.keys for action in all_actions() if action.where in places and len(action.keys) == 1]
        await pilot.press(*letters)
        await pilot.pause()
        assert pilot.app.screen.query_one("#prompt").text == "".join(letters)
        assert pilot.app.session.params == SamplingParams()


async def test_a_huge_paste_is_one_prompt(make_app, client):
    from textual.events import Paste

    text = "all the world's a stage\n" * 20_000
    async with make_app().run_test(size=NARROW) as pilot:
        pilot.app.post_message(Paste(text))
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert client.streams[-1].prompt == text


async def test_characters_that_the_model_has_never_seen_are_named_at_the_prompt(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, "hé☃", left_out="é☃")
        assert "left out: é ☃ — this model has never seen them" in shown(pilot.app, "#prompt")
        stream.finish()
        await pilot.press("z")
        await settled(pilot)
        client.streams[-1].start()
        await settled(pilot)
        assert "left out" not in shown(pilot.app, "#prompt")


async def test_scrolling_up_stops_following_and_the_bottom_follows_again(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, "a", "line\n" * 100)
        pane = pilot.app.screen.query_one("#text")
        assert pane.scroll_offset.y == pane.max_scroll_y > 0
        await pilot.press("pageup")
        await pilot.pause()
        top = pane.scroll_offset.y
        stream.write("more\n" * 10)
        await settled(pilot)
        assert pane.scroll_offset.y == top < pane.max_scroll_y
        await pilot.press("end")
        stream.write("last\n" * 10)
        await settled(pilot)
        assert pane.scroll_offset.y == pane.max_scroll_y
        await pilot.press("home")
        await pilot.pause()
        assert pane.scroll_offset.y == 0


async def test_model_output_is_shown_as_data(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "a", "\x1b[31mred\x07 [red]not markup[/red] \x9b2J")
        assert "a␛[31mred␇ [red]not markup[/red] ␦2J" in shown(pilot.app, "#text")


async def test_a_dead_engine_is_told_in_words_and_another_is_started(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        from engine.errors import WorkerError

        stream.fail(WorkerError("the engine's process was killed"))
        client.move("dead", "the engine's process was killed")
        await settled(pilot)
        told = shown(pilot.app, "#notice")
        assert "was killed" in told
        assert "What is written is safe" in told
        assert "g again" in told
        assert pilot.app.play.writing.document.text() == "ROMEO:" + TEXT
        assert "Another engine is ready" in told
        assert client.starts == 2
        await pilot.press("c")
        await settled(pilot)
        assert client.streams[-1].prompt_tokens is not None
        assert not pilot.app.screen.query_one("#notice").display


async def test_an_engine_that_dies_again_and_again_is_not_started_forever(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        for _ in range(5):
            client.move("dead", "out of memory")
            await settled(pilot)
        assert client.starts <= 3
        assert "died too often" in shown(pilot.app, "#notice")
        await pilot.press("z")  # but it is when asked; the notice has left the empty prompt to the text
        await settled(pilot)
        assert client.state == "ready"


async def test_a_request_that_the_engine_refuses_is_told_with_its_hint(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("a", "enter")
        await settled(pilot)
        client.streams[-1].fail(TokenizerError("this cannot be read", "try another"))
        await settled(pilot)
        assert "This cannot be read: try another." in shown(pilot.app, "#notice")
        await pilot.press("escape")
        await pilot.pause()
        assert not pilot.app.screen.query_one("#notice").display


async def test_a_model_that_cannot_be_loaded_is_told_with_the_key_that_goes_on(make_app):
    client = ScriptedClient(load_error=CheckpointError("/m/model.safetensors is damaged", "copy it again"))
    async with make_app(client=client, model="broken").run_test(size=WIDE) as pilot:
        await settled(pilot)
        told = shown(pilot.app, "#notice")
        assert "broken cannot be loaded" in told
        assert "copy it again" in told
        assert "l model" in told


@pytest.mark.parametrize(
    ("until", "words"),
    [("starting", "starting the engine"), ("importing", "loading torch"), ("loading", "loading shakespeare")],
)
async def test_the_first_screen_says_what_is_going_on(make_app, until, words):
    class Waiting(ScriptedClient):
        async def load(self, *_: object, **__: object):
            await asyncio.Event().wait()

    async with make_app(client=Waiting(until), model="shakespeare").run_test(size=WIDE) as pilot:
        await settled(pilot)
        if until == "loading":
            pilot.app.engine.move("ready")
            await settled(pilot)
        assert words in shown(pilot.app, "#status")


async def test_help_names_the_keys_of_what_has_the_focus_first(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("f1")
        await pilot.pause()
        text = str(pilot.app.screen.query_one("Static").content)
        assert text.startswith("Prompt\n")
        for action in all_actions():
            if action.shown:
                assert action.title in text
        await pilot.press("escape")
        await pilot.pause()
        await pilot.press("tab", "question_mark")
        await pilot.pause()
        assert str(pilot.app.screen.query_one("Static").content).startswith("Sampling\n")


async def test_the_palette_runs_any_action(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("ctrl+p", *"from", "space", *"nothing")
        await asyncio.sleep(0.3)
        await pilot.press("enter")
        await settled(pilot)
        assert client.streams[-1].prompt == ""


async def test_a_model_is_chosen_from_a_list(make_app, client, own_home: Path):
    folder = own_home / "data" / "checkpoints" / "fables"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("tab", "l")
        await pilot.pause()
        await pilot.press(*"fab")
        await asyncio.sleep(0.3)
        await pilot.press("enter")
        await settled(pilot)
        assert client.loads[-1] == "fables"


async def test_tab_goes_round_text_prompt_and_sampling(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        seen = []
        for _ in range(3):
            seen.append(pilot.app.focused.id)
            await pilot.press("tab")
            await pilot.pause()
        assert seen == ["prompt", "sampling", "text"]
        assert pilot.app.focused.id == "prompt"
        await pilot.press("shift+tab")
        assert pilot.app.focused.id == "text"


async def test_a_narrow_terminal_has_chips_and_opens_panels_on_a_key(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        await begin(pilot, client)
        screen = pilot.app.screen
        assert not screen.query_one("#side").display
        assert "temp 0.80" in shown(pilot.app, "#chips")
        await pilot.press("u")
        await pilot.pause()
        assert "t T" in shown(pilot.app, "#sampling")
        await pilot.press("v", "d")
        await pilot.pause()
        assert "↵" in shown(pilot.app, "#next")
        assert not screen.query_one("#sampling").display
        await pilot.press("d")
        await pilot.pause()
        assert not screen.query_one("#side").display


async def test_resizing_half_way_changes_the_layout_and_keeps_the_text(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        for size, side in ((NARROW, False), ((60, 20), False), ((140, 40), True)):
            await pilot.resize_terminal(*size)
            stream.write("x")
            await settled(pilot)
            assert pilot.app.screen.query_one("#side").display is side
            assert "daughter" in shown(pilot.app, "#text")
        await pilot.resize_terminal(50, 15)
        await settled(pilot)
        assert "needs 60 columns and 20 rows" in shown(pilot.app, "#too-small")


async def test_the_next_start_finds_settings_pace_prompts_and_theme(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "once", "x")
        await pilot.press("T", "full_stop")
        pilot.app.theme = "minigpt-light"
        await pilot.pause()
        await pilot.press("ctrl+q")
    async with make_app().run_test(size=WIDE) as pilot:
        assert pilot.app.session.params.temperature == pytest.approx(0.85)
        assert pilot.app.session.pace == 100
        assert pilot.app.theme == "minigpt-light"
        await pilot.press("up")
        assert pilot.app.screen.query_one("#prompt").text == "once"


@pytest.mark.parametrize("content", ["", "{", '{"pace": "fast"}', '{"params": {"temperature": -1}}', "\0\0"])
def test_a_damaged_session_is_set_aside_and_the_app_starts_afresh(own_home, content):
    path = session_file()
    path.parent.mkdir(parents=True)
    path.write_text(content)
    session, problem = load_session()
    assert session.params == SamplingParams()
    assert str(path.with_suffix(".damaged")) in problem
    assert path.with_suffix(".damaged").read_text() == content
    assert not path.exists()


async def test_a_session_on_disk_is_whole_json_as_soon_as_a_prompt_was_sent(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "once", "x")
        await asyncio.sleep(0.1)
        assert json.loads(session_file().read_text())["prompts"] == ["once"]
