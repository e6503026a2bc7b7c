"""`minigpt-tui bench`: how fast a model writes, reads and learns on this machine, and what memory it takes. Imports
torch only after the options were checked.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, TypeVar, get_args

import click
import msgspec
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType

from engine.benchmarking.figures import MEASURES, SECONDS, Facts, Figure, LeftOut, Measure, Starting
from engine.catalog import find_checkpoint
from engine.config import Precision
from minigpt_tui.cli.bench_table import NAMES, facts_lines, print_figures
from minigpt_tui.cli.options import Common, engine_device_option, model_option, pass_common
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.one_answer import ask

A = TypeVar("A")


@click.command()
@model_option
@engine_device_option
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(get_args(Precision)),
    help="Arithmetic; may be given several times.  [default: every one that the device can compute in]",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(MEASURES),
    help="What to measure; may be given several times.  [default: all]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, max=86400),
    default=SECONDS,
    show_default=True,
    metavar="N",
    help="How long it takes in all, about; longer measures better.",
)
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per line, as soon as it is measured.")
@pass_common
def bench(
    common: Common,
    /,
    precisions: tuple[str, ...],
    only: tuple[Measure, ...],
    seconds: float,
    as_lines: bool,
) -> None:
    """Measure how fast a model is on this machine, and what memory it takes.

    One text, with guesses read along and without, and eight together; reading a prompt of half a context; the wait for
    the first token behind a prompt of 200 characters; the loss on the model's own validation text, where that is here;
    the memory of a process that has loaded the model; and a training step of its shape.

    Each speed is the median of several rounds, and below it stands how far the rounds are from it: what else the
    machine does takes from all of them. ctrl+c ends it and prints what was measured so far.
    """
    if math.isnan(seconds):  # which is in no range, and out of none
        raise click.BadParameter("nan is no time", param_hint="'--seconds'")
    find_checkpoint(common.model)
    if not precisions and common.precision != "auto":
        precisions = (common.precision,)

    from engine.benchmarking.session import BenchRequest
    from engine.benchmarking.session import bench as measure

    request = BenchRequest(
        model=common.model,
        device=common.device,
        precisions=precisions,
        measures=only or MEASURES,
        seconds=seconds,
    )
    figures: list[Figure] = []
    progress = _Progress()
    try:
        progress.show("loading the model")
        for event in measure(request, _ask):
            progress.clear()
            match event:
                case Starting():
                    progress.show(f"measuring: {NAMES[event.measure]} {event.precision}")
                case LeftOut():
                    say(f"left out: {event.what}, as {event.why}")
                case Facts() if as_lines:
                    write_json({"kind": "facts", **msgspec.to_builtins(event)})
                case Figure() if as_lines:
                    write_json(_as_json(event))
                case Facts():
                    for line in facts_lines(event):
                        write_line(line)
                case Figure():
                    figures.append(event)
    finally:  # ctrl+c and errors too: what was measured is worth having
        progress.clear()
        print_figures(figures)


def _ask(module: str, request: Any, answer: type[A]) -> A:
    return asyncio.run(ask(module, request, answer))


def _as_json(figure: Figure) -> dict[str, Any]:
    plain = msgspec.to_builtins(figure)
    details = plain.pop("details")
    return {"kind": "figure", **plain, **details}


class _Progress:
    """A line on stderr that says what is done, where there is a terminal.

    It changes only when it is told to: what turns by itself would take its time from what is measured.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    def show(self, what: str) -> None:
        """Say what is done now."""
        self.clear()
        if self._console.is_terminal:
            self._console.print(what, end="", style="dim", no_wrap=True, overflow="ellipsis")

    def clear(self) -> None:
        """Leave the line empty, for others to write."""
        if self._console.is_terminal:
            self._console.control(Control((ControlType.ERASE_IN_LINE, 2), ControlType.CARRIAGE_RETURN))
