"""The marks of a chart's axes, and its dots."""

from __future__ import annotations

import pytest

from minigpt_tui.charts.axes import linear_ticks, log_ticks, number_texts, step_ticks, time_texts, time_ticks
from minigpt_tui.charts.braille import Braille


@pytest.mark.parametrize(
    ("low", "high", "count", "texts"),
    [
        (0, 700, 8, ["0", "100", "200", "300", "400", "500", "600", "700"]),
        (0, 5000, 6, ["0", "1K", "2K", "3K", "4K", "5K"]),
        (0, 1000, 4, ["0", "250", "500", "750", "1,000"]),
        (1.43, 1.47, 4, ["1.43", "1.44", "1.45", "1.46", "1.47"]),
        (0, 2_000_000, 4, ["0", "0.5M", "1.0M", "1.5M", "2.0M"]),
        (0, 200_000, 4, ["0", "50K", "100K", "150K", "200K"]),
        (3, 3, 4, ["3"]),
        (2.2, 4.9, 2, ["3", "4"]),
    ],
)
def test_linear_marks_are_round_and_told_apart(low, high, count, texts):
    assert number_texts(linear_ticks(low, high, count)) == texts


@pytest.mark.parametrize(("last", "texts"), [(1, ["0", "1"]), (2, ["0", "1", "2"]), (700, ["0", "200", "400", "600"])])
def test_there_is_no_mark_between_two_steps(last, texts):
    assert number_texts(step_ticks(0, last, 4)) == texts


def test_logarithmic_marks_span_the_powers():
    assert number_texts(log_ticks(0.01, 5, 5)) == ["0.01", "0.03", "0.10", "0.30", "1.00", "3.00"]
    assert log_ticks(1.2, 1.6, 4) == pytest.approx([1.2, 1.3, 1.4, 1.5, 1.6])


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        (40, ["0", "10s", "20s", "30s", "40s"]),
        (200, ["0", "1m", "2m", "3m"]),
        (5 * 3600, ["0", "2h", "4h"]),
        (0.4, ["0", "0.1s", "0.2s", "0.3s", "0.4s"]),
    ],
)
def test_marks_of_time_are_round_in_its_own_units(seconds, texts):
    assert time_texts(time_ticks(0, seconds, 4)) == texts


def test_a_cell_shows_the_dots_of_one_curve_alone():
    grid = Braille(2, 1)
    grid.dot(0, 0, 0)
    grid.dot(1, 3, 0)
    assert grid.text(0, 0) == "⢁"
    grid.dot(0, 3, 1)
    assert (grid.text(0, 0), grid.owners[0]) == ("⡀", [1, -1])
    grid.dot(99, 0, 0)  # outside
    assert grid.text(0, 1) == " "


def test_a_line_joins_its_ends_and_keeps_its_pattern():
    solid, dashed = Braille(4, 1), Braille(4, 1)
    solid.line(0, 3, 7, 3, 0)
    dashed.line(0, 3, 7, 3, 0, (2, 2))
    assert "".join(solid.text(0, column) for column in range(4)) == "⣀⣀⣀⣀"
    assert "".join(dashed.text(0, column) for column in range(4)) == "⣀ ⣀ "
    solid.line(0, 0, 1, 3, 1)
    assert solid.text(0, 0) == "⢣"
