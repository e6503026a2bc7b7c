"""What `train` does while its run goes on, with a process in the trainer's place that obeys as the test wants it to."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
from written_runs import control_of, driven, write_run

from engine.training.run import RunDirectory
from engine.training.runs import read_run

PROCESS = """
import sys, time
from pathlib import Path
from engine.training import control
from engine.training.run import RunDirectory, Status
run = RunDirectory(Path(sys.argv[1]))
status = {"step": 3, "steps": 9, "seconds": 65.0, "parameters": 1000}
def until(true):
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
"""
STOPPING = """
run.write_status(Status(state="running", **status))
until(lambda: control.read_control(run.path).wanted == "stop")
until((run.path / "go").exists)
run.write_status(Status(state="stopped", **status))
"""
CRASHING = """
run.write_status(Status(state="running", **status))
time.sleep(0.5)
run.write_status(Status(state="crashed", reason="the loss became nan", hint="try a lower learning_rate",
                        kind="TrainingDivergedError", **status))
"""
KILLED = """
run.write_status(Status(state="running", **status))
"""


@pytest.fixture
def process(monkeypatch, own_home):
    """Put a process in the trainer's place; the directory of the run `demo`."""

    def replace(script):
        monkeypatch.setattr("engine.training.launch.COMMAND", (sys.executable, "-c", PROCESS + script))
        return RunDirectory(own_home / "data" / "runs" / "demo")

    return replace


def wait_for(true):
    until = time.monotonic() + 15
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    assert true()


def in_between(act):
    """Do something while a command runs in this process's main thread."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_asks_to_stop_and_waits_for_the_end(number, cli, process):
    run = process(STOPPING)

    def interrupt():
        wait_for(lambda: run.path.exists() and read_run(run.path).state == "running")
        os.kill(os.getpid(), number)
        wait_for(lambda: control_of(run).get("wanted") == "stop")
        (run.path / "go").touch()

    acting = in_between(interrupt)
    result = cli("train", "fables", "--name", "demo")
    acting.join()
    assert (result.status, result.out) == (130, "")
    assert "saving and stopping; ctrl+c again leaves" in result.err
    assert result.err.splitlines()[-1] == "stopped at step 3 after 1:05, before there was a checkpoint"
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)


@pytest.mark.posix
def test_the_second_interrupt_leaves_at_once_and_the_run_stops_by_itself(cli, process):
    run = process(STOPPING)

    def interrupt_twice():
        wait_for(lambda: run.path.exists() and read_run(run.path).state == "running")
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: control_of(run).get("wanted") == "stop")
        os.kill(os.getpid(), signal.SIGINT)

    acting = in_between(interrupt_twice)
    result = cli("train", "fables", "--name", "demo")
    acting.join()
    assert (result.status, result.out) == (130, "")
    assert result.err.splitlines()[-1] == "demo is still saving: minigpt-tui runs show demo"
    assert read_run(run.path).is_under_way
    (run.path / "go").touch()
    wait_for(lambda: read_run(run.path).state == "stopped")


def test_a_crash_is_one_line_with_what_to_do_and_the_run_stays(cli, process):
    run = process(CRASHING)
    result = cli("train", "fables", "--name", "demo")
    assert (result.status, result.out) == (1, "")
    assert result.is_one_error_line
    assert result.err.splitlines()[-1] == "error: the loss became nan: try a lower learning_rate"
    assert run.path.exists()


def test_a_run_that_was_killed_says_how_to_go_on(cli, process):
    process(KILLED)
    result = cli("train", "fables", "--name", "demo")
    assert result.status == 1
    assert "without a word" in result.err
    assert result.err.splitlines()[-1].endswith("minigpt-tui runs resume demo")


@pytest.mark.posix
def test_ctrl_c_while_a_detached_run_begins_stops_it(cli, process):
    run = process("until(lambda: control.read_control(run.path).wanted == 'stop')\n" + STOPPING)

    def interrupt():
        wait_for(run.path.exists)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    acting = in_between(interrupt)
    result = cli("train", "fables", "--name", "demo", "--detach")
    acting.join()
    assert (result.status, result.out) == (130, "")
    assert control_of(run) == {"wanted": "stop"}
    (run.path / "go").touch()
    wait_for(lambda: read_run(run.path).state == "stopped")


@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaving_a_run_that_is_watched_asks_nothing_of_it(number, cli, own_home):
    run = write_run("demo", "running", 12)
    with driven(run):
        timer = threading.Timer(0.5, os.kill, [os.getpid(), number])
        timer.start()
        result = cli("runs", "watch", "demo")
        timer.join()
        assert read_run(run.path).state == "running"
    assert (result.status, result.out) == (130, "")
    assert result.err.splitlines()[-1] == "demo goes on; to stop it: minigpt-tui runs stop demo"
    assert control_of(run) == {}
