"""Presets and named prompts: the two files that they are kept in, and their lists on the Play screen."""

from __future__ import annotations

import asyncio
import re

import pytest
from run_maker import until
from scripted_client import TEXT
from test_play_screen import NARROW, WIDE, begin, marks, settled, shown

from engine.config import ENDLESS, SamplingParams
from engine.errors import InvalidSettingError
from minigpt_tui.library import presets, prompts
from minigpt_tui.library.named_tables import LibraryError
from minigpt_tui.screens.library_list import LibraryList
from minigpt_tui.screens.play import PlayScreen

pytest_plugins = ("play_fixtures",)

BY_HAND = """# my presets, by mood
[wild]  # for late hours
about = "All bets are off."
temperature = 2.0  # hot
top_k = 50

# the sober one
[sober]
temperature = 0.3
"""


def write(text: str, path=None):
    path = path or presets.presets_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names() -> list[str]:
    return [preset.name for preset in presets.read_presets()]


async def opened(pilot, key: str) -> LibraryList:
    """Open a list from the text, and wait until it is filled."""
    await pilot.press("escape")
    if pilot.app.focused is not None and pilot.app.focused.id == "prompt":
        await pilot.press("escape")
    await pilot.press(key)
    await until(lambda: isinstance(pilot.app.screen, LibraryList) and bool(pilot.app.screen._names.rows))
    await pilot.pause()
    return pilot.app.screen


async def choose(pilot, name: str) -> None:
    await pilot.press("home")
    while pilot.app.screen._names.selected != name:
        await pilot.press("down")


# The files


def test_the_shipped_presets_are_there_with_a_sentence_each_and_change_what_is_drawn(own_home):
    found = {preset.name: preset for preset in presets.read_presets()}
    assert list(found) == ["creative", "balanced", "conservative", "greedy"]
    assert all(preset.about.endswith(".") for preset in found.values())
    assert found["greedy"].applied(SamplingParams()).temperature == 0.0
    assert found["balanced"].applied(SamplingParams(top_k=5, temperature=2.0)) == SamplingParams()
    warmth = [found[name].applied(SamplingParams()).temperature for name in found]
    assert warmth == sorted(warmth, reverse=True)


def test_a_preset_leaves_the_seed_and_the_length_alone_unless_it_names_them(own_home):
    write("[long]\nmax_new_tokens = -1\n[fixed]\nseed = 4\ntop_k = 3\n")
    mine = SamplingParams(seed=9, max_new_tokens=40, top_p=0.5, stop=("x",))
    assert presets.find_preset("greedy").applied(mine) == SamplingParams(seed=9, max_new_tokens=40, temperature=0.0)
    assert presets.find_preset("long").applied(mine) == SamplingParams(seed=9, max_new_tokens=ENDLESS)
    assert presets.find_preset("fixed").applied(mine) == SamplingParams(seed=4, max_new_tokens=40, top_k=3)


def test_comments_and_order_outlive_every_change(own_home):
    path = write(BY_HAND)
    presets.save_preset("wild", {"temperature": 1.5, "top_k": 50, "stop": ("THE END", "\n\n")}, "New words.")
    presets.save_preset("my own.x", {"min_p": 0.1})
    assert path.read_text() == (
        '# my presets, by mood\n[wild]  # for late hours\nabout = "New words."\ntemperature = 1.5  # hot\ntop_k = 50\n'
        'stop = ["THE END", "\\n\\n"]\n\n# the sober one\n[sober]\ntemperature = 0.3\n\n["my own.x"]\nmin_p = 0.1\n'
    )
    assert presets.find_preset("wild").values["stop"] == ("THE END", "\n\n")
    presets.remove_preset("wild")
    text = path.read_text()
    assert "# my presets" in text
    assert "# the sober one\n[sober]\ntemperature = 0.3\n" in text
    assert names()[4:] == ["sober", "my own.x"]
    presets.remove_preset("my own.x")
    presets.remove_preset("sober")
    assert names() == ["creative", "balanced", "conservative", "greedy"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[a]\ntop_k = 3\n[b\n", "line 3"),
        ("[a]\ntop_k = \n", "line 2"),
        ("[a]\n[a]\n", "line 2"),
        ("[a]\nx='\xff", "2"),
    ],
)
def test_a_damaged_file_is_named_with_its_line_and_left_alone(own_home, text, line):
    path = write("")
    path.write_bytes(text.encode("latin-1"))
    for attempt in (
        presets.read_presets,
        lambda: presets.save_preset("new", {"top_k": 1}),
        lambda: presets.remove_preset("a"),
    ):
        with pytest.raises(LibraryError, match=re.escape(str(path))) as told:
            attempt()
        assert line in str(told.value)
    assert path.read_bytes() == text.encode("latin-1")


