"""Long curves stay true when they are made short, and lines that make no sense do not hide the others."""

from __future__ import annotations

from array import array

import pytest

from engine.training.curves import thin
from engine.training.run import Metrics, RunDirectory
from engine.training.run_reader import RunReader


def test_each_share_becomes_its_mean_and_its_extremes():
    thinned = thin(array("q", range(1, 9)), array("d", [1, 3, 5, 5, 9, 1, 2, 2]), 1, 9, 4)
    assert thinned.x == [1.5, 3.5, 5.5, 7.5]
    assert thinned.mean == [2, 5, 5, 2]
    assert thinned.low == [1, 5, 1, 2]
    assert thinned.high == [3, 5, 9, 2]


def test_a_spike_among_many_steps_is_not_lost():
    losses = array("d", [1.0]) * 200_000
    losses[123_456] = 9.0
    thinned = thin(array("q", range(200_000)), losses, 0, 200_000, 200)
    assert len(thinned.x) == 200
    assert max(thinned.high) == 9.0
    assert max(thinned.mean) == pytest.approx(1.008)


def test_only_what_is_between_the_ends_counts():
    thinned = thin(array("q", range(100)), array("d", range(100)), 90, 99, 1000)
    assert thinned.mean == list(range(90, 100))


@pytest.mark.parametrize(("x", "y"), [([], []), ([5], [float("nan")]), ([5, 6], [float("inf"), float("nan")])])
def test_nothing_to_draw_is_no_curve(x, y):
    assert thin(x, y, 0, 10, 10) == ([], [], [], [])


def test_a_gap_has_no_points():
    assert thin([0, 1, 9], [1, 1, 1], 0, 10, 10).x == [0, 1, 9]


def test_a_line_that_makes_no_sense_is_left_out_and_counted(tmp_path):
    run = RunDirectory(tmp_path)
    facts = {"tokens": 8, "train_loss": 2.0, "lr": 1e-3, "grad_norm": 1.0, "tokens_per_second": 80.0}
    for step in range(1, 4):
        run.append_metrics(Metrics(step=step, time=step * 0.1, **facts))
    run.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": "four"}\n{"resumed_from": "where"}\nnot at all\n')
    run.append_metrics(Metrics(step=5, time=0.5, **facts))
    run.close()
    reader = RunReader(tmp_path)
    reader.read_all()
    assert reader.curves.steps.tolist() == [1, 2, 3, 5]
    assert reader.damaged == 3
    assert reader.is_whole
