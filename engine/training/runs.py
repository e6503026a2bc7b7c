"""The training runs on this machine: which there are, whether they live, and what can be done to one from outside.
Everyone who can read a run's directory can ask; nobody has to be attached. Knows nothing of torch.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine import catalog, file_locks, folders, safe_writing
from engine.errors import CheckpointError, RunError, RunNotFoundError
from engine.file_names import is_same_entry
from engine.training import run_lock
from engine.training.run import UNDER_WAY, RunConfig, RunDirectory, State, Status
from engine.training.run_names import check_run_name

SILENT_SECONDS = 60.0
"""On another host, whose locks do not reach here, a run without a heartbeat for this long is taken as crashed."""

START_SECONDS = 20.0
"""Where a lock cannot be handed over, a run's process takes it this long after it was started, at the latest."""

LAST_WORDS_BYTES = 32_768
"""So much of a log's end is looked at for why a process ended."""

_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
"""How a line begins that the trainer logged, rather than Python or a library in trouble."""


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of runs shows of one.

    Attributes:
        state: As it is: a run that should be under way and that nobody drives has crashed.
        reason: Why it crashed, or what is wrong with its directory.
        hint: What to do about that.
        config: Its settings; None when they cannot be read.
        status: What its trainer wrote last.
    """

    name: str
    path: Path
    state: State
    reason: str = ""
    hint: str = ""
    config: RunConfig | None = None
    status: Status

    @property
    def is_under_way(self) -> bool:
        """Whether a process drives it."""
        return self.state in UNDER_WAY

    @property
    def loss(self) -> float | None:
        """The loss to judge it by: the best validation loss, or the training loss before the first evaluation."""
        return self.status.train_loss if self.status.best_val_loss is None else self.status.best_val_loss

    @property
    def changed(self) -> float:
        """When it last did something, in seconds since 1970."""
        return self.status.heartbeat or (self.config.created if self.config else 0.0)


def list_runs() -> list[RunInfo]:
    """All runs, the latest first: those under way by when they were made, then the others by when they ended."""

    def place(run: RunInfo) -> tuple[bool, float, str]:
        # a run under way gives a sign of life each second, by which a list would never come to rest
        when = run.config.created if run.is_under_way and run.config else run.changed
        return not run.is_under_way, -when, run.name

    return sorted(map(read_run, _run_folders()), key=place)


def _run_folders() -> Iterator[Path]:
    try:
        children = sorted(folders.runs_folder().iterdir())
    except OSError:
        return
    yield from (path for path in children if path.is_dir() and not path.name.startswith("."))


def find_run(name: str) -> Path:
    """The directory of a run.

    Raises:
        RunNotFoundError: There is none of that name; the nearest or all names are in the hint.
    """
    known = [path.name for path in _run_folders()]
    if name in known:
        return folders.runs_folder() / name
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none yet'}"
    raise RunNotFoundError(f"there is no run {name!r}", hint)


def read_run(path: Path) -> RunInfo:
    """What can be said of a run; what is wrong with its directory comes back as its reason, not as an error."""
    run = RunDirectory(path)
    config = None
    try:
        config = run.read_config()
        status = run.read_status()
        is_lost = status.state in UNDER_WAY and not _is_driven(path, status)
        if is_lost:
            status = run.read_status()  # it may have ended between the two looks
    except RunError as error:
        return RunInfo(
            name=path.name,
            path=path,
            state="crashed",
            reason=error.message,
            hint=error.hint,
            config=config,
            status=Status(state="crashed"),
        )
    state, reason, hint = status.state, status.reason, status.hint
    if is_lost and state in UNDER_WAY:
        reason = _why_it_died(path, status)
        state, hint = "crashed", f"minigpt-tui runs resume {path.name}"
    return RunInfo(name=path.name, path=path, state=state, reason=reason, hint=hint, config=config, status=status)


def _is_driven(path: Path, status: Status) -> bool:
    silent = time.time() - status.heartbeat
    if status.host not in ("", socket.gethostname()) or not file_locks.can_lock():
        return silent < SILENT_SECONDS
    if run_lock.is_held(path):
        return True
    return status.state == "starting" and silent < START_SECONDS and not run_lock.can_be_handed_over()


def _why_it_died(path: Path, status: Status) -> str:
    """The last words in its log where those say so, or that it was killed."""
    ended = f"its process ended at step {status.step} without a word: it was killed, or the machine went down"
    try:
        with (path / "log.txt").open("rb") as file:
            file.seek(max(0, (path / "log.txt").stat().st_size - LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ended
    said = list(itertools.takewhile(lambda line: not _LOGGED.match(line), reversed(lines)))  # by no trainer in order
    if fault := next((line for line in said if line.startswith("Fatal Python error")), ""):
        return fault  # the stacks of all threads follow it
    last = next((line.strip() for line in (said if any(said) else reversed(lines)) if line.strip()), "")
    signs = ("crashed at step",) if _LOGGED.match(last) else ("Error", "error", "Killed", "fault", "terminate")
    return _LOGGED.sub("", last) if any(sign in last for sign in signs) else ended


def rename_run(name: str, new_name: str) -> Path:
    """Give a run another name, by which its models go from then on.

    Raises:
        RunError: It is under way, there is none, or the new name is taken or none for a run.
    """
    path = find_run(name)
    check_run_name(new_name)
    target = path.with_name(new_name)
    with _nobody_drives(path, "renamed"):
        if target.exists() and not is_same_entry(target, path):
            raise RunError(f"there is a run {new_name} already", "choose another name")
        try:
            safe_writing.patiently(lambda: path.rename(target))
        except OSError as error:
            hint = safe_writing.what_to_do(error)
            raise RunError(f"{path} cannot be renamed ({error.strerror})", hint) from None
        run = RunDirectory(target)
        run.write_config(msgspec.structs.replace(run.read_config(), name=new_name))
    return target


def remove_run(name: str) -> None:
    """Delete a run and all its checkpoints.

    Raises:
        RunError: It is under way, there is none, or it cannot be deleted.
    """
    path = find_run(name)
    with _nobody_drives(path, "removed"):
        try:
            safe_writing.remove_directory(path)
        except OSError as error:
            hint = safe_writing.what_to_do(error)
            raise RunError(f"{path} cannot be removed ({error.strerror})", hint) from None


@contextlib.contextmanager
def _nobody_drives(path: Path, what: str) -> Iterator[None]:
    """While it is entered, no process can begin to drive the run."""
    refusal = RunError(f"the run {path.name} is under way and cannot be {what}", f"minigpt-tui runs stop {path.name}")
    if read_run(path).is_under_way:
        raise refusal
    lock = run_lock.take(path)
    if lock is None:
        raise refusal
    try:
        yield
    finally:
        os.close(lock)


def prune_run(path: Path) -> tuple[int, int]:
    """Remove a run's checkpoints but the best and the last, under way or not.

    Returns:
        How many went, and the bytes that they took.

    Raises:
        RunError: One cannot be removed.
        CheckpointError: The folder cannot be read.
    """
    checkpoints = catalog.run_checkpoints(path)
    keep = {found for which in ("best", "last") if (found := catalog.run_checkpoint(path, which))}
    count = size = 0
    for checkpoint in checkpoints:
        if checkpoint in keep:
            continue
        freed = disk_use(checkpoint)
        try:
            safe_writing.remove_directory(checkpoint)
        except FileNotFoundError:  # the trainer was quicker
            continue
        except OSError as error:
            hint = safe_writing.what_to_do(error)
            raise RunError(f"{checkpoint} cannot be removed ({error.strerror})", hint) from None
        count, size = count + 1, size + freed
    return count, size


def checkpoint_steps(run: Path) -> tuple[int, ...]:
    """The steps of a run's checkpoints, by the names of their folders alone."""
    try:
        names = [name for name in os.listdir(run / "checkpoints") if name.startswith("step-")]  # noqa: PTH208
    except OSError:
        return ()
    return tuple(sorted(int(digits) for name in names if (digits := name.removeprefix("step-")).isdecimal()))