def test_an_unknown_key_is_named_with_the_nearest_known_one_and_the_other_presets_count(own_home):
    write("[a]\ntemprature = 1\n[b]\ntop_k = 3\n[c]\ntop_p = 7\n[d]\nabout = 3\n")
    found = {preset.name: preset for preset in presets.read_presets()}
    assert found["b"].applied(SamplingParams()).top_k == 3
    assert "did you mean temperature?" in found["a"].problem
    assert "at most 1" in found["c"].problem
    assert "text" in found["d"].problem
    with pytest.raises(LibraryError, match="did you mean temperature"):
        found["a"].applied(SamplingParams())


def test_a_shipped_preset_can_be_overridden_and_never_be_deleted(own_home):
    presets.save_preset("greedy", {"temperature": 0.1})
    assert names() == ["creative", "balanced", "conservative", "greedy"]
    assert presets.find_preset("greedy").applied(SamplingParams()).temperature == 0.1
    presets.remove_preset("greedy")
    assert presets.find_preset("greedy").applied(SamplingParams()).temperature == 0.0
    with pytest.raises(LibraryError, match="ships with"):
        presets.remove_preset("greedy")


@pytest.mark.posix
def test_a_file_that_is_a_link_stays_one(own_home, tmp_path):
    dotfiles = write(BY_HAND, tmp_path / "dotfiles.toml")
    presets.presets_file().parent.mkdir(parents=True)
    presets.presets_file().symlink_to(dotfiles)
    presets.save_preset("new", {"top_k": 1})
    assert presets.presets_file().is_symlink()
    assert "[new]" in dotfiles.read_text()


@pytest.mark.parametrize("name", ["", "  ", "a\nb", " a", "x" * 61])
def test_what_is_no_name_is_refused(own_home, name):
    with pytest.raises(LibraryError):
        presets.save_preset(name, {"top_k": 1})
    assert not presets.presets_file().exists()


@pytest.mark.parametrize(
    "text",
    [
        "ROMEO:\n",
        "\n\nx",
        "a \"\"\" \\ ''' b\n\n",
        "\x1b[3m\r\n\0\tx",
        "日本 ☃\né",
        "#x = 1\n[y]\n",
        '"\\n"',
        "\ud800\n",
    ],
)
@pytest.mark.parametrize("name", ["a b", "ü.x", "[red]"])
def test_a_prompt_comes_back_to_the_letter(own_home, name, text):
    prompts.save_prompt("other", "before\n")
    prompts.save_prompt(name, text)
    found = {prompt.name: prompt.text for prompt in prompts.read_prompts()}
    assert found[name] == text.replace("\ud800", "?")
    assert found["other"] == "before\n"
    prompts.remove_prompt("other")
    assert prompts.read_prompts()[0].text == text.replace("\ud800", "?")


def test_a_prompt_without_a_text_is_told_of_and_the_others_count(own_home):
    write('[a]\ntxt = "x"\n[b]\ntext = "B"\n[c]\ntext = 3\n', prompts.prompts_file())
    found = {prompt.name: prompt for prompt in prompts.read_prompts()}
    assert "did you mean text?" in found["a"].problem
    assert found["b"].text == "B"
    assert found["c"].problem
    assert {"romeo", "scene"} < found.keys()


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("temperature=1.2  top-k=5", {"temperature": 1.2, "top_k": 5}),
        (r"stop=THE END | \n\n max_new_tokens=endless", {"stop": ("THE END", "\n\n"), "max_new_tokens": ENDLESS}),
        ("top_k=off seed=7", {"top_k": 0, "seed": 7}),
        ("", {}),
    ],
)
def test_settings_are_read_from_a_line(line, values):
    assert presets.parse_line(line) == values


