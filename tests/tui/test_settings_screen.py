"""The screen of settings: all that can be decided is there, holds at once, and stands in config.toml at once."""

from __future__ import annotations

import asyncio

import pytest
from test_play_screen import NARROW, WIDE, settled, shown

from minigpt_tui.actions import by_id, use_keys
from minigpt_tui.config_edit import set_value
from minigpt_tui.config_file import config_path, load_config, options
from minigpt_tui.themes import DARK
from minigpt_tui.widgets.page_list import PageList

pytest_plugins = ("play_fixtures",)


@pytest.fixture(autouse=True)
def shipped_keys():
    yield
    use_keys({})


async def open_settings(pilot, page: str = "") -> PageList:
    await pilot.press("f9", *page)
    await settled(pilot)
    assert pilot.app.screen.NAME == "Settings"
    return pilot.app.screen.query_one(PageList)


async def choose(pilot, key: str) -> None:
    """Go to a line at once."""
    lines = pilot.app.screen.query_one(PageList)
    keys = [line.key for line in lines.rows if line.key]
    lines.action_move(keys.index(key) - keys.index(lines.selected))
    await pilot.pause()
    assert lines.selected == key


async def press_key(pilot, *keys: str) -> None:
    """Answer the question for a key."""
    await pilot.press(*keys)
    await settled(pilot)


@pytest.mark.parametrize("size", [NARROW, (60, 20)])
async def test_every_setting_is_there_with_what_it_means(make_app, size):
    async with make_app().run_test(size=size) as pilot:
        page = await open_settings(pilot)
        for key, option in options().items():
            assert page.selected == key
            assert option.title in shown(pilot.app, "#page")
            about = " ".join(shown(pilot.app, "#about").replace("│", " ").split())
            assert " ".join(option.help[1:].split())[:40] in about
            await pilot.press("down")
        await pilot.press("home")
        assert page.scroll_offset.y == 0


