"""Keys of one's own: they act, they are shown, and what cannot be had is told and changes nothing."""

from __future__ import annotations

import pytest
from test_play_screen import NARROW, WIDE, begin, settled, shown

from minigpt_tui.actions import Where, all_actions, by_id, hint, shipped, use_keys
from minigpt_tui.config_file import config_path
from minigpt_tui.keymap import _TOGETHER, clashes, resolve, shown_keys
from minigpt_tui.palette import ActionProvider
from minigpt_tui.screens.prompt_list import PromptList

pytest_plugins = ("play_fixtures",)


@pytest.fixture(autouse=True)
def shipped_keys():
    yield
    use_keys({})


@pytest.fixture
def keys(own_home):
    def write(**keys: str) -> None:
        config_path().parent.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(f"{action} = '{value}'" for action, value in keys.items())
        config_path().write_text(f"[keys]\n{lines}\n")

    return write


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("g", "g"), ("G", "G"), ("?", "question_mark"), (">", "greater_than_sign"), ("+", "plus"), (",", "comma"),
        ("F5", "f5"), ("Ctrl+G", "ctrl+g"), ("shift+ctrl+home", "ctrl+shift+home"), ("esc", "escape"),
        ("alt++", "alt+plus"), ("pgup, pgdn", "pageup,pagedown"), ("space", "space"), ("full_stop", "full_stop"),
        ("ö", "ö"), ("b,b", "b"),
    ],
)  # fmt: skip
def test_keys_are_read_as_people_write_them(text, keys):
    from minigpt_tui.keymap import readable_keys

    assert readable_keys(by_id("again"), text) == keys


@pytest.mark.parametrize(
    ("action", "text", "says"),
    [
        ("again", "y2", "'y2' is no key"),
        ("again", "escap", "did you mean escape?"),
        ("again", "strg+g", "'strg' is none of ctrl, shift, alt, super"),
        ("again", "shift+g", "write the character that it makes, such as G"),
        ("again", "ctrl+i", "cannot be told from tab"),
        ("again", "ctrl+m", "cannot be told from enter"),
        ("again", " , , ", "no key is given"),
        ("quit", "q", "types a character"),
        ("generate", "!", "types a character"),
        ("agian", "g", "there is no action 'agian': did you mean again?"),
        ("zzzzz", "g", "`minigpt-tui config keys` lists them"),
    ],
)
def test_a_key_that_cannot_be_had_is_told_and_the_shipped_one_stays(action, text, says):
    resolved = resolve({action: text})
    assert resolved.keymap == {}
    assert says in resolved.problems[0]
    assert resolved.problems[0].startswith(f"keys.{action}: ")


@pytest.mark.parametrize(
    ("wanted", "keymap", "other"),
    [
        ({"again": "c"}, {}, "'continue'"),  # the same place
        ({"again": "f1"}, {}, "'help'"),  # everywhere
        ({"quit": "escape"}, {}, "esc is the key of"),  # everything else
        ({"again": "up"}, {}, "↑ is the key of"),  # what has the focus would take it
        ({"again": "ctrl+b", "copy": "ctrl+b"}, {"again": "ctrl+b"}, "'again'"),  # both want it
        ({"again": "c", "copy": "g"}, {}, "'continue'"),  # so nor can copy have what again did not give away
    ],
)
def test_of_two_actions_with_one_key_the_shipped_one_keeps_it(wanted, keymap, other):
    resolved = resolve(wanted)
    assert resolved.keymap == keymap
    assert any(other in problem for problem in resolved.problems)


def test_actions_can_change_places():
    assert resolve({"again": "G", "again_same": "g"}).problems == ()
    assert resolve({"again": "c", "continue": "g"}).keymap == {"again": "c", "continue": "g"}


def test_a_key_may_be_used_where_the_other_does_not_act():
    assert resolve({"run_start": "y"}).problems != ()  # `play it` has it there
    assert resolve({"run_start": "ctrl+g", "again": "ctrl+g"}).problems == ()


def test_nothing_is_in_the_way_of_the_shipped_keys():
    assert [clash.words for action in shipped() for clash in clashes(action.id, {})] == []


def test_it_is_known_of_every_place_which_others_act_with_it():
    together = {place for screen, parts in _TOGETHER for place in (*screen, *parts)}
    assert together | {Where.EVERYWHERE} >= {action.where for action in shipped()}


@pytest.mark.parametrize("action", shipped(), ids=lambda action: action.id)
def test_every_action_can_have_another_key(action):
    if action.keys:
        assert resolve({action.id: "ctrl+alt+f9"}).keymap == {action.id: "alt+ctrl+f9"}


