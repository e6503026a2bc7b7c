"""The process of a run: it obeys, it outlives whoever started it, and whatever ends it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from tiny_models import TINY_TEXT
from training_here import TINY

from engine import catalog
from engine.errors import DataError, RunError
from engine.training import control, launch, run_lock, runs
from engine.training.run import RunConfig, RunDirectory, TextSources

LONG = TINY.replace(steps=1_000_000, eval_interval=50, sample_interval=1000)

PATIENCE_SECONDS = 40.0
OBEYED_SECONDS = 6.0  # promised are two, of a machine that is not busy with other tests


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of the test's own; no run of it outlives the test."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text(TINY_TEXT)
    yield tmp_path
    for info in runs.list_runs():
        if info.is_under_way:
            psutil.Process(info.status.pid).kill()


def settings(folder, name="demo", training=LONG):
    text = TextSources(train=(str(folder / "text.txt"),))
    return RunConfig(name=name, created=time.time(), training=training, text=text, device="cpu")


def until(test):
    """Wait for something, and return it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := test()):
        assert time.monotonic() < end, [(info.state, info.reason, info.status) for info in runs.list_runs()]
        time.sleep(0.02)
    return found


def state(run):
    return runs.read_run(run.path).state


def step(run):
    return run.read_status().step


@pytest.mark.posix
def test_a_run_obeys_and_shows_a_sign_of_life(home):
    run = launch.start_run(settings(home))
    assert state(run) == "starting"
    assert run_lock.is_held(run.path)
    status = launch.wait_until_running(run)
    process = psutil.Process(status.pid)
    if sys.platform == "linux":
        assert process.nice() == min(19, psutil.Process().nice() + 10)
        if (autogroup := Path(f"/proc/{status.pid}/autogroup")).exists():
            assert autogroup.read_text().split()[-2:] == ["nice", "10"]
    until(lambda: step(run) > 50)

    second = subprocess.run([*launch.COMMAND, str(run.path)], capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert second.stderr == "the run demo is driven by another process\n"
    with pytest.raises(RunError, match="the run demo is running already"):
        launch.resume_run("demo")

    asked = time.monotonic()
    control.request(run.path, "pause")
    until(lambda: state(run) == "paused")
    assert time.monotonic() - asked < OBEYED_SECONDS
    paused = run.read_status()
    assert paused.step == run.read_metrics()[-1].step
    control.request(run.path, "save")
    until(lambda: catalog.run_checkpoint(run.path, f"step-{paused.step}"))
    process.send_signal(signal.SIGHUP)
    later = until(lambda: (it := run.read_status()).heartbeat > paused.heartbeat + 1.5 and it)
    assert (later.state, later.step) == ("paused", paused.step)

    launch.resume_run("demo")
    until(lambda: step(run) > paused.step)
    assert state(run) == "running"

    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    until(lambda: state(run) == "stopped")
    assert time.monotonic() - asked < OBEYED_SECONDS
    stopped = run.read_status()
    assert catalog.run_checkpoints(run.path)[-1].name == f"step-{stopped.step}"
    assert catalog.find_checkpoint("demo").name == stopped.best
    until(lambda: not run_lock.is_held(run.path))
    log = (run.path / "log.txt").read_text()
    assert "Traceback" not in log
    assert "warning" not in log.lower()


@pytest.mark.posix
def test_a_run_outlives_its_launcher_and_goes_on_after_a_kill(home):
    code = (
        "import sys, time, msgspec; from engine.training import launch; from engine.training.run import RunConfig;"
        "launch.start_run(msgspec.json.decode(sys.stdin.buffer.read(), type=RunConfig)); print('started', flush=True);"
        "time.sleep(60)"
    )
    launcher = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    launcher.stdin.write(msgspec.json.encode(settings(home)))
    launcher.stdin.close()
    assert launcher.stdout.readline() == b"started\n"
    os.killpg(launcher.pid, signal.SIGHUP)  # its terminal goes, and it with all that are in its group
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()
    launcher.stdout.close()
    run = RunDirectory(runs.find_run("demo"))
    status = launch.wait_until_running(run)
    until(lambda: step(run) > 120)
    assert state(run) == "running"

    os.kill(status.pid, signal.SIGKILL)
    until(lambda: state(run) == "crashed")
    info = runs.read_run(run.path)
    assert "killed" in info.reason
    assert info.hint == "minigpt-tui runs resume demo"
    saved = catalog.run_checkpoints(run.path)[-1]
    assert catalog.verify_checkpoint(saved) == []

    launch.resume_run("demo")
    again = launch.wait_until_running(run)
    assert (again.state, f"step-{again.step}") == ("running", saved.name) or again.step > 100
    until(lambda: step(run) > info.status.step + 10)
    os.kill(run.read_status().pid, signal.SIGTERM)
    until(lambda: state(run) == "stopped")
    steps = [line.step for line in run.read_metrics()]
    assert steps == list(range(1, run.read_status().step + 1))
    assert (run.path / "metrics.jsonl").read_text().count("resumed_from") == 1


def test_a_run_that_cannot_begin_says_why_and_leaves_nothing(home):
    config = settings(home)
    (home / "text.txt").unlink()
    run = launch.start_run(config)
    with pytest.raises(DataError, match=r"there is no file .*text\.txt"):
        launch.wait_until_running(run, discard=True)
    assert not run.path.exists()


def test_a_folder_that_is_no_run_is_refused_in_a_line(home):
    for arguments, says in (((str(home),), "cannot be driven"), ((), "usage:")):
        found = subprocess.run([*launch.COMMAND, *arguments], capture_output=True, text=True, timeout=60)
        assert found.returncode != 0
        assert says in found.stderr
        assert found.stderr.count("\n") == 1
