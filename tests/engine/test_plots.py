"""The picture of the loss shows each run and its best step, and `loss_data.json` has the same numbers."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ET

import msgspec
import numpy as np
import pytest

from engine.errors import InvalidSettingError, RunError
from engine.training.plots import DRAWN_POINTS, loss_data, smoothed, write_loss_data, write_plot
from engine.training.run import Metrics

PNG = b"\x89PNG\r\n\x1a\n"


def curve(steps: int, *, every: int = 10, best: int = 0) -> list[Metrics]:
    """Losses that fall, and rise again after the step `best`, where one is given."""
    lines = []
    for step in range(1, steps + 1):
        loss = 1.5 + 2.5 / step
        evaluated = {"val_loss": loss + 0.1 + max(0, step - best) * 0.01 * bool(best), "train_split_loss": loss}
        line = Metrics(
            step=step, time=step, tokens=step, train_loss=loss, lr=0.1 / step, grad_norm=1.0, tokens_per_second=9
        )
        lines.append(msgspec.structs.replace(line, **evaluated) if every and step % every == 0 else line)
    return lines


def texts(path) -> str:
    """What an SVG says; its letters are drawn, and each text stands in a comment before its drawing."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    return "\n".join(node.text for node in ET.parse(path, parser).iter() if node.tag is ET.Comment)


def test_a_picture_of_one_run_names_its_lines_its_units_and_its_best_step(tmp_path):
    write_plot(tmp_path / "loss.svg", [("nano-3", curve(60, best=30))])
    said = texts(tmp_path / "loss.svg")
    for words in (
        "Loss of nano-3",
        "loss (nats per token)",
        "step",
        "training, each batch",
        "training, smoothed",
        "training split",
        "best validation: 1.6833 at step 30",
    ):
        assert words in said


def test_a_picture_of_several_runs_names_each_with_its_best_loss(tmp_path):
    names = ["_hidden", "$x^2$", "名前", "n" * 90]
    write_plot(tmp_path / "loss.svg", [(name, curve(40, best=20)) for name in names] + [("blind", curve(40, every=0))])
    said = texts(tmp_path / "loss.svg")
    assert "Loss of 5 runs" in said
    for label in (
        "_hidden: 1.7250 at 20",
        "$x^2$: 1.7250 at 20",
        "名前: 1.7250",
        f"{'n' * 27}…: 1.7250",
        "blind: training",
    ):
        assert label in said


@pytest.mark.parametrize("log", [False, True])
def test_a_png_is_a_picture_of_a_readable_size(tmp_path, log):
    write_plot(tmp_path / "LOSS.PNG", [("a", curve(60)), ("b", curve(3))], log=log)
    data = (tmp_path / "LOSS.PNG").read_bytes()
    assert data.startswith(PNG)
    assert int.from_bytes(data[16:20]) > 1200
    assert int.from_bytes(data[20:24]) > 700


def test_equal_runs_give_equal_pictures_and_leave_matplotlib_as_it_was(tmp_path):
    import matplotlib as mpl

    before = mpl.rcParams.copy()
    for name in ("one.svg", "other.svg"):
        write_plot(tmp_path / name, [("a", curve(30))])
        mpl.rcParams["lines.linewidth"] = 30.0  # a user's own taste
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    mpl.rcParams["lines.linewidth"] = before["lines.linewidth"]
    assert mpl.rcParams.copy() == before
    assert "matplotlib.pyplot" not in sys.modules


def test_a_long_run_makes_a_small_picture_that_keeps_its_extremes(tmp_path):
    lines = curve(30_000, every=0)
    lines[20_000] = msgspec.structs.replace(lines[20_000], train_loss=9.0)
    write_plot(tmp_path / "long.svg", [("long", lines)])
    assert (tmp_path / "long.svg").stat().st_size < 200_000
    write_plot(tmp_path / "flat.svg", [("long", curve(30_000, every=0))])
    assert "<!-- 9 -->" in (tmp_path / "long.svg").read_text()
    assert "<!-- 9 -->" not in (tmp_path / "flat.svg").read_text()
    assert DRAWN_POINTS < 30_000


def test_smoothing_follows_the_beginning_and_calms_the_end():
    steps = np.arange(1, 2001)
    falling = 4.0 / steps
    noise = np.random.default_rng(0).normal(size=2000) * 0.1
    means = smoothed(falling + noise)
    assert means[0] == falling[0] + noise[0]
    assert np.abs(means[200:] - falling[200:]).max() < 0.05
    assert means[1990:].std() < noise[1990:].std() / 4
    assert smoothed(np.array([2.0])).tolist() == [2.0]


def test_loss_data_has_the_numbers_of_each_run_with_their_steps(tmp_path):
    write_loss_data(tmp_path / "loss_data.json", [("a", curve(25)), ("b", curve(2))])
    a, b = msgspec.json.decode((tmp_path / "loss_data.json").read_bytes())["runs"]
    assert (a["name"], b["name"]) == ("a", "b")
    assert a["steps"] == list(range(1, 26))
    assert math.isclose(a["train_losses"][4], 2.0)
    assert a["lr"][1] == 0.05
    assert a["val_steps"] == a["train_split_steps"] == [10, 20]
    assert a["val_losses"] == [1.85, 1.725]
    assert a["train_split_losses"] == [1.75, 1.625]
    assert b == loss_data([("b", curve(2))])["runs"][0]
    assert b["val_losses"] == []


@pytest.mark.parametrize("name", ["loss.pdf", "loss"])
def test_another_kind_of_file_is_refused_by_name(tmp_path, name):
    with pytest.raises(InvalidSettingError, match=r"neither a .png nor an .svg file: call it loss.png"):
        write_plot(tmp_path / name, [("a", curve(3))])


def test_a_run_without_steps_is_said_to_have_none(tmp_path):
    for write in (write_plot, write_loss_data):
        with pytest.raises(RunError, match="the run b has no steps yet: wait for its first one"):
            write(tmp_path / "loss.png", [("a", curve(3)), ("b", [])])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(RunError, match=r"cannot be written \(No such file or directory\)"):
        write_plot(tmp_path / "none" / "loss.png", [("a", curve(3))])


def test_without_matplotlib_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidSettingError, match=r"matplotlib is not installed: pip install 'minigpt-tui\[plot\]'"):
        write_plot(tmp_path / "loss.png", [("a", curve(3))])
    write_loss_data(tmp_path / "loss_data.json", [("a", curve(3))])
    assert (tmp_path / "loss_data.json").exists()
