"""Sees which runs there are and when one ends, for as long as the app is open. Knows nothing of screens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.errors import MiniGPTError
from engine.training.runs import RunInfo
from minigpt_tui.machine import Machine
from minigpt_tui.training.training_words import ending
from minigpt_tui.visible import visible_line

SECONDS = 1.0


async def watch_runs(
    machine: Machine, seen: Callable[[tuple[RunInfo, ...]], None], ended: Callable[[RunInfo], None]
) -> None:
    """Read the list of runs about once a second.

    Args:
        machine: Whose runs they are.
        seen: Told all runs, each time.
        ended: Told of each run that was under way when it was seen before, and is no more.
    """
    under_way: set[str] = set()
    known = False
    while True:
        await asyncio.sleep(SECONDS if known else 0.0)
        known = True
        try:
            runs = await machine.list_runs()
        except MiniGPTError:  # the link to it is lost, which is said elsewhere; the runs go on
            continue
        seen(runs)
        for run in runs:
            if run.name in under_way and not run.is_under_way:
                ended(run)
        under_way = {run.name for run in runs if run.is_under_way}


def notification(run: RunInfo) -> str:
    """What has terminals show a message of their own (OSC 9), with nothing in it that could steer them."""
    message = f"{run.name} {ending(run)}" if run.state != "crashed" else f"{run.name} crashed: {run.reason}"
    return f"\x1b]9;{visible_line(message)}\x07"
