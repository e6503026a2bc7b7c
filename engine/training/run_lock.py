"""The lock that tells who drives a training run: it dies with its owner, so nobody has to clear it away. It is held on
an open file, which a launcher can hand to the process that it starts. Knows nothing of what is trained.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from engine import file_locks

LOCK = "lock"
LOCK_VARIABLE = "MINIGPT_RUN_LOCK"
"""Names the descriptor of a lock that a launcher took and handed over; or is `TO_TAKE`."""

TO_TAKE = "none"
"""Where a lock cannot be handed over: the launcher held it before, and the process is the next one to take it."""

PATIENCE_SECONDS = 1.0
"""How long `take` waits: whoever only asks whether a run is driven holds its lock for a moment."""


def take(run: Path) -> int | None:
    """Take the lock of a run's directory.

    Returns:
        An open file descriptor, which holds the lock until it and all its copies in other processes are closed; None
        when another process drives the run. On a system without locks nobody is told that.

    Raises:
        OSError: The lock's file cannot be made.
    """
    descriptor = file_locks.open_lock(run / LOCK, os.O_RDWR | os.O_CREAT)
    if descriptor is None:
        return os.open(os.devnull, os.O_RDONLY)
    until = time.monotonic() + PATIENCE_SECONDS
    while not _try(descriptor):
        if time.monotonic() > until:
            os.close(descriptor)
            return None
        time.sleep(0.01)
    return descriptor


def can_be_handed_over() -> bool:
    """Whether a process can hold a run's lock from its very start, as its launcher took it."""
    return file_locks.can_share()


def take_over() -> int | None:
    """The lock that this process's launcher took for it, or None when it did not."""
    inherited = os.environ.pop(LOCK_VARIABLE, "")
    if not inherited.isdecimal():
        return None
    os.set_inheritable(int(inherited), False)
    return int(inherited)


def is_held(run: Path) -> bool:
    """Whether a process on this machine drives the run; false on a system without locks."""
    try:
        descriptor = file_locks.open_lock(run / LOCK, os.O_RDWR)
    except OSError:  # never taken, or of another user
        return False
    if descriptor is None:
        return False
    try:
        return not _try(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return file_locks.try_lock(descriptor)
    return False
