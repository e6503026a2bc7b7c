"""The checkpoints of a run as columns: some of them, evenly chosen from the first to the last. Reads directories; knows
nothing of torch or screens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from engine import folders
from engine.catalog import run_checkpoints
from engine.errors import CheckpointError
from engine.training.runs import list_runs

T = TypeVar("T")


class RunFacts(NamedTuple):
    """A run whose checkpoints can be compared.

    Attributes:
        checkpoints: The names of its checkpoints' models, the first step first.
    """

    name: str
    checkpoints: tuple[str, ...]


def evenly(items: Sequence[T], count: int) -> list[T]:
    """So many items at even distances, the first and the last among them; all where there are no more."""
    if len(items) <= count:
        return list(items)
    last = len(items) - 1
    return [items[round(place * last / (count - 1))] for place in range(count)]


def checkpoint_names(run: str) -> list[str]:
    """The models of a run's checkpoints, the first step first.

    Raises:
        CheckpointError: Its folder cannot be read.
    """
    return [f"{run}:{path.name}" for path in run_checkpoints(folders.runs_folder() / run)]


def runs_to_compare() -> list[RunFacts]:
    """The runs that have two checkpoints or more, the latest run first; those that cannot be read are left out."""
    found = []
    for run in list_runs():
        try:
            names = checkpoint_names(run.name)
        except CheckpointError:
            continue
        if len(names) > 1:
            found.append(RunFacts(run.name, tuple(names)))
    return found


def runs_told(checkpoints: Iterable[tuple[str, str]]) -> list[RunFacts]:
    """The same of another machine's runs, from its list of their checkpoints.

    Args:
        checkpoints: RUN:step-N, RUN:best or RUN:last, and what is known of each.
    """
    steps: dict[str, list[tuple[int, str]]] = {}
    for name, _ in checkpoints:
        run, _, which = name.rpartition(":")
        if (step := which.removeprefix("step-")).isdecimal():
            steps.setdefault(run, []).append((int(step), name))
    return [RunFacts(run, tuple(name for _, name in sorted(found))) for run, found in steps.items() if len(found) > 1]