@pytest.mark.parametrize(
    ("line", "said"), [("temprature=1", "temperature"), ("hot", "KEY=VALUE"), ("top_p=9", "at most 1")]
)
def test_what_is_wrong_with_a_line_is_said(line, said):
    with pytest.raises(InvalidSettingError, match=said):
        presets.parse_line(line)


# The lists on the Play screen


async def test_o_and_enter_put_a_preset_into_force_and_mark_it_in_the_text(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        app.session.params = SamplingParams(seed=3, max_new_tokens=70, top_k=9)
        stream = await begin(pilot, client, text=TEXT[:30])
        await pilot.press("o")
        await until(lambda: isinstance(app.screen, LibraryList) and bool(app.screen._names.rows))
        await choose(pilot, "creative")
        assert "hang together" in " ".join(shown(app, "#shelf").split())
        await pilot.press("enter")
        await settled(pilot)
        assert app.screen is app.play
        assert app.session.params == SamplingParams(seed=3, max_new_tokens=70, temperature=1.2, min_p=0.05)
        assert stream.params.temperature == 1.2
        stream.write("more")
        await settled(pilot)
        assert marks(app) == ["⟨temperature 1.20 · top-k off · min-p 0.05⟩"]
        assert "Sampling · creative" in shown(app, "#sampling")
        await pilot.press("T")
        await settled(pilot)
        assert "creative" not in shown(app, "#sampling")


async def test_the_panels_border_says_the_key_and_names_the_users_own_preset(make_app, own_home):
    write(BY_HAND)
    app = make_app()
    app.session.params = SamplingParams(temperature=0.3, seed=5)
    async with app.run_test(size=WIDE):
        await until(lambda: "Sampling · sober" in shown(app, "#sampling"))
        assert "o presets · 0 reset" in shown(app, "#sampling")


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_the_present_settings_are_saved_under_a_name(make_app, size):
    async with make_app().run_test(size=size) as pilot:
        app = pilot.app
        await pilot.press("escape")
        app.play._change_params(SamplingParams(temperature=1.5, top_k=20, seed=8, stop=("\n\n",)))
        shelf = await opened(pilot, "o")
        await pilot.press("s", *"warm", "enter")
        await until(lambda: shelf._names.selected == "warm")
        await pilot.pause()
        assert "temperature 1.50 · top-k 20" in shown(app, "#shelf")
        assert presets.find_preset("warm").values == {"temperature": 1.5, "top_k": 20, "stop": ("\n\n",)}
        await pilot.press("s", *"warm", "enter")
        assert "replaces" in " ".join(shown(app, "#ask").split())
        await pilot.press("escape", "escape")
        await settled(pilot)
        assert app.play._sampling.border_title == "Sampling · warm"


async def test_a_preset_is_edited_renamed_and_deleted_after_a_yes(make_app, own_home):
    path = write(BY_HAND)
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        shelf = await opened(pilot, "o")
        await choose(pilot, "wild")
        await pilot.press("e")
        field = shelf._ask.query_one("Input")
        assert field.value == "temperature=2.00  top_k=50"
        field.value = "temperature=9 tpo_k=3"
        await pilot.press("enter")
        assert "did you mean top_k?" in " ".join(shown(app, "#ask").split())
        field.value = "temperature=1.9 min_p=0.2"
        await pilot.press("enter")
        await until(lambda: field.value == "All bets are off.")
        field.value = "Less wild."
        await pilot.press("enter")
        await until(lambda: presets.find_preset("wild").about == "Less wild.")
        assert presets.find_preset("wild").values == {"temperature": 1.9, "min_p": 0.2}
        assert "temperature = 1.9  # hot" in path.read_text()

        await until(lambda: shelf._names.has_focus)
        await pilot.press("r")
        field.value = "wilder"
        await pilot.press("enter")
        await until(lambda: shelf._names.selected == "wilder" and names()[4:] == ["sober", "wilder"])

        await pilot.press("D", *"no", "enter")
        assert "wilder" in names()
        await pilot.press(*["backspace"] * 2, "y", "enter")
        await until(lambda: names()[4:] == ["sober"])
        await until(lambda: shelf._names.selected == "sober")


async def test_a_shipped_preset_is_not_deleted_and_an_edited_one_is_ones_own(make_app, own_home):
    async with make_app().run_test(size=WIDE) as pilot:
        shelf = await opened(pilot, "o")
        await choose(pilot, "greedy")
        await pilot.press("D")
        await settled(pilot)
        assert "ships with minigpt-tui" in " ".join(shown(pilot.app, "#shelf").split())
        await pilot.press("e")
        shelf._ask.query_one("Input").value = "temperature=0.1"
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("enter")
        await until(lambda: presets.presets_file().exists() and presets.find_preset("greedy").is_own)
        assert presets.find_preset("greedy").applied(SamplingParams()).temperature == 0.1


async def test_a_damaged_file_is_told_of_in_the_list_and_what_ships_can_be_used(make_app, own_home):
    path = write("[a\n")
    async with make_app().run_test(size=WIDE) as pilot:
        await opened(pilot, "o")
        said = "".join(shown(pilot.app, "#shelf").replace("│", " ").split())
        assert "presets.toml" in said
        assert "line1" in said
        await choose(pilot, "greedy")
        await pilot.press("s", "x", "enter")
        await settled(pilot)
        assert path.read_text() == "[a\n"
        await pilot.press("enter")
        await settled(pilot)
        assert pilot.app.session.params.temperature == 0.0


async def test_a_preset_with_a_mistake_says_it_and_stays_out_of_force(make_app, own_home):
    write("[odd]\ntemprature = 1\n")
    async with make_app().run_test(size=WIDE) as pilot:
        await opened(pilot, "o")
        await choose(pilot, "odd")
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, LibraryList)
        assert "did you mean temperature?" in " ".join(shown(pilot.app, "#shelf").split())
        assert pilot.app.session.params == SamplingParams()


