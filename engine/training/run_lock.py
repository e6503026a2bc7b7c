"""The lock that tells who drives a training run: it dies with its owner, so nobody has to clear it away. It is held on
an open file, which a launcher can hand to the process that it starts. Knows nothing of what is trained.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = "lock"
LOCK_VARIABLE = "MINIGPT_RUN_LOCK"
"""Names the descriptor of a lock that a launcher took and handed over."""

PATIENCE_SECONDS = 1.0
"""How long `take` waits: whoever only asks whether a run is driven holds its lock for a moment."""


def take(run: Path) -> int | None:
    """Take the lock of a run's directory.

    Returns:
        An open file descriptor, which holds the lock until it and all its copies in other processes are closed; None
        when another process drives the run.

    Raises:
        OSError: The lock's file cannot be made.
    """
    descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + PATIENCE_SECONDS
    while not _try(descriptor):
        if time.monotonic() > until:
            os.close(descriptor)
            return None
        time.sleep(0.01)
    return descriptor


def take_over() -> int | None:
    """The lock that this process's launcher took for it, or None when it did not."""
    inherited = os.environ.pop(LOCK_VARIABLE, "")
    if not inherited.isdecimal():
        return None
    os.set_inheritable(int(inherited), False)
    return int(inherited)


def is_held(run: Path) -> bool:
    """Whether a process on this machine drives the run."""
    try:
        descriptor = os.open(run / LOCK, os.O_RDWR)
    except OSError:  # never taken, or of another user
        return False
    try:
        return not _try(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
