"""Opening the history's file: private, shared by processes, of this version's schema; with an index where SQLite can
make one. A file that is damaged, no database, or of a newer version is set aside and never overwritten or deleted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine import file_locks, folders
from minigpt_tui.history.errors import DamagedHistoryError, HistoryError, SearchStoppedError
from minigpt_tui.history.migrations import APPLICATION_ID, EMPTY_INDEX, INDEX, MIGRATIONS, VERSION
from minigpt_tui.history.searching import holds

BUSY_SECONDS = 30.0
"""How long one process waits while another writes."""

BESIDE = ("-wal", "-shm", "-journal", "")
"""What belongs to the file, by the ends of their names. The file itself moves last: a log that is left behind would be
read into the next one.
"""


class Opened(NamedTuple):
    """An open history.

    Attributes:
        indexed: Whether there is an index of words, that is kept up.
        read_only: Whether nothing can be added.
        problem: What is to be said about it, as sentences; empty when all is well.
        inode: Which file it is, whatever is at its path later.
    """

    connection: sqlite3.Connection
    indexed: bool
    read_only: bool
    problem: str
    inode: int


class _NewerError(HistoryError):
    """The file is of a version that this program does not know."""


def open_database(path: Path, *, index: bool = True) -> Opened:
    """Open the history's file, or begin one.

    Args:
        path: Where it is.
        index: Whether an index is wanted.

    Raises:
        HistoryError: It can be neither read nor begun.
    """
    with _alone(path), told(path):
        try:
            return _open(path, index, "")
        except _NewerError as error:
            problem = f"{error.message}. It is kept as {_set_aside(path, 'newer')}, and a fresh one is begun."
        except DamagedHistoryError:
            kept = _set_aside(path, "damaged")
            problem = f"The history could not be read: it is damaged. It is kept as {kept}, and a fresh one is begun."
        return _open(path, index, problem)


def set_aside_damaged(path: Path, inode: int) -> None:
    """Set a file aside that turned out to be damaged, unless another process has done so.

    Args:
        path: Where it was opened.
        inode: Which file it was.
    """
    with _alone(path), told(path):
        if _inode(path) == inode:
            _set_aside(path, "damaged")


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Say in words what SQLite or the system says in codes.

    Raises:
        SearchStoppedError: It was interrupted.
        DamagedHistoryError: The file makes no sense.
        HistoryError: Anything else.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            raise SearchStoppedError("the search was stopped") from None
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DamagedHistoryError("the history is damaged", f"{path} is no database any more") from None
        what, hint = _WORDS.get(code, (str(error), f"look at {path}"))
        raise HistoryError(f"the history cannot be used ({what})", hint) from None
    except OSError as error:
        raise HistoryError(f"the history cannot be used ({error.strerror or error})", f"look at {path}") from None


_WORDS = {
    sqlite3.SQLITE_FULL: ("the disk is full", "make room on the disk"),
    sqlite3.SQLITE_READONLY: ("it may only be read", "make its file and folder writable"),
    sqlite3.SQLITE_BUSY: ("another program keeps it locked", "try again, or end that program"),
    sqlite3.SQLITE_LOCKED: ("another program keeps it locked", "try again, or end that program"),
    sqlite3.SQLITE_IOERR: ("the disk does not answer as it should", "look at the disk"),
}


def is_index_damaged(error: sqlite3.Error) -> bool:
    """Whether it is the index alone that makes no sense."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CORRUPT_VTAB


# Opening.


def _open(path: Path, index: bool, problem: str) -> Opened:
    with told(path):
        may_write = _may_write(path)
        _check_beginning(path)
        connection = _connect(path, may_write)
        try:
            version = _check(path, connection)
            if may_write:
                connection.execute("PRAGMA journal_mode = WAL")
                _migrate(connection)
            elif version != VERSION:
                raise HistoryError("the history is of another version and may only be read", f"make {path} writable")
            else:
                problem = problem or "The history may only be read: nothing is added to it."
            indexed = index and _bring_index(connection, may_write)
            connection.create_function("holds", -1, holds, deterministic=True)
            return Opened(connection, indexed, not may_write, problem, _inode(path))
        except BaseException:
            connection.close()
            raise


