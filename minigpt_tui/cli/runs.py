"""`minigpt-tui runs`: the training runs on this machine, seen and managed from any shell. It reads their directories
and asks things of the processes that drive them; it imports no torch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from engine.errors import RunError
from engine.folders import expanded
from engine.training.run import RunDirectory
from engine.training.runs import RunInfo, disk_use, find_run, list_runs, prune_run, read_run, remove_run, rename_run
from minigpt_tui.cli.failures import INTERRUPTED
from minigpt_tui.cli.options import RunName
from minigpt_tui.cli.runs_asking import pause, resume, save, stop
from minigpt_tui.cli.runs_facts import details, summary, write_details
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.columns import columns, size

LOG_SECONDS = 0.25
"""Between looks at a log that is followed."""


@click.group()
def runs() -> None:
    """List, watch, pause, resume, stop, compare and remove training runs.

    RUN is the name of a run, as `runs list` shows it.
    """


@runs.command("list")
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per run.")
def list_(as_lines: bool) -> None:
    """List all runs, those under way first, then the latest."""
    infos = list_runs()
    if as_lines:
        for info in infos:
            write_json(summary(info))
        return
    if not infos:
        say("there is no run yet; start one: minigpt-tui train fables --preset nano")
        return
    rows = [("name", "state", "step", "loss", "age", "device", ""), *map(_row, infos)]
    for line in columns(rows, right=(2, 3, 4)):
        write_line(line)


def _row(info: RunInfo) -> tuple[str, ...]:
    from minigpt_tui.training.training_words import age

    status = info.status
    return (
        info.name,
        info.state,
        f"{status.step:,} of {status.steps:,}",
        "-" if info.loss is None else f"{info.loss:.4f}",
        age(time.time() - info.changed) if info.changed else "-",
        f"{status.device} {status.precision}".strip() or "-",
        info.reason,
    )


@runs.command()
@click.argument("run", type=RunName())
@click.option("--json", "as_line", is_flag=True, help="Print it all as one JSON object.")
def show(run: str, as_line: bool) -> None:
    """Show RUN: state, losses, checkpoints, settings."""
    info = read_run(find_run(run))
    if as_line:
        write_json(details(info))
    else:
        write_details(info)


@runs.command()
@click.argument("run", type=RunName())
@click.option("--json", "as_lines", is_flag=True, help="Print what is measured, a JSON object per line.")
def watch(run: str, as_lines: bool) -> None:
    """Watch RUN until it ends.

    ctrl+c leaves, and the run goes on. With --json there is a line for each
    evaluation, and at most one a second in between.
    """
    from minigpt_tui.cli.training_following import Interrupts, follow, tell_end
    from minigpt_tui.cli.training_lines import JsonView
    from minigpt_tui.cli.training_view import open_view

    path = find_run(run)
    view = JsonView() if as_lines else open_view(run, "ctrl+c leaves, and the run goes on", is_new=False)
    with Interrupts() as interrupts:
        info = follow(path, view, interrupts, lambda: False)
    if info is None:
        say(f"{run} goes on; to stop it: minigpt-tui runs stop {run}")
        raise click.exceptions.Exit(INTERRUPTED)
    tell_end(info, with_checkpoint=not as_lines)


for command in (pause, resume, stop, save):
    runs.add_command(command)


@runs.command()
@click.argument("run", type=RunName())
@click.argument("name")
def rename(run: str, name: str) -> None:
    """Call RUN by another NAME, and its models too."""
    rename_run(run, name)
    say(f"{run} is {name} now")


@runs.command()
@click.argument("run", type=RunName())
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(run: str, yes: bool) -> None:
    """Delete RUN and its checkpoints for good."""
    info = read_run(path := find_run(run))
    if info.is_under_way:
        raise RunError(f"the run {run} is {info.state}", f"stop it first: minigpt-tui runs stop {run}")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"removing {run} needs a yes, add --yes")
        if not click.confirm(f"delete {path} with its checkpoints, {size(disk_use(path))}, for good?", err=True):
            say("nothing was removed")
            return
    remove_run(run)
    say(f"{run} is removed")


@runs.command()
@click.argument("run", type=RunName())
@click.option("--json", "as_line", is_flag=True, help="Print one JSON object.")
def prune(run: str, as_line: bool) -> None:
    """Delete RUN's checkpoints but the best and the last."""
    removed, freed = prune_run(find_run(run))
    if as_line:
        write_json({"name": run, "removed": removed, "bytes": freed})
    what = "1 checkpoint is" if removed == 1 else f"{removed} checkpoints are"
    say(f"{what} removed, {size(freed)} freed; the best and the last are kept")


@runs.command()
@click.argument("run", nargs=-1, required=True, type=RunName())
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="loss.png", show_default=True,
              help="The picture, .png or .svg.")  # fmt: skip
@click.option("--log", is_flag=True, help="Losses on a logarithmic scale.")
def plot(run: tuple[str, ...], out: Path, log: bool) -> None:
    """Draw the losses of RUN, or of several.

    The same as numbers is written beside the picture, as loss_data.json. Both paths are printed on stdout.
    """
    names = tuple(dict.fromkeys(run))
    measured = [(name, RunDirectory(find_run(name)).read_metrics()) for name in names]

    from engine.training.plots import write_loss_data, write_plot

    out = expanded(out)
    write_plot(out, measured, log=log)
    write_loss_data(data := out.with_name("loss_data.json"), measured)
    write_line(str(out))
    write_line(str(data))


@runs.command()
@click.argument("run", type=RunName())
@click.option("-n", "count", type=click.IntRange(1), metavar="N", help="The last N lines.  [default: all]")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until the run ends.")
def log(run: str, count: int | None, follow: bool) -> None:
    """Print what RUN's process has said."""
    path = find_run(run)
    for number, lines in enumerate(_log_lines(path, follow=follow)):
        for line in lines if number or count is None else lines[-count:]:
            write_line(line)


def _log_lines(run: Path, *, follow: bool) -> Iterator[list[str]]:
    """The lines of a log: those that are there, then those that come until the run ends."""
    begin, rest = 0, b""
    while True:
        is_last = not follow or not read_run(run).is_under_way
        try:
            with (run / "log.txt").open("rb") as file:
                file.seek(begin)
                data = file.read()
        except FileNotFoundError:
            data = b""
        begin += len(data)
        whole, found, rest = (rest + data).rpartition(b"\n")
        if is_last:
            whole, rest = whole + found + rest, b""
        yield whole.decode(errors="replace").splitlines()
        if is_last:
            return
        time.sleep(LOG_SECONDS)
