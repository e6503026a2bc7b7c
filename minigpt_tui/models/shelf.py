"""Which models there are on this machine: one's own, the bundled ones, the runs with their checkpoints, the folders
that were added. They are found and read a little at a time, in a thread; what has not changed is not read again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from engine import catalog, folders
from engine.catalog import CheckpointInfo
from engine.errors import CheckpointError
from engine.model_folders import added_folders

BUDGET = 0.02
"""Seconds that one look takes, about, beside finding out which models there are."""

SCAN_SECONDS = 2.0
"""Seconds after which it is looked again which models there are."""

SCAN_SHARE = 20
"""Where that takes long, it is done in a twentieth of the time at most."""

Kind = Literal["own", "bundled", "run", "milestone", "added"]
Stamp = tuple[int, int] | None
Signature = tuple[Stamp, ...]
Ends = Callable[[Path, list[Path]], tuple[str, str]]
"""Tells the names of a run's best and last checkpoints, from its directory and its checkpoints."""


@dataclass(frozen=True)
class Model:
    """A model that was found.

    Attributes:
        key: By which it is told from others: its path, or that of its run.
        name: By which it is asked for: a name, RUN, RUN:step-N, or a path where the name is another's.
        label: What it is called in the list.
        path: Its directory; of a run, its best checkpoint's.
        kind: Where it is from.
        run: The name of its run; empty for none.
        tags: `best`, `last`, or both.
        checkpoints: How many there are of a run.
        info: What is known of it; None until it was read.
    """

    key: str
    name: str
    label: str
    path: Path
    kind: Kind
    group: str
    run: str = ""
    tags: str = ""
    checkpoints: int = 0
    info: CheckpointInfo | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it stands for a folder that has no models to list."""
        return self.key.endswith("/")

    @property
    def problem(self) -> str:
        """What is wrong with it."""
        return self.info.problem if self.info is not None else ""


OWN, BUNDLED, RUNS = "your own", "bundled", "runs"


class ModelShelf:
    """Knows all models, as of the last look. Only one thread at a time may call it."""

    def __init__(self) -> None:
        self._models: list[Model] = []
        self._unread: list[int] = []
        self._infos: dict[Path, tuple[Signature, CheckpointInfo]] = {}
        # Of each run: what its best and its last were found from, and their names.
        self._best: dict[Path, tuple[list[tuple[str, Stamp]], tuple[str, str]]] = {}
        self._scan_at = 0.0
        self._told: tuple[Model, ...] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all that was found has been read."""
        return not self._unread and self._told is not None

    def look_again(self) -> None:
        """Have the next look find out anew which models there are."""
        self._scan_at = 0.0

    def look(self, seconds: float = BUDGET) -> tuple[Model, ...] | None:
        """Find and read for a while.

        Returns:
            All models in the order of the list, when something has changed; None otherwise.
        """
        if not self._unread and time.monotonic() >= self._scan_at:
            self._scan()
        end = time.monotonic() + seconds
        while self._unread and time.monotonic() < end:
            place = self._unread.pop()
            self._models[place] = replace(self._models[place], info=self._read(self._models[place]))
        found = tuple(self._models)
        if found == self._told:
            return None
        self._told = found
        return found

    def _scan(self) -> None:
        began = time.monotonic()
        self._models = list(_found(self._ends))
        alive = {model.path for model in self._models}
        self._infos = {path: known for path, known in self._infos.items() if path in alive}
        self._unread = []
        for place, model in enumerate(self._models):
            if model.info is None:
                known = self._infos.get(model.path)
                if known is not None and known[0] == _signature(model.path):
                    self._models[place] = replace(model, info=_named(known[1], model.name))
                else:
                    self._unread.append(place)
        self._unread.reverse()  # the first are read first
        now = time.monotonic()
        self._scan_at = now + max(SCAN_SECONDS, SCAN_SHARE * (now - began))

    def _read(self, model: Model) -> CheckpointInfo:
        signature = _signature(model.path)
        info = catalog.read_info(model.path, model.name)
        self._infos[model.path] = signature, info
        return info

    def _ends(self, run: Path, checkpoints: list[Path]) -> tuple[str, str]:
        """The names of a run's best and last checkpoints, found anew where one of them has changed."""
        seen = [(path.name, _stamp(path / catalog.RECORD)) for path in checkpoints]
        known = self._best.get(run)
        if known is None or known[0] != seen:
            best, last = (catalog.run_checkpoint(run, which) for which in ("best", "last"))
            known = self._best[run] = seen, (best.name if best else "", last.name if last else "")
        return known[1]