def _may_write(path: Path) -> bool:
    """Whether the file can be written; it is made, for its owner alone, where it is not there."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except PermissionError:
        return False
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return False
    return os.access(path.parent, os.W_OK)


def _check_beginning(path: Path) -> None:
    """Raise DamagedHistoryError for a short file that is no database: SQLite takes it for an empty one."""
    with path.open("rb") as file:
        beginning = file.read(_LEAST)
    if beginning and (len(beginning) < _LEAST or not beginning.startswith(b"SQLite format 3\0")):
        raise DamagedHistoryError("the history is damaged", f"{path} is no database")


_LEAST = 512  # bytes of a page


def _connect(path: Path, may_write: bool) -> sqlite3.Connection:
    if may_write:
        return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # Where its folder may not be written there is no place for what readers share, and nobody writes.
    how = "mode=ro" if os.access(path.parent, os.W_OK) else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _check(path: Path, connection: sqlite3.Connection) -> int:
    """The version of a file's schema; 0 for an empty one.

    Raises:
        _NewerError: It is of a newer version.
        DamagedHistoryError: It is not the history, or its last rows cannot be read.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    if not tables and not version:
        return 0
    if not ours or version < 1:
        raise DamagedHistoryError("the file is another program's", f"look at {path}")
    if version > VERSION:
        raise _NewerError(f"The history is of a newer version of minigpt-tui ({version}, this one knows {VERSION})")
    for table in ("entries", "texts"):
        try:
            connection.execute(f"SELECT * FROM {table} ORDER BY id DESC LIMIT 1").fetchone()  # noqa: S608 (our names)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # there is no such table
                raise
            raise DamagedHistoryError("the history is damaged", f"{path} has no {table}") from None
    return version


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to this version, all of it or nothing."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return
    with transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]  # another process may have been faster
        for migration in MIGRATIONS[version:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _bring_index(connection: sqlite3.Connection, may_write: bool) -> bool:
    """Have the index there and up to date; whether it is."""
    if not _can_index(connection):
        return False
    if _is_index_current(connection):
        return True
    if not may_write:
        return False
    with transaction(connection):
        if not _is_index_current(connection):
            if _has(connection, "words_data"):
                connection.execute(EMPTY_INDEX)
            for statement in INDEX:
                connection.execute(statement)
    return True


def _can_index(connection: sqlite3.Connection) -> bool:
    """Whether this SQLite knows indexes of trigrams."""
    try:
        connection.execute("CREATE VIRTUAL TABLE temp.probe USING fts5 (text, tokenize='trigram', detail='none')")
        connection.execute("DROP TABLE temp.probe")
    except sqlite3.OperationalError:
        return False
    return True


def _is_index_current(connection: sqlite3.Connection) -> bool:
    [[stale]] = connection.execute("SELECT count(*) FROM facts WHERE name = 'stale'")
    return _has(connection, "words") and not stale


def _has(connection: sqlite3.Connection, table: str) -> bool:
    [[count]] = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,))
    return bool(count)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all of it, or nothing; others wait."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it
            connection.execute("ROLLBACK")
        raise


# Setting aside.


def _set_aside(path: Path, why: str) -> Path:
    """Give a file and what belongs to it another name, which nothing has yet, and return it."""
    stem = f"{path.stem}.{why}-{time.strftime('%Y-%m-%d')}"
    names = (f"{stem}{f'-{number}' if number > 1 else ''}{path.suffix}" for number in range(1, 100_000))
    kept = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    for end in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(kept.with_name(kept.name + end))
    return kept


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time opens the file, so that no two set it aside."""
    with told(path):
        folders.private(path.parent)
        descriptor = file_locks.open_lock(path.parent)
    if descriptor is None:
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            file_locks.lock(descriptor)
        yield
    finally:
        os.close(descriptor)
