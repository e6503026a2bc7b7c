"""What is spared at the start and when a screen is first shown: styles are read once, and nobody looks for garbage
before there can be any.
"""

from __future__ import annotations

import gc
from collections import Counter
from types import SimpleNamespace

import pytest
from textual.css import stylesheet as textuals
from textual.css.stylesheet import Stylesheet, StylesheetParseError

from minigpt_tui import app as app_module
from minigpt_tui.cli.failures import run
from minigpt_tui.cli.root import PROG_NAME, root
from minigpt_tui.kept_stylesheet import SOURCES, KeptStylesheet

pytest_plugins = ("play_fixtures",)

WIDE = (120, 36)


@pytest.fixture
def read(monkeypatch, stylesheets_that_are_read_once) -> Counter:
    """How often each source was read so far, by its place and its rank, which an heir of its widget may change."""
    monkeypatch.setattr(Stylesheet, "_parse_rules", stylesheets_that_are_read_once)
    counts: Counter = Counter()
    parse = textuals.parse

    def counted(scope, css, read_from, **options):
        counts[read_from, options["tie_breaker"]] += 1
        return parse(scope, css, read_from, **options)

    monkeypatch.setattr(textuals, "parse", counted)
    return counts


async def test_screens_that_are_shown_have_only_their_own_styles_read(make_app, read):
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        first = set(read)
        await app.action_show("settings")
        await app.action_show("batch")
        await pilot.pause()
        assert set(read) > first
        assert not {place: times for place, times in read.items() if times > 1}
        by_textual = app.stylesheet.copy()
        assert type(by_textual) is Stylesheet
        by_textual.parse()
        ours, theirs = (
            [(rule.selectors, rule.tie_breaker, str(rule.styles.get_rules())) for rule in sheet.rules]
            for sheet in (app.stylesheet, by_textual)
        )
        assert ours == theirs


async def test_another_theme_is_in_force_everywhere(make_app):
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await app.action_show("settings")
        dark = app.screen.styles.background
        app.action_dark_light()
        await pilot.pause()
        light = app.screen.styles.background
        assert light.hex.lower() == app.current_theme.background != dark.hex.lower()
        await app.action_show("play")
        await pilot.pause()
        assert app.screen is app.play
        assert app.play.styles.background == light


def test_more_sources_than_textual_would_keep_are_kept(read):
    sheet = KeptStylesheet()
    for number in range(SOURCES // 4):
        sheet.add_source(f"#row-{number} {{ height: {number}; }}", read_from=("here", str(number)))
        sheet.reparse()
    assert len(sheet.rules) == SOURCES // 4
    assert set(read.values()) == {1}


def test_styles_are_read_again_only_for_other_colours(read):
    sheet = KeptStylesheet(variables={"tone": "red"})
    sheet.add_source("Widget { color: $tone; }", read_from=("here", ""))
    sheet.parse()
    for tone, times in (("red", 1), ("blue", 2), ("blue", 2)):
        sheet.set_variables({"tone": tone})
        sheet.reparse()
        assert read[("here", ""), 0] == times
        assert sheet.rules[0].styles.color.css == {"red": "rgb(255,0,0)", "blue": "rgb(0,0,255)"}[tone]


def test_a_source_that_cannot_be_read_leaves_the_others_as_they_were():
    sheet = KeptStylesheet()
    sheet.add_source("Widget { height: 3; }", read_from=("good", ""))
    sheet.parse()
    before = sheet.css
    sheet.add_source("Widget { height: tall; }", read_from=("bad", ""))
    with pytest.raises(StylesheetParseError):
        sheet.reparse()
    assert sheet.css == before


async def test_garbage_is_collected_from_the_first_picture_on(make_app, monkeypatch):
    done = []
    steps = {name: lambda name=name: done.append(name) for name in ("freeze", "enable")}
    monkeypatch.setattr(app_module, "gc", SimpleNamespace(**steps))
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.pause()
        assert done == ["freeze", "enable"]


def test_nothing_looks_for_garbage_while_the_app_is_made(own_home, monkeypatch):
    collects = []

    class Made:
        return_code = 0

        def __init__(self, *args, **options) -> None:
            collects.append(gc.isenabled())

        def run(self, **options) -> None:
            collects.append(gc.isenabled())

    monkeypatch.setattr(app_module, "MiniGPTApp", Made)
    monkeypatch.setenv("TEXTUAL_DRIVER", "none")  # as another front end has it: stdout is no terminal here
    try:
        assert run(root, [], PROG_NAME) == 0
    finally:
        gc.enable()
    assert collects == [False, False]
