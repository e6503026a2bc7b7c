"""Themes: ours, Textual's and one's own, all with enough contrast to be read; no colour and no movement where asked."""

from __future__ import annotations

import pytest
from rich.color import ColorType
from test_play_screen import WIDE, begin, settled, shown
from textual.color import Color
from textual.filter import Monochrome
from textual.theme import BUILTIN_THEMES

from minigpt_tui.app import MiniGPTApp
from minigpt_tui.config_edit import set_value
from minigpt_tui.config_file import config_path, load_config
from minigpt_tui.themes import DARK, LIGHT, OWN
from minigpt_tui.user_themes import ThemeError, read_theme, themes_folder

pytest_plugins = ("play_fixtures",)

MINE = """
primary = "#8ab4f8"   # all that is needed
background = "#101010"
dark = true

[variables]
quiet = "#aaaaaa"
"block-cursor-text-style" = "bold reverse"
"input-selection-background" = "#8ab4f8 40%"
"""


@pytest.fixture
def theme_file(own_home):
    def write(content: str, name: str = "mine"):
        themes_folder().mkdir(parents=True, exist_ok=True)
        path = themes_folder() / f"{name}.toml"
        path.write_text(content)
        return path

    return write


def luminance(colour: Color) -> float:
    shares = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in colour.normalized]
    return 0.2126 * shares[0] + 0.7152 * shares[1] + 0.0722 * shares[2]


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it, from 1 to 21."""
    lights = sorted((luminance(Color.parse(one)), luminance(Color.parse(other))), reverse=True)
    return (lights[0] + 0.05) / (lights[1] + 0.05)


@pytest.mark.parametrize("theme", OWN, ids=lambda theme: theme.name)
def test_our_themes_can_be_read(theme):
    least = 7.0 if theme.name == "minigpt-contrast" else 4.5
    assert contrast(theme.foreground, theme.background) >= 7.0
    for name in ("quiet", "key", "prompt-text"):
        assert contrast(theme.variables[name], theme.background) >= least, name
    for name in ("curve-1", "curve-2", "curve-3", "curve-4", "bar"):
        assert contrast(theme.variables[name], theme.background) >= 3.0, name
    for colour in (theme.error, theme.accent):
        assert contrast(colour, theme.background) >= 4.5


async def test_every_theme_shows_every_part(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        stream.finish()
        for name in [*(theme.name for theme in OWN), *BUILTIN_THEMES]:
            pilot.app.theme = name
            await settled(pilot)
            assert "Speak well" in shown(pilot.app, "#text")
            assert "temperature" in shown(pilot.app, "#sampling")


async def test_a_theme_that_was_chosen_is_there_at_the_next_start_and_comments_stay(make_app):
    config_path().parent.mkdir(parents=True)
    config_path().write_text("# mine\ntheme = 'nord' # cold\n")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.app.run_action("app.dark_light")
        await pilot.pause()
        await pilot.press("ctrl+q")
    assert config_path().read_text() == f'# mine\ntheme = "{LIGHT.name}" # cold\n'
    async with make_app().run_test(size=WIDE) as pilot:
        assert pilot.app.theme == LIGHT.name


async def test_a_theme_of_ones_own_is_used(make_app, theme_file):
    theme_file(MINE)
    set_value("theme", "mine")
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.pause()
        assert pilot.app.theme == "mine"
        assert pilot.app.current_theme.primary == "#8ab4f8"
        assert not pilot.app.play._notice.is_open


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("primary = 'red'\nx", ", line 2:"),
        ("primary = 'blau'", "primary is 'blau': it must be a colour"),
        ("primary = 3", "primary is 3"),
        ("background = 'red'", "primary is missing"),
        ("primary = 'red'\nbakground = 'red'", "a theme has no 'bakground': did you mean background?"),
        ("primary = 'red'\ndark = 'yes'", "it must be true or false"),
        ("primary = 'red'\ntext_alpha = 3", "it must be from 0 to 1"),
        ("primary = 'red'\n[variables]\nquiet = 'no colour }'", "variables.quiet is 'no colour }'"),
        ("primary = 'red'\n[variables]\nquiet = '#fff; color: red'", "variables.quiet"),
        ("primary = 'red'\n[variables]\n'x-style' = 'fat'", "it must be a style"),
        ("primary = 'red'\nname = 'nord'", "there is a theme 'nord' already"),
        ("\udcff", "it is not UTF-8"),
        ("#" * 70_000, "longer than a theme"),
    ],
)
async def test_a_wrong_theme_is_told_and_the_app_starts_all_the_same(make_app, theme_file, content, says):
    path = theme_file("")
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ThemeError) as told:
        read_theme(path)
    assert says in str(told.value)
    assert str(told.value).startswith(str(path))
    set_value("theme", "mine")
    app = make_app()
    assert app.theme == DARK.name
    assert str(told.value) in app.config_problems
    assert any("there is no theme 'mine'" in problem for problem in app.config_problems)
    assert load_config().config.theme == "mine"  # it may come back


def is_grey(style) -> bool:
    for colour in (style.color, style.bgcolor) if style else ():
        if colour is not None and colour.type is ColorType.TRUECOLOR and len({*colour.triplet}) > 1:
            return False
    return True


@pytest.mark.parametrize("way", ["NO_COLOR", "config"])
async def test_without_colour_there_are_shades_of_grey_alone(make_app, client, monkeypatch, way):
    if way == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        set_value("color", "none")
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client)
        assert [type(filter) for filter in pilot.app.get_line_filters()].count(Monochrome) == 1
        for strip in pilot.app.screen._compositor.render_strips():
            assert all(is_grey(segment.style) for segment in strip)


async def test_colours_go_and_come_back_while_the_app_runs(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client)

        def greys() -> bool:
            return all(is_grey(s.style) for strip in pilot.app.screen._compositor.render_strips() for s in strip)

        assert not greys()
        for value, grey in (("none", True), ("auto", False)):
            pilot.app.change_setting("color", value)
            await settled(pilot)
            assert greys() is grey


@pytest.mark.parametrize("way", ["environment", "config"])
async def test_nothing_moves_by_itself_where_that_was_asked(make_app, client, monkeypatch, way):
    if way == "config":
        set_value("animation", "none")
    else:
        monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none")
    async with make_app().run_test(size=WIDE) as pilot:
        assert pilot.app.animation_level == "none"
        await begin(pilot, client)
        for key in ("f1", "escape", "f9", "k", "end", "home", "f2", "tab", "home", "end"):
            await pilot.press(key)
            assert not pilot.app.animator._animations
            assert not pilot.app.animator._scheduled


async def test_no_theme_of_textuals_is_hidden_by_one_of_ours(own_home):
    assert {theme.name for theme in OWN}.isdisjoint(BUILTIN_THEMES)
    assert {*MiniGPTApp().available_themes} >= {*BUILTIN_THEMES} | {theme.name for theme in OWN}
