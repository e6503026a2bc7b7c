"""Encoded texts on disk: entries that are whole or not there, in use or free to go, and no more of them than there is
room for; and the hashes of files that have not changed since. Knows nothing of what tokens mean.

An entry is a directory under `cache_home() / "corpora"`, with `entry.json` beside its files. Its own time of change
is when it was last used, and who maps it holds a shared lock on it that dies with its process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from engine import file_locks, folders, safe_writing
from engine.errors import DataError
from engine.text.pieces import checked_sha256

LAYOUT = 1
"""Of an entry's files; another is another key."""

MOST_BYTES = 20 << 30
"""All entries together are no larger than that."""

FREE_SHARE = 0.1
"""Nor than this share of what the disk could have free without them."""

_CONTENTS = "entry.json"
_HASHES = "files.json"
_MOST_HASHES = 10_000
_RACY_NANOSECONDS = 2_000_000_000
_PROBES, _PROBE_BYTES = 64, 4096


def entries_folder() -> Path:
    """Where entries are."""
    return folders.cache_home() / "corpora"


class Contents(msgspec.Struct, frozen=True):
    """What an entry should hold.

    Attributes:
        sizes: Of its files, in bytes.
        probes: For each the sha256 of a few blocks, spread over it.
    """

    sizes: dict[str, int]
    probes: dict[str, str]


class Lease:
    """The right to read an entry: it is not removed while this object lives."""

    def __init__(self, descriptor: int | None) -> None:
        """Keep a lock.

        Args:
            descriptor: An open file that holds it; None on a system without shared locks.
        """
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)


def lease(entry: Path) -> Lease | None:
    """Begin to use an entry; None when there is none."""
    if not entry.is_dir():
        return None
    descriptor = None
    # Windows shares no locks, and removes no file that is mapped.
    if file_locks.can_share() and (descriptor := _lock(entry, shared=True)) is None:
        return None
    with contextlib.suppress(OSError):  # a folder of another user
        os.utime(entry)
    return Lease(descriptor)


def is_whole(entry: Path) -> bool:
    """Whether all files of an entry are there in full; of long ones a part is looked at."""
    try:
        contents = msgspec.json.decode((entry / _CONTENTS).read_bytes(), type=Contents)
        if any((entry / name).stat().st_size != size for name, size in contents.sizes.items()):
            return False
        return all(_probe(entry / name) == sha256 for name, sha256 in contents.probes.items())
    except (OSError, msgspec.DecodeError):
        return False


@contextlib.contextmanager
def new_entry(entry: Path) -> Iterator[Path]:
    """A directory to fill with what belongs into an entry; once the block ends well, it is the entry.

    When another process has made the same entry meanwhile, that one stays.

    Raises:
        DataError: It cannot be written.
    """
    try:
        folders.private(entry.parent)
        safe_writing.clear_abandoned(entry.parent)
        with safe_writing.new_directory(entry) as folder:
            yield folder
            files = sorted(path for path in folder.iterdir() if path.is_file())
            contents = Contents(
                {file.name: file.stat().st_size for file in files}, {file.name: _probe(file) for file in files}
            )
            (folder / _CONTENTS).write_bytes(msgspec.json.encode(contents))
    except OSError as error:
        if entry.is_dir():
            return
        hint = f"{error.strerror or error}; MINIGPT_HOME names another place"
        raise DataError(f"the encoded text cannot be written to {entry.parent}", hint) from error


def discard(entry: Path) -> None:
    """Remove an entry that is damaged, also while others still map its files: they keep theirs.

    Raises:
        DataError: It cannot be removed.
    """
    try:
        safe_writing.remove_directory(entry)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        raise DataError(f"{entry} is damaged and cannot be removed", error.strerror or str(error)) from error


def make_room() -> None:
    """Remove the entries that were not used for the longest, until the others have room; none that is in use."""
    entries = []
    for path in entries_folder().iterdir():
        with contextlib.suppress(OSError):  # removed by another process
            if path.is_dir() and not path.name.startswith("."):
                size = sum(file.stat().st_size for file in path.iterdir())
                entries.append((path.stat().st_mtime_ns, path, size))
    taken = sum(size for *_, size in entries)
    room = min(MOST_BYTES, FREE_SHARE * (shutil.disk_usage(entries_folder()).free + taken))
    for _, path, size in sorted(entries):
        if taken <= room:
            return
        if _remove(path):
            taken -= size