async def test_a_named_prompt_goes_into_the_editor_and_ctrl_z_brings_back_what_stood_there(make_app, own_home):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await pilot.press(*"Once", "escape")
        shelf = await opened(pilot, "O")
        await pilot.press("s", *"tale", "enter")
        await until(lambda: shelf._names.selected == "tale")
        assert prompts.read_prompts()[0].text == "Once"
        await choose(pilot, "romeo")
        await pilot.press("enter")
        await settled(pilot)
        assert app.play._prompt.text == "ROMEO:\n"
        assert app.focused.id == "prompt"
        await pilot.press("x", "ctrl+z", "ctrl+z")
        assert app.play._prompt.text == "Once"


async def test_an_empty_prompt_is_not_saved_and_the_reason_said(make_app, own_home):
    async with make_app().run_test(size=WIDE) as pilot:
        await opened(pilot, "O")
        await pilot.press("s")
        await settled(pilot)
        assert "no prompt to keep" in " ".join(shown(pilot.app, "#shelf").split())
        assert not prompts.prompts_file().exists()


@pytest.mark.parametrize(
    ("typed", "came"),
    [
        ("preset: gre", lambda play: play._session.params.temperature == 0.0),
        ("prompt: [b", lambda play: play._prompt.text == "[red]x\n"),
    ],
)
async def test_the_palette_finds_presets_and_prompts(make_app, own_home, typed, came):
    prompts.save_prompt("[b]", "[red]x\n")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("escape", "ctrl+p")
        for character in typed:
            await pilot.press({" ": "space", ":": "colon", "[": "left_square_bracket"}.get(character, character))
        await asyncio.sleep(0.5)
        await pilot.press("enter")
        await until(lambda: isinstance(pilot.app.screen, PlayScreen) and came(pilot.app.play))


async def test_f6_and_f7_lead_on_from_the_prompt(make_app, own_home):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press(*"abc", "f6")
        await until(lambda: pilot.app.current_mode == "models")
