"""Locks that die with whoever holds them, by what this system has: flock, the byte ranges of Windows, or nothing. Knows
nothing of what is locked.

With flock a lock is held on the very file or directory. Windows opens no directories, and neither renames nor removes
what has an open file in it: there a byte of one file, in the state folder, stands for each path.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

from engine import folders
from engine.system_modules import find

PLACES = "locks"
"""The file whose bytes are locked. It stays empty: a byte behind a file's end can be locked as well."""

_MOST_PLACES = 1 << 30  # the place of a lock is a C long
_POLL_SECONDS = 0.02

fcntl, msvcrt = find("fcntl"), find("msvcrt")


def can_lock() -> bool:
    """Whether there are locks at all. Else whatever is asked for is granted, and who lives must be told otherwise."""
    return fcntl is not None or msvcrt is not None


def can_share() -> bool:
    """Whether several can hold a shared lock, and a lock can be handed to another process with its descriptor."""
    return fcntl is not None


def are_of_names() -> bool:
    """Whether a lock is that of a name, which need not be there, rather than of the file or directory behind it."""
    return fcntl is None


def open_lock(path: Path, flags: int = os.O_RDONLY) -> int | None:
    """Open what the lock of a file or directory is held on, in private; closing it lets go of the lock.

    Args:
        path: The file or directory.
        flags: How it is opened, where it is opened itself.

    Returns:
        A file descriptor, that no process inherits; None on a system without locks.

    Raises:
        OSError: It is not there, or cannot be opened.
    """
    if fcntl is not None:
        return os.open(path, flags, 0o600)
    if msvcrt is None:
        return None
    descriptor = os.open(folders.private(folders.state_home()) / PLACES, os.O_RDWR | os.O_CREAT, 0o600)
    os.lseek(descriptor, _place(path), os.SEEK_SET)
    return descriptor


def _place(path: Path) -> int:
    """The byte that stands for a path, however it is spelled."""
    name = os.path.normcase(os.path.realpath(path))
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8]) % _MOST_PLACES


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take a lock without waiting; whether it could be had.

    Args:
        descriptor: Of `open_lock`.
        shared: With others that share it; where `can_share`.

    Raises:
        OSError: It cannot be locked, whoever holds it: its file system has no locks.
    """
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    if msvcrt is None or shared:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except PermissionError:  # Windows' word for a byte that is locked
        return False
    return True


def lock(descriptor: int) -> None:
    """Take a lock, however long that takes.

    Raises:
        OSError: As `try_lock`.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    while not try_lock(descriptor):  # Windows' own waiting looks once a second, and gives up after ten
        time.sleep(_POLL_SECONDS)
