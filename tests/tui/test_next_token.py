"""The bars of the likeliest tokens: labels fit their cells, and no share that there is reads as none."""

from __future__ import annotations

import math

import pytest
from textual.app import App, ComposeResult

from engine.inference.stream import Alternative
from minigpt_tui.text_document import cells
from minigpt_tui.widgets.next_token import NextToken, percent_text


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.41, "  41 %"), (0.004, "  <1 %"), (0.0004, "  <1 %"), (1e-9, "  <1 %"), (0.0, "   0 %"), (1.0, " 100 %")],
)
def test_a_share_that_is_not_nothing_never_reads_as_nothing(share, shown):
    assert percent_text(share) == shown


async def lines_of(*shares: tuple[str, float]) -> list[str]:
    class Shown(App[None]):
        def compose(self) -> ComposeResult:
            yield NextToken()

    async with Shown().run_test(size=(30, 6)) as pilot:
        widget = pilot.app.query_one(NextToken)
        widget.alternatives = tuple(
            Alternative(token=number, text=text, logprob=math.log(share), drawn=share)
            for number, (text, share) in enumerate(shares)
        )
        return widget.render().plain.split("\n")


async def test_labels_of_wide_characters_are_shown_whole_and_rows_are_as_wide_as_the_panel():
    lines = await lines_of(("漢字", 0.75), ("a", 0.25))
    assert lines[0].startswith("漢字  ")
    assert {cells(line) for line in lines} == {30}


async def test_what_rounding_leaves_over_is_nothing():
    assert (await lines_of(("a", 0.7), ("b", 0.2), ("c", 0.1 - 1e-9)))[-1].endswith("   0 %")