async def test_a_key_of_ones_own_acts_and_the_shipped_one_does_no_more(make_app, client, keys):
    keys(again="ctrl+g", show_train="ctrl+t,3", generate="ctrl+r", full_speed="ctrl+b")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("a", "enter", "b")
        assert pilot.app.play._prompt.text == "a\nb"  # enter sends no more, and is a line's end
        await pilot.press("ctrl+r")
        await settled(pilot)
        assert client.streams[-1].prompt == "a\nb"
        client.streams[-1].start()
        client.streams[-1].finish()
        await settled(pilot)
        count = len(client.streams)
        await pilot.press("g")
        await settled(pilot)
        assert len(client.streams) == count
        await pilot.press("ctrl+g")
        await settled(pilot)
        assert len(client.streams) == count + 1
        assert not pilot.app.session.full_speed
        await pilot.press("ctrl+b")
        assert pilot.app.session.full_speed
        await pilot.press("f4")
        assert pilot.app.screen is pilot.app.play
        await pilot.press("ctrl+t")
        await pilot.pause()
        assert pilot.app.screen is pilot.app.train


async def test_a_letter_that_became_a_control_key_acts_in_the_prompt_too_and_letters_are_text_there(
    make_app, client, keys
):
    keys(full_speed="ctrl+p", palette="f11", show_train="ö", quit="ctrl+x")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("ctrl+p")
        assert pilot.app.session.full_speed
        await pilot.press("ö", "g", ">", "ctrl+q")
        assert pilot.app.play._prompt.text == "ög>"
        assert pilot.app.screen is pilot.app.play
        await pilot.press("f11")
        await settled(pilot)
        assert pilot.app.screen.query("CommandList")
        await pilot.press("escape", "escape", "ö")
        await settled(pilot)
        assert pilot.app.screen is pilot.app.train


async def test_borders_footer_help_and_palette_show_the_key_in_force(make_app, client, keys):
    keys(again="ctrl+g", help="f12", generate="ctrl+r", lower_temperature="ctrl+t", from_nothing="Z")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.pause()
        assert "^r generate" in shown(pilot.app, "#prompt")
        assert "F12 help" in shown(pilot.app, "#status")
        assert "press Z" in shown(pilot.app, "#text")
        assert "^t" in shown(pilot.app, "#sampling")
        await pilot.press("a", "ctrl+r")
        await settled(pilot)
        stream = client.streams[-1]
        stream.start()
        stream.write("text")
        stream.finish()
        await settled(pilot)
        assert "^g again" in shown(pilot.app, "#text")
        await pilot.press("f12")
        await pilot.pause()
        text = str(pilot.app.screen.query_one("Static").visual)
        assert any("^g" in line and "Write again from the same prompt, with" in line for line in text.splitlines())
        await pilot.press("escape", "ctrl+p")
        await pilot.pause()
        await pilot.press(*"again")
        await settled(pilot)
        options = pilot.app.screen.query_one("CommandList")
        shown_names = [str(options.get_option_at_index(index).hit.text) for index in range(options.option_count)]
        assert "Again  (^g)" in shown_names


async def test_what_is_empty_names_the_keys_in_force(make_app, keys):
    keys(generate="ctrl+r", prompts="ctrl+o", library_save="ctrl+b")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("f3")
        await settled(pilot)
        assert "^r writes all columns" in " ".join(shown(pilot.app, "#column-0").replace("│", " ").split())
        assert PromptList("").nothing_to_keep().endswith("then ^o and ^b keep it.")


async def test_conflicts_in_the_file_are_told_at_the_start(make_app, client, keys):
    keys(again="c", copu="y", save="shift+s")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.pause()
        told = " ".join(shown(pilot.app, "#notice").replace("│", " ").split())
        assert "Not all of config.toml counts" in told
        assert "keys.again: c is the key of 'continue'" in told
        assert "it keeps g" in told
        assert "did you mean copy?" in told
        await begin(pilot, client)
        client.streams[-1].finish()
        await settled(pilot)
        await pilot.press("g")
        await settled(pilot)
        assert len(client.streams) == 2


async def test_an_app_without_keys_of_its_own_shows_the_shipped_ones(make_app, keys):
    keys(again="ctrl+g")
    make_app()
    assert by_id("again").shown == "^g"
    config_path().unlink()
    async with make_app().run_test(size=NARROW):
        assert by_id("again").shown == "g"
        assert hint("again").count("g[/]") == 1


def test_what_a_key_looks_like():
    assert shown_keys("ctrl+q,f2,escape,question_mark,shift+tab,ctrl+home,alt+x,G,space") == (
        "^q F2 esc ? ⇧tab ctrl+home alt+x G space"
    )
    assert all(action.shown for action in all_actions() if action.keys)


async def test_the_palette_finds_what_is_done_on_another_screen_and_leads_there(make_app, client, keys):
    async with make_app().run_test(size=(120, 36)) as pilot:
        provider = ActionProvider(pilot.app.screen)
        hits = {hit.text: hit async for hit in provider.search("export")}
        assert [*hits] == ["Export  (e) on History"]
        here = {hit.text: hit.score async for hit in provider.search("attention")}
        assert [*here] == ["Attention  (A)"]  # on Play, which is shown
        await hits["Export  (e) on History"].command()
        await pilot.pause()
        assert pilot.app.current_mode == "history"
