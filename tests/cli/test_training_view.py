"""What `train` and `runs watch` show on a terminal, from directories that the tests write themselves."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from written_runs import driven, set_status, take_steps, write_run

from engine.training.run import Sample
from engine.training.run_reader import RunReader
from minigpt_tui.charts.sparkline import BLOCKS, sparkline
from minigpt_tui.cli.training_view import LiveView, open_view
from minigpt_tui.training.training_words import News, age


@pytest.fixture(autouse=True)
def now(own_home, monkeypatch):
    """Each test has runs of its own, and reads their state at each look."""
    monkeypatch.setattr("engine.training.run_reader.INFO_SECONDS", 0.0)


class Screen:
    """A view of one run, and what a terminal of 80x24 shows of it."""

    def __init__(self, run, *, is_new=False):
        self.view = LiveView(run.name, "ctrl+c leaves", is_new=is_new)
        self.view._console = Console(file=io.StringIO(), width=80, height=24, force_terminal=False)
        self.view._size = self.view._console.size
        self.reader = RunReader(run.path)

    def shown(self):
        self.reader.poll(1.0)
        self.view.show(self.reader)
        console = self.view._console
        with console.capture() as capture:
            console.print(self.view)
        return capture.get()

    @property
    def said(self):
        """What was printed above the display."""
        return self.view._console.file.getvalue()


def test_the_display_shows_progress_losses_curves_and_what_is_being_done():
    run = write_run("demo", "starting", 0, parameters=0, activity="encoding", done=0.25)
    with driven(run):
        screen = Screen(run)
        assert screen.shown().strip() == "demo: encoding 25 %"
        set_status(run, "running", 0)
        assert "0 of 50   0:00 gone" in screen.shown()
        assert "the first step is under way\nctrl+c leaves" in screen.shown()
        assert "demo: 3.2M parameters, 66 token ids, cpu bf16, 2,048 tokens a step" in screen.said

        take_steps(run, 1, 24)
        set_status(run, "running", 24)
        shown = screen.shown()
        assert "24 of 50   0:48 gone · 0:52 left" in shown  # 26 steps of 2 seconds
        assert "loss 3.2750   val 3.2000 (best, step 20)   1,234 tok/s" in shown  # the mean of the last 20 losses
        assert "train ████▇▇▇▆▆▆▅▅▅▄▄▄▃▃▃▂▂▂▁▁   val █▁" in shown
        assert "ctrl+c leaves" in shown
        assert "sample at step 20" in shown
        assert "absample of step 20" in shown

        set_status(run, "running", 24, activity="evaluating", done=0.4)
        assert "evaluating 40 %   ctrl+c leaves" in screen.shown()
        set_status(run, "paused", 24)
        assert "paused; `runs resume demo` goes on   ctrl+c leaves" in screen.shown()
    assert "crashed at step 24" in screen.shown()
    set_status(run, "finished", 50)
    shown = screen.shown()
    assert "left" not in shown
    assert "ctrl+c" not in shown
    assert screen.said.count("3.2M parameters") == 1


def test_a_sample_is_plain_text_that_fits_the_terminal():
    run = write_run("demo", "running", 20)
    run.append_sample(Sample(step=20, prompt="ab", text="[red]c\x1b[2J\n" + "x" * 4000, seed=1))
    with driven(run):
        shown = Screen(run).shown()
    assert "ab[red]c␛[2J" in shown
    assert "\x1b[2J" not in shown
    assert 20 < len(shown.splitlines()) <= 22  # two lines stand above the display


def test_a_remark_is_shown_until_the_run_has_ended():
    run = write_run("demo", "running", 20)
    with driven(run):
        screen = Screen(run)
        screen.shown()
        screen.view.remark("saving and stopping")
        assert "saving and stopping" in screen.shown()
    set_status(run, "stopped", 21)
    assert "saving and stopping" not in screen.shown()


def test_a_long_past_is_shown_piece_by_piece_and_is_whole_in_the_end():
    run = write_run("demo", "running", 5000)
    with driven(run):
        screen = Screen(run)
        screen.reader.poll(0.0)
        screen.view.show(screen.reader)
        assert len(screen.reader.curves) < 5000
        assert "5,000 of 50" in screen.shown()
        assert len(screen.reader.curves) == 5000


def test_there_are_lines_where_there_is_no_terminal(capsys):
    run = write_run("demo", "running", 20)
    with driven(run), open_view("demo", "ctrl+c leaves", is_new=True) as view:
        view.show(RunReader(run.path))
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("demo: 3.2M parameters")
    assert [line[:8] for line in said[2:]] == ["step 10 ", "step 20 "]


def test_what_the_trainer_has_to_say_is_told_once():
    log = [
        "2026-01-31 23:59:58 n_layer 4 -> 2 (the base's)",
        "torch warns of something",
        "2026-01-31 23:59:59 saved step 5",
    ]
    news = News(is_new=True)
    assert news.take([]) == []
    assert news.take(log) == ["n_layer 4 -> 2 (the base's)"]
    assert news.take(log) == []
    log.append("2026-02-01 00:00:01 out of memory: batch_size 4 now, accumulation 2")
    log.append("2026-02-01 00:00:01 epoch 1 of 2: loss 2.1")
    assert news.take(log) == ["out of memory: batch_size 4 now, accumulation 2", "epoch 1 of 2: loss 2.1"]
    late = News(is_new=False)
    assert late.take(log) == []
    assert late.take([*log, "2026-02-01 00:00:02 epoch 2 of 2: loss 1.9"]) == ["epoch 2 of 2: loss 1.9"]


@given(st.lists(st.floats(allow_nan=True)), st.integers(0, 50))
def test_a_sparkline_is_blocks_that_fit(values, width):
    line = sparkline(values, width)
    assert len(line) <= width
    assert set(line) <= set(BLOCKS)


def test_a_sparkline_follows_its_values():
    assert sparkline([3.0, 2.0, 1.0], 10) == "█▅▁"
    assert sparkline([1.0, 1.0], 10) == "▁▁"
    assert sparkline([4.0, 4.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0], 4) == "█▅▁▁"
    assert sparkline([100.0, *range(10, 0, -1)], 20)[1] == "█"  # the first one does not flatten the others


@pytest.mark.parametrize(("seconds", "shown"), [(-1, "0s"), (59, "59s"), (90, "2m"), (7200, "2h"), (200_000, "2d")])
def test_an_age_is_one_number(seconds, shown):
    assert age(seconds) == shown
