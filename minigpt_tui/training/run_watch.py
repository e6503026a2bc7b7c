"""Sees which runs there are and when one ends, for as long as the app is open. Knows nothing of screens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.training.runs import RunInfo, list_runs
from minigpt_tui.training.training_words import ending
from minigpt_tui.visible import visible_line

SECONDS = 1.0


async def watch_runs(seen: Callable[[tuple[RunInfo, ...]], None], ended: Callable[[RunInfo], None]) -> None:
    """Read the list of runs about once a second, in a thread: a disk may be slow.

    Args:
        seen: Told all runs, each time.
        ended: Told of each run that was under way when it was seen before, and is no more.
    """
    under_way: set[str] = set()
    while True:
        runs = tuple(await asyncio.to_thread(list_runs))
        seen(runs)
        for run in runs:
            if run.name in under_way and not run.is_under_way:
                ended(run)
        under_way = {run.name for run in runs if run.is_under_way}
        await asyncio.sleep(SECONDS)


def notification(run: RunInfo) -> str:
    """What has terminals show a message of their own (OSC 9), with nothing in it that could steer them."""
    message = f"{run.name} {ending(run)}" if run.state != "crashed" else f"{run.name} crashed: {run.reason}"
    return f"\x1b]9;{visible_line(message)}\x07"