def _found(ends: Ends) -> Iterator[Model]:
    """Every model, unread, in the order of the list: each run before its checkpoints, the last of these first."""
    taken: set[str] = set()
    yield from _in_folder(folders.user_checkpoints(), "own", OWN, taken)
    yield from _in_folder(folders.bundled_checkpoints(), "bundled", BUNDLED, taken)
    added = [model for folder in added_folders() for model in _in_folder(folder, "added", str(folder), taken)]
    yield from _in_runs(ends, taken)  # a name that is a model's is no longer a run's
    yield from added


def _in_folder(folder: Path, kind: Kind, group: str, taken: set[str]) -> Iterator[Model]:
    """The models of a checkpoint folder; what is wrong with the folder stands in their place."""
    if kind == "added" and not folder.is_dir():
        yield _lost(folder, kind, group, "the folder is not there")
        return
    try:
        paths = [path for path in catalog.models_in(folder) if catalog.is_checkpoint(path)]
    except CheckpointError as error:
        yield _lost(folder, kind, group, str(error))
        return
    if kind == "added" and not paths:
        yield _lost(folder, kind, group, "there is no model in it: one is a folder with config.json beside its weights")
    for path in paths:
        name = str(path) if path.name in taken else path.name
        taken.add(path.name)
        yield Model(str(path), name, path.name, path, kind, group)


def _lost(folder: Path, kind: Kind, group: str, problem: str) -> Model:
    """What is listed of a folder that has no models to list."""
    info = CheckpointInfo(name=folder.name, path=str(folder), problem=problem)
    return Model(f"{folder}/", str(folder), folder.name or str(folder), folder, kind, group, info=info)


def _in_runs(ends: Ends, taken: set[str]) -> Iterator[Model]:
    """The runs that have a checkpoint, by their names, and behind each its checkpoints."""
    try:
        runs = sorted(
            path for path in folders.runs_folder().iterdir() if not path.name.startswith(".") and path.is_dir()
        )
    except OSError:
        return
    for run in runs:
        try:
            checkpoints = catalog.run_checkpoints(run)
            best, last = ends(run, checkpoints) if checkpoints else ("", "")
        except CheckpointError as error:
            info = CheckpointInfo(name=run.name, path=str(run), problem=str(error))
            yield Model(str(run), run.name, run.name, run, "run", RUNS, run.name, info=info)
            continue
        if not checkpoints:
            continue
        name = f"{run.name}:best" if run.name in taken else run.name
        path = run / "checkpoints" / best
        yield Model(str(run), name, run.name, path, "run", RUNS, run.name, checkpoints=len(checkpoints))
        for path in reversed(checkpoints):
            tags = ", ".join(tag for tag, which in (("best", best), ("last", last)) if path.name == which)
            yield Model(str(path), f"{run.name}:{path.name}", path.name, path, "milestone", RUNS, run.name, tags)


def _named(info: CheckpointInfo, name: str) -> CheckpointInfo:
    return info if info.name == name else msgspec.structs.replace(info, name=name)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _signature(path: Path) -> Signature:
    """What changes when a model does."""
    return tuple(_stamp(path / name) for name in ("", catalog.CONFIG, catalog.WEIGHTS, catalog.RECORD))