async def test_an_arrow_changes_a_setting_and_the_file_has_it(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        page = await open_settings(pilot)
        await choose(pilot, "device")
        assert "‹ auto ›" in shown(pilot.app, "#page")
        await pilot.press("right")
        assert pilot.app.config.device == "cpu"
        assert page.chosen.changed
        assert "‹ cpu ›" in shown(pilot.app, "#page")
        assert "Said in config.toml. Ships with auto; one of auto, cpu" in shown(pilot.app, "#about")
        await pilot.app.written()
        assert load_config().config.device == "cpu"
        await pilot.press("left", "left", "space")  # round and back
        await pilot.press("backspace")
        await pilot.app.written()
        assert "device" not in load_config().said
        assert not page.chosen.changed


async def test_a_number_is_typed_and_its_range_is_told(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        await open_settings(pilot)
        await choose(pilot, "copy_limit")
        await pilot.press("9", *"000000000", "enter")
        assert "it must be from 0 to 2,147,483,648" in shown(pilot.app, "#ask")
        await pilot.press(*["backspace"] * 6, "enter")
        await settled(pilot)
        assert "9,000 bytes" in shown(pilot.app, "#page")
        await choose(pilot, "pace")
        await pilot.press("enter", *"12.5", "enter")
        await settled(pilot)
        assert "12.5 tok/s" in shown(pilot.app, "#page")
        await pilot.press("right")
        assert "20 tok/s" in shown(pilot.app, "#page")
        await choose(pilot, "model_folders")
        await pilot.press("enter", *"/a, /b", "enter")
        await settled(pilot)
        await pilot.app.written()
        config = load_config().config
        assert (config.copy_limit, config.pace, config.model_folders) == (9000, 20.0, ("/a", "/b"))


async def test_the_next_start_begins_with_what_was_decided_whatever_the_last_session_left(make_app):
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "full_stop", "n")
        await pilot.press("ctrl+q")
    for key, value in {"pace": 5.0, "new_tokens": -1, "bell": True, "model": "mine", "device": "cpu"}.items():
        set_value(key, value)
    app = make_app()
    assert (app.session.pace, app.session.params.max_new_tokens, app.session.bell) == (5.0, -1, True)
    assert (app.play.wanted_model, app.play.device) == ("mine", "cpu")
    app = make_app(model="other", device="auto")  # what the command line says comes first
    assert (app.play.wanted_model, app.play.device) == ("other", "auto")


async def test_the_bell_is_one_wherever_it_is_switched(make_app):
    set_value("bell", True)
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("f4", "b")
        await settled(pilot)
        await pilot.app.written()
        assert load_config().config.bell is False
        await open_settings(pilot)
        await choose(pilot, "bell")
        assert "‹ off ›" in shown(pilot.app, "#page")
        await pilot.press("right")
        assert pilot.app.session.bell


async def test_all_is_set_back_when_that_is_confirmed_and_comments_stay(make_app):
    config_path().parent.mkdir(parents=True)
    config_path().write_text("# mine\ndevice = 'cpu'\nmouse = false\n[keys]\nagain = 'ctrl+g'\n")
    async with make_app().run_test(size=WIDE) as pilot:
        await open_settings(pilot)
        await pilot.press("R", "n", "enter")
        assert pilot.app.config.device == "cpu"
        await pilot.press("backspace", "y", "enter")
        await settled(pilot)
        await pilot.app.written()
        assert pilot.app.config.device == "auto"
        assert config_path().read_text() == "# mine\n[keys]\nagain = 'ctrl+g'\n"
        await pilot.press("R")
        await pilot.pause()
        assert "all of it is as it ships" in shown(pilot.app, "#status")


async def test_a_key_is_given_by_pressing_it(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        page = await open_settings(pilot, "k")
        await choose(pilot, "again")
        await pilot.press("enter")
        await pilot.pause()
        assert "Press the key" in shown(pilot.app, "#key-question")
        await press_key(pilot, "ctrl+g")
        assert page.chosen.value == "^g"
        assert "again is ^g now" in shown(pilot.app, "#status")
        await press_key(pilot, "a", "f10")  # one more
        assert page.chosen.value == "^g F10"
        await pilot.app.written()
        assert load_config().config.keymap == {"again": "ctrl+g,f10"}
        await pilot.press("f2", "escape", "f10")
        await settled(pilot)
        assert len(client.streams) == 1
        await open_settings(pilot)
        await press_key(pilot, "enter", "escape")  # which leaves it
        assert page.chosen.value == "^g F10"
        await pilot.press("backspace")
        await pilot.app.written()
        assert page.chosen.value == "g"
        assert load_config().config.keymap == {}


async def test_a_key_that_is_taken_is_told_with_whose_it_is_and_they_may_change_places(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        page = await open_settings(pilot, "k")
        await choose(pilot, "again")
        await press_key(pilot, "enter", "c")
        assert "c is the key of 'continue'" in shown(pilot.app, "#ask")
        await press_key(pilot, "escape")
        assert page.chosen.value == "g"
        await press_key(pilot, "enter", "c")
        await press_key(pilot, "y", "enter")
        assert page.chosen.value == "c"
        assert by_id("continue").shown == "g"
        await pilot.app.written()
        assert load_config().config.keymap == {"again": "c", "continue": "g"}
        await pilot.press("backspace")  # alone it cannot go back
        await settled(pilot)
        assert "g is the key of 'continue'" in shown(pilot.app, "#notice")
        await pilot.press("escape", "R", "y", "enter")
        await settled(pilot)
        assert (by_id("again").shown, by_id("continue").shown) == ("g", "c")


async def test_a_key_that_acts_everywhere_is_taken_too_and_a_letter_cannot_be_one(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        await open_settings(pilot, "k")
        await choose(pilot, "again")
        await press_key(pilot, "enter", "f1")
        assert "F1 is the key of 'help' (Everywhere)" in shown(pilot.app, "#notice")  # help cannot have a letter
        await pilot.press("escape")
        await choose(pilot, "quit")
        await press_key(pilot, "enter", "q")
        assert "q types a character" in shown(pilot.app, "#notice")
        assert pilot.app.keymap == {}


async def test_lines_are_found_by_a_word(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        page = await open_settings(pilot, "k")
        await press_key(pilot, "slash", *"temperature", "enter")
        assert {line.key for line in page.rows if line.key} == {"lower_temperature", "raise_temperature"}
        await pilot.press("escape")
        assert len(page.rows) > 50


async def test_a_theme_is_shown_before_it_is_taken(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        page = await open_settings(pilot, "t")
        assert page.selected == DARK.name
        await choose(pilot, "dracula")
        await settled(pilot)
        assert pilot.app.theme == "dracula"
        await pilot.press("s")
        await settled(pilot)
        assert pilot.app.theme == DARK.name
        await pilot.press("t")
        await choose(pilot, "nord")
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("down", "f2")
        await settled(pilot)
        await pilot.app.written()
        assert pilot.app.theme == "nord"
        assert load_config().config.theme == "nord"


async def test_the_mouse_chooses_turns_and_opens(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        page = await open_settings(pilot)
        row = next(place for place, line in enumerate(page.rows) if line.key == "device")
        await pilot.click("#page", offset=(5, row + 1))
        assert page.selected == "device"
        await pilot.click("#page", offset=(34, row + 1))  # the sign after `auto`
        assert pilot.app.config.device == "cpu"
        row = next(place for place, line in enumerate(page.rows) if line.key == "model")
        await pilot.click("#page", offset=(5, row + 1), times=2)
        await settled(pilot)
        assert pilot.app.screen.has_class("-asking")


async def test_a_file_that_cannot_be_written_is_told_and_the_setting_holds(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        await open_settings(pilot)
        config_path().parent.mkdir(parents=True)
        config_path().write_text("broken = \n")
        await choose(pilot, "device")
        await pilot.press("right")
        await pilot.app.written()
        await asyncio.sleep(0.05)
        assert pilot.app.config.device == "cpu"
        assert "config.toml, line 1" in shown(pilot.app, "#status")
        assert config_path().read_text() == "broken = \n"


async def test_a_damaged_file_is_told_at_the_start(make_app):
    config_path().parent.mkdir(parents=True)
    config_path().write_text("theme = 'nord'\nmodel = \n")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.pause()
        told = " ".join(shown(pilot.app, "#notice").replace("│", " ").split())
        assert f"{config_path()}, line 2: invalid value" in told
        assert pilot.app.theme == DARK.name


async def test_what_was_changed_in_the_file_by_hand_is_heeded_when_the_screen_is_shown(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        await open_settings(pilot)
        await pilot.press("f2")
        set_value("model_folders", ("/mine",))
        set_value("theme", "nord")
        set_value("keys.again", "ctrl+g")
        page = await open_settings(pilot)
        await choose(pilot, "model_folders")
        assert page.chosen.value == "/mine"
        assert pilot.app.theme == "nord"
        assert by_id("again").shown == "^g"