def list_run_checkpoints(first: str = "") -> list[tuple[str, str]]:
    """The checkpoints of all runs by the names of their models, and what is known of each in words.

    Args:
        first: The run whose checkpoints come first.
    """
    found = []
    for run in sorted(list_runs(), key=lambda run: run.name != first):
        try:
            paths = catalog.run_checkpoints(run.path)
            best = catalog.run_checkpoint(run.path, "best")
        except CheckpointError as error:
            found.append((run.name, error.message))
            continue
        if best is None:
            continue
        found += [
            (f"{run.name}:best", _checkpoint_facts(best, at=True)),
            (f"{run.name}:last", _checkpoint_facts(paths[-1], at=True)),
            *((f"{run.name}:{path.name}", _checkpoint_facts(path)) for path in reversed(paths)),
        ]
    return found


def next_checkpoint(model: str, direction: int) -> str | None:
    """The checkpoint of the same run before or after a model.

    Args:
        model: RUN:step-N, RUN:best, RUN:last or RUN.
        direction: -1 or 1.

    Returns:
        Its name; None where there is none.

    Raises:
        CheckpointError: The model is no checkpoint of a run, or its run cannot be read.
    """
    run, _, which = model.partition(":")
    paths: list[Path] = []
    path = None
    with contextlib.suppress(RunNotFoundError):
        folder = find_run(run)
        paths, path = catalog.run_checkpoints(folder), catalog.run_checkpoint(folder, which or "best")
    if path is None or path not in paths:
        raise CheckpointError(f"{model or 'the default model'} is no checkpoint of a run", "choose a run's checkpoints")
    place = paths.index(path) + direction
    return f"{run}:{paths[place].name}" if 0 <= place < len(paths) else None


def _checkpoint_facts(path: Path, *, at: bool = False) -> str:
    try:
        loss = catalog.read_record(path).losses.get("val")
    except CheckpointError as error:
        return f"damaged: {error.message}"
    facts = [f"step {path.name.removeprefix('step-')}"] if at else []
    if loss is not None:
        facts.append(f"validation loss {loss:.4f}")
    return " · ".join(facts)


def disk_use(path: Path) -> int:
    """Bytes of all files under a directory."""
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:  # gone in between
            continue
    return total


def free_space(path: Path) -> int:
    """Bytes that are free where a directory is."""
    return shutil.disk_usage(path).free
