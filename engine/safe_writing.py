"""Files and directories that are there whole or not at all, at whatever byte their writing is cut short. Knows nothing
of what is in them.

What is being written has a hidden name, `.NAME.writing-XXXX`, and a lock that dies with its writer; what a killed
writer left is cleared away by the next one. Where two directories cannot change places in one step, the old one is
`.NAME.old-XXXX` for the moment between two renames, and `recover` brings it back after a kill in that moment.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from engine import file_locks

T = TypeVar("T")

OPEN_FILES_STAY = os.name == "nt"
"""Whether what is open, or mapped, can be neither replaced nor renamed nor removed, nor the directories above it. Then
readers and programs that look through all files are in the way of a writer for a moment, and it tries again."""

PATIENCE_SECONDS = 2.0
"""For how long it does."""

_WRITING, _OLD = ".writing-", ".old-"

_NO_LOCKS_SECONDS = 3600.0
"""On a system without locks, what nobody has changed for this long is taken as abandoned."""

_READERS_SYNC = os.name == "posix"
"""Whether a file can be synced that is open for reading, and a directory be opened at all."""


def write_file(path: Path, data: bytes) -> None:
    """Write a file, or replace it, in one step.

    Raises:
        OSError: It cannot be written; what was there is there still.
    """
    with new_file(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """The name of a file to write; once the block ends well, it is at `path` in one step, in place of what was there.

    Raises:
        OSError: It cannot be written; what was there is there still.
    """
    with _half_written(path) as folder:
        temporary = folder / path.name
        yield temporary
        sync(temporary)
        put(temporary, path)
        sync(path.parent)


@contextlib.contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty directory to fill, private to the user; once the block ends well, it is at `path` in one step.

    Args:
        path: Where it will be. What a symbolic link points to is replaced, not the link.
        replace: Whether it takes the place of a directory that is there already.

    Raises:
        OSError: It cannot be written, or something is there; then what was there is there still.
    """
    path = Path(os.path.realpath(path))
    with _half_written(path) as folder:
        yield folder
        for inside in sorted(folder.rglob("*")):
            sync(inside)
        sync(folder)
        if replace and path.exists():
            _replace(folder, path)
        else:
            patiently(lambda: folder.rename(path))
        sync(path.parent)


def remove_directory(path: Path) -> None:
    """Delete a directory: it is gone from its name at once, and never half there.

    Raises:
        OSError: It cannot be renamed or deleted.
    """
    with _half_written(path) as folder:
        patiently(lambda: path.rename(folder / path.name))
        sync(path.parent)
        patiently(lambda: shutil.rmtree(folder / path.name))


def put(temporary: Path, path: Path) -> None:
    """Give a file that is written the name of another, which it replaces in one step.

    Raises:
        OSError: It cannot; both are as they were.
    """
    patiently(lambda: temporary.replace(path))


def read(path: Path) -> bytes:
    """What is in a file that may be replaced at this moment.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    return patiently(path.read_bytes)


def patiently(work: Callable[[], T]) -> T:
    """Do something with files, and again for a while where somebody who has them open may be in the way.

    Raises:
        OSError: It cannot be done.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return work()
        except PermissionError:
            if not OPEN_FILES_STAY or time.monotonic() > until:
                raise
        time.sleep(0.02)


def what_to_do(error: OSError) -> str:
    """What a user can do about something that cannot be written, renamed or removed."""
    if OPEN_FILES_STAY and isinstance(error, PermissionError):
        return "close the programs that have it open, then try again"
    return "see whose it is, with ls -l"


def recover(path: Path) -> None:
    """Bring back the directory that was at `path` when the writer of its successor was killed between two renames."""
    try:
        if path.exists() or path.is_symlink():
            return
    except OSError:  # a name longer than the file system's, a folder that may not be looked into
        return
    for old in _beside(path, _OLD):
        with _abandoned(old) as is_abandoned:
            if not is_abandoned:
                continue
            with contextlib.suppress(OSError):  # a folder that cannot be changed, or another process was faster
                old.rename(path)
                sync(path.parent)
            return


def recover_all(folder: Path) -> None:
    """`recover` every name of a folder."""
    for name in _names(folder):
        if match := re.fullmatch(rf"\.(.+){re.escape(_OLD)}\w+", name):
            recover(folder / match[1])


def clear_abandoned(folder: Path) -> None:
    """Remove what killed writers left in a folder, under any name."""
    for name in _names(folder):
        if re.fullmatch(rf"\..+{re.escape(_WRITING)}\w+", name):
            _clear(folder / name)


def sync(path: Path) -> None:
    """Wait until what a file or directory holds is on the disk."""
    if not _READERS_SYNC and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if _READERS_SYNC else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _half_written(path: Path) -> Iterator[Path]:
    """A hidden directory beside `path` for what is on its way there; what is still in it at the end is removed."""
    for abandoned in (*_beside(path, _WRITING), *(_beside(path, _OLD) if path.exists() else ())):
        _clear(abandoned)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}{_WRITING}", dir=path.parent))
        with contextlib.ExitStack() as lock:
            with contextlib.suppress(FileNotFoundError):
                lock.enter_context(locked(folder))
            if not folder.exists():
                continue  # cleared away by another writer, in the moment before it was locked
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def _replace(new: Path, path: Path) -> None:
    """Put a directory in the place of another, which ends at the name `new` or is removed."""
    if _exchange(new, path):
        return
    old = path.with_name(new.name.replace(_WRITING, _OLD))
    with locked(old if file_locks.are_of_names() else path):  # a directory's own lock goes with it to its new name
        patiently(lambda: path.rename(old))
        try:
            patiently(lambda: new.rename(path))
        finally:
            if not path.exists():
                patiently(lambda: old.rename(path))
        sync(path.parent)
        patiently(lambda: old.rename(new))  # under its old name, `recover` would take it for what is missing


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; false where the system or its file system cannot."""
    if sys.platform != "linux":
        return False
    import ctypes  # here, as those who only read models need not wait for it

    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that tells other processes that the writer of a directory lives."""
    descriptor = file_locks.open_lock(path)
    if descriptor is None:
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then nothing is taken as abandoned
            file_locks.lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _clear(path: Path) -> None:
    """Remove a directory whose writer is gone."""
    with _abandoned(path) as is_abandoned:
        if is_abandoned:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Whether the writer of a directory is gone. If so, its lock is held meanwhile: whoever has just made it, and has
    yet to lock it, waits, and finds it gone.
    """
    descriptor = None
    try:
        try:
            descriptor = file_locks.open_lock(path)
            if descriptor is None:
                is_abandoned = time.time() - path.stat().st_mtime > _NO_LOCKS_SECONDS
            else:
                is_abandoned = file_locks.try_lock(descriptor)
        except OSError:
            is_abandoned = False
        yield is_abandoned
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _beside(path: Path, mark: str) -> list[Path]:
    """What writers of `path` left beside it."""
    pattern = re.compile(re.escape(f".{path.name}{mark}") + r"\w+")
    return [path.parent / name for name in _names(path.parent) if pattern.fullmatch(name)]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
