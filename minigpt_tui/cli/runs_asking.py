"""What can be asked of a training run from the shell: to pause, to go on, to stop, to save. Each command waits until it
is done, after the step that is under way.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.catalog import RECORD, run_checkpoints
from engine.errors import RunError
from engine.training import control, launch
from engine.training.run import RunDirectory
from engine.training.runs import RunInfo, find_run, read_run
from minigpt_tui.cli.options import RunName, nproc_option
from minigpt_tui.cli.runs_facts import summary
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.cli.training_settings import read_changes

PATIENCE_SECONDS = 30.0
"""A step may take long; what a run does between steps, such as evaluating, is waited for without an end."""

POLL_SECONDS = 0.05

F = TypeVar("F", bound=Callable[..., Any])


def _asking(function: F) -> F:
    """Add what these commands have in common."""
    for decorate in (
        click.option("--json", "as_line", is_flag=True, help="Print how the run is then, as one JSON object."),
        click.option("--no-wait", is_flag=True, help="Ask, and do not wait until it is done."),
        click.argument("run", type=RunName()),
    ):
        function = decorate(function)
    return function


@click.command()
@_asking
def pause(run: str, no_wait: bool, as_line: bool) -> None:
    """Let RUN wait.

    It does so after the step that is under way, and keeps its memory; `runs resume` goes on.
    """
    path = find_run(run)
    _check_under_way(path)
    control.request(path, "pause")
    _tell(_wait(path, no_wait, lambda info: info.state == "paused"), as_line)


@click.command()
@_asking
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting from now on, such as steps.")
@nproc_option
def resume(run: str, no_wait: bool, as_line: bool, assignments: tuple[str, ...], nproc: int | None) -> None:
    """Let RUN go on.

    A paused run goes on where it is; one that was stopped or has crashed, from its last checkpoint. A finished run
    wants more steps: --set steps=N. What the model is cannot be changed any more.
    """
    changes = read_changes(None, assignments)
    was_paused = read_run(find_run(run)).state == "paused"
    directory = launch.resume_run(run, changes, nproc=nproc)
    if was_paused:
        info = _wait(directory.path, no_wait, lambda info: info.state != "paused")
    elif not no_wait:
        launch.wait_until_running(directory)
        info = read_run(directory.path)
    else:
        info = read_run(directory.path)
    _tell(info, as_line)


@click.command()
@_asking
def stop(run: str, no_wait: bool, as_line: bool) -> None:
    """Let RUN save and end.

    It does so after the step that is under way; `runs resume` goes on from there.
    """
    path = find_run(run)
    if read_run(path).is_under_way:
        control.request(path, "stop")
    _tell(_wait(path, no_wait, lambda info: not info.is_under_way), as_line)


@click.command()
@_asking
def save(run: str, no_wait: bool, as_line: bool) -> None:
    """Let RUN write a checkpoint now.

    It does so after the step that is under way; the path of the checkpoint is printed on stdout.
    """
    path = find_run(run)
    _check_under_way(path)
    before = _last_checkpoint(path)
    control.request(path, "save")
    info = _wait(path, no_wait, lambda info: _has_saved(info, before))
    if no_wait:
        _tell(info, as_line)
        return
    checkpoint, _ = _last_checkpoint(path)
    if as_line:
        write_json(summary(info) | {"checkpoint": str(checkpoint)})
    else:
        write_line(str(checkpoint))
    say(f"{checkpoint.name} of {run} is saved")


def _has_saved(info: RunInfo, before: tuple[Path, int]) -> bool:
    """Whether a run has saved since then, or takes no steps now and had saved the last one that it took."""
    now = _last_checkpoint(info.path)
    takes_steps = info.state in ("starting", "running") and not info.status.activity
    return now != before or (not takes_steps and now[0] == RunDirectory(info.path).checkpoint(info.status.step))


def _last_checkpoint(run: Path) -> tuple[Path, int]:
    """A run's last checkpoint, and when it was written; the run's folder of them before the first."""
    for checkpoint in reversed(run_checkpoints(run)):
        with contextlib.suppress(OSError):  # gone in between
            return checkpoint, (checkpoint / RECORD).stat().st_mtime_ns
    return run / "checkpoints", 0


def _check_under_way(run: Path) -> None:
    """Raise RunError when no process drives a run."""
    info = read_run(run)
    if not info.is_under_way:
        raise RunError(f"the run {info.name} has {_ended(info)}", f"minigpt-tui runs resume {info.name}")


def _ended(info: RunInfo) -> str:
    return {"stopped": "been stopped"}.get(info.state, info.state)


def _wait(run: Path, no_wait: bool, is_done: Callable[[RunInfo], bool]) -> RunInfo:
    """Wait until a run is as it was asked to be.

    Raises:
        RunError: It has ended in between, or does not obey.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        info = read_run(run)
        if no_wait or is_done(info):
            return info
        if not info.is_under_way:
            raise RunError(f"the run {run.name} has {_ended(info)} before that", f"minigpt-tui runs show {run.name}")
        if info.status.activity:
            until = time.monotonic() + PATIENCE_SECONDS
        if time.monotonic() > until:
            hint = f"it does so after the step that is under way: minigpt-tui runs watch {run.name}"
            raise RunError(f"the run {run.name} has not obeyed after {PATIENCE_SECONDS:.0f} s", hint)
        time.sleep(POLL_SECONDS)


def _tell(info: RunInfo, as_line: bool) -> None:
    if as_line:
        write_json(summary(info))
    say(f"{info.name} is {info.state} at step {info.status.step:,} of {info.status.steps:,}")