def _remove(entry: Path) -> bool:
    """Remove an entry that nobody uses."""
    descriptor = None
    if file_locks.can_share() and (descriptor := _lock(entry, shared=False)) is None:
        return False
    try:
        safe_writing.remove_directory(entry)
    except OSError:  # of another user, or mapped on Windows: it stays
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def _lock(entry: Path, *, shared: bool) -> int | None:
    """Lock an entry without waiting; None when it is locked against that, or no longer there."""
    try:
        descriptor = file_locks.open_lock(entry)
    except OSError:
        return None
    if descriptor is None:
        return None
    with contextlib.suppress(OSError):  # removed meanwhile
        if _try_lock(descriptor, shared=shared) and os.path.samestat(os.fstat(descriptor), entry.stat()):
            return descriptor
    os.close(descriptor)
    return None


def _try_lock(descriptor: int, *, shared: bool) -> bool:
    try:
        return file_locks.try_lock(descriptor, shared=shared)
    except OSError:  # a file system without locks: everything is read there, and nothing removed
        return shared


def _probe(file: Path) -> str:
    """The sha256 of blocks of a file, all of it when it is short."""
    size, digest = file.stat().st_size, hashlib.sha256()
    with file.open("rb", buffering=0) as handle:
        if size <= _PROBES * _PROBE_BYTES:
            digest.update(handle.read())
        else:
            for number in range(_PROBES):
                handle.seek(number * (size - _PROBE_BYTES) // (_PROBES - 1))
                digest.update(handle.read(_PROBE_BYTES))
    return digest.hexdigest()


class KnownFile(msgspec.Struct, frozen=True, array_like=True):
    """What a file was when it was hashed: as long as all of this is the same, so is what it holds.

    Attributes:
        size: In bytes.
        modified: When its bytes changed, in nanoseconds.
        changed: When it was renamed or its times were set, too.
        inode: Which file it is.
    """

    size: int
    modified: int
    changed: int
    inode: int


class FileHashes:
    """The sha256 of files, remembered between starts for those that have not changed since, as git does."""

    def __init__(self) -> None:
        self._path = entries_folder() / _HASHES
        self._known: dict[str, tuple[KnownFile, str]] = {}
        with contextlib.suppress(OSError, msgspec.DecodeError):  # then all are hashed anew
            self._known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, tuple[KnownFile, str]])

    def sha256(self, file: Path, progress: Callable[[int], None]) -> bytes:
        """The sha256 of a file, which is a text.

        Args:
            file: The file.
            progress: Called with numbers of bytes, as they are done.

        Raises:
            DataError: It cannot be read, is binary or not UTF-8.
        """
        name, facts = str(file.absolute()), file_facts(file)
        remembered = self._known.pop(name, None)
        if remembered is not None and remembered[0] == facts:
            self._known[name] = remembered  # behind those that were not asked for
            progress(facts.size)
            return bytes.fromhex(remembered[1])
        began = time.time_ns()
        digest = checked_sha256(file, progress)
        # A file can change twice within one tick of its clock: what changed just now may do so unseen.
        if facts == file_facts(file) and max(facts.modified, facts.changed) < began - _RACY_NANOSECONDS:
            self._known[name] = (facts, digest.hex())
        return digest

    def save(self) -> None:
        """Remember them for the next start; where that cannot be written, they are hashed again."""
        known = dict(list(self._known.items())[-_MOST_HASHES:])
        with contextlib.suppress(OSError):
            folders.private(self._path.parent)
            safe_writing.write_file(self._path, msgspec.json.encode(known))


def file_facts(file: Path) -> KnownFile:
    """What tells whether a file has changed.

    Raises:
        DataError: It cannot be looked at.
    """
    try:
        stat = file.stat()
    except OSError as error:
        raise DataError(f"{file} cannot be read", error.strerror or str(error)) from error
    return KnownFile(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
