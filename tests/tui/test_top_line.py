"""The first line: at any width the screens stand in their places, and of the model the most telling is shown."""

from __future__ import annotations

import msgspec
import pytest
from scripted_client import MODEL
from textual.app import App

from minigpt_tui.themes import DARK
from minigpt_tui.widgets.top_line import TopLine


class OneLine(App):
    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name

    def compose(self):
        yield TopLine()


@pytest.mark.parametrize(
    ("columns", "name", "current", "ends"),
    [
        (140, "shakespeare", "Play", "  shakespeare · 3.2M · cpu int8"),
        (80, "shakespeare", "Play", "  shakespeare · cpu int8"),
        (80, "shakespeare", "Chat", "  shakespeare · cpu"),
        (80, "fables-nano:step-500", "Play", "  fables-nano:step-500 · cpu"),
        (80, "fables-of-a-summer-nano:step-500", "Play", "  fables-of-a-summe…:step-500"),
        (80, "fables-of-a-summer-at-the-sea", "Play", "  fables-of-a-summer-at-the-…"),
        (60, "shakespeare", "Play", "Models  shakes…"),
        (60, "shakespeare", "Chat", "Models  Chat"),
    ],
)
async def test_what_is_left_out_of_a_narrow_line_is_the_least_telling(columns, name, current, ends):
    app = OneLine()
    async with app.run_test(size=(columns, 1)) as pilot:
        line = app.query_one(TopLine)
        line.model, line.current = msgspec.structs.replace(MODEL, name=name), current
        await pilot.pause()
        text = app.screen._compositor.render_strips()[0].text.strip()
    assert text.startswith("minigpt   Play  Compare  Train  History  Models")
    assert text.endswith(ends)
