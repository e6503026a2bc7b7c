"""All that was generated, in one SQLite file: kept, found, marked, deleted and brought back. Every call waits for the
disk, so the app makes them in threads; several processes may have the file open. What is read is a page, never all.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from minigpt_tui.history.database import (
    is_index_damaged,
    open_database,
    set_aside_damaged,
    told,
    transaction,
)
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.errors import EntryNotFoundError, HistoryError
from minigpt_tui.history.rows import (
    INDEX_ENTRY,
    INSERT_ENTRY,
    INSERT_TEXT,
    SELECT_ENTRIES,
    SELECT_ROWS,
    UNINDEX_ENTRY,
    Row,
    clean,
    clean_tags,
    entry_of,
    facts_of,
    row_of,
    text_of,
)
from minigpt_tui.history.searching import Query, select_ids
from minigpt_tui.paths import history_file

FIRST = 500
"""Ids that a search hands out first; the screen shows them while it goes on."""

MORE = 20_000
PAGE = 200
"""Entries that are read at a time where all are wanted."""

MANY = 20_000
"""Entries that the index is not asked for where it is asked by the beginnings of trigrams."""

UNDO_SECONDS = 24 * 3600.0
"""What was deleted so long ago is gone for good when the app starts."""

T = TypeVar("T")
Run = Callable[..., sqlite3.Cursor]


class Store:
    """An open history.

    Args:
        path: Its file; by default the user's own.
        index: Whether to keep an index of words, where SQLite can.

    Attributes:
        problem: What is to be said about its opening, as sentences; empty when all is well.
        read_only: Whether nothing can be changed.

    Raises:
        HistoryError: It can be neither read nor begun.
    """

    def __init__(self, path: Path | None = None, *, index: bool = True) -> None:
        self.path = path or history_file()
        self._lock = threading.Lock()
        opened = open_database(self.path, index=index)
        self._connection, self._indexed, self._inode = opened.connection, opened.indexed, opened.inode
        self.problem, self.read_only = opened.problem, opened.read_only

    def close(self) -> None:
        """Close it; what was kept is on the disk."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:
        """Let a search that goes on in another thread end with SearchStoppedError."""
        self._connection.interrupt()

    @property
    def is_in_place(self) -> bool:
        """Whether its file is still the one at its path, and nobody has set it aside or moved it."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def set_aside(self) -> None:
        """Close a file that turned out to be damaged, and keep it under another name; opening begins a fresh one."""
        self.close()
        set_aside_damaged(self.path, self._inode)

    # Keeping.

    def add(self, entry: Entry) -> int:
        """Keep a text.

        Args:
            entry: Its `id` does not matter.

        Returns:
            Its number.

        Raises:
            HistoryError: It could not be kept; all that was kept before is.
        """
        try:
            facts, text = facts_of(entry), text_of(entry)  # before anybody waits for it
        except ValueError as error:
            raise HistoryError(f"the text makes no sense ({error})") from None

        def insert(run: Run) -> int:
            number = run(INSERT_ENTRY, facts).lastrowid or 0
            run(INSERT_TEXT, (number, *text))
            for tag in clean_tags(entry.tags):
                run("INSERT INTO tagged VALUES (?, ?)", (tag, number))
            self._index([number])
            return number

        return self._write(insert)

    def set_favourite(self, ids: Iterable[int], favourite: bool) -> None:
        """Mark some, or take the mark away."""

        def update(run: Run) -> None:
            for number in ids:
                run("UPDATE entries SET favourite = ? WHERE id = ?", (favourite, number))

        self._write(update)

    def set_note(self, number: int, note: str) -> None:
        """Write a note to one."""

        def update(run: Run) -> None:
            self._unindex([number])
            run("UPDATE texts SET note = ? WHERE id = ?", (clean(note), number))
            self._index([number])

        self._write(update)

    def set_tags(self, number: int, tags: Iterable[str]) -> None:
        """Give one these tags, in place of those that it had."""
        cleaned = clean_tags(tags)

        def update(run: Run) -> None:
            self._unindex([number])
            run("UPDATE texts SET tags = ? WHERE id = ?", (" ".join(cleaned), number))
            run("DELETE FROM tagged WHERE id = ?", (number,))
            for tag in cleaned:
                run("INSERT INTO tagged VALUES (?, ?)", (tag, number))
            self._index([number])

        self._write(update)

    def delete(self, ids: Iterable[int]) -> list[int]:
        """Delete some; for a day it can be undone.

        Returns:
            Those that were there.
        """
        now = time.time()
        return self._write(
            lambda run: [
                one
                for one in ids
                if run("UPDATE entries SET deleted = ? WHERE id = ? AND deleted IS NULL", (now, one)).rowcount
            ]
        )

    def restore(self, ids: Iterable[int]) -> list[int]:
        """Bring back what was deleted; those that were still there."""
        return self._write(
            lambda run: [
                one
                for one in ids
                if run("UPDATE entries SET deleted = NULL WHERE id = ? AND deleted IS NOT NULL", (one,)).rowcount
            ]
        )

    def purge(self, older_than: float = UNDO_SECONDS) -> int:
        """Forget for good what was deleted so many seconds ago; how many they were."""
        before = time.time() - older_than

        def purge(run: Run) -> int:
            gone = [number for [number] in run("SELECT id FROM entries WHERE deleted <= ?", (before,))]
            self._unindex(gone)
            for table in ("tagged", "texts", "entries"):
                for number in gone:
                    run(f"DELETE FROM {table} WHERE id = ?", (number,))  # noqa: S608 (our names)
            return len(gone)

        if not self.select("SELECT 1 FROM entries WHERE deleted <= ? LIMIT 1", before):
            return 0
        return self._write(purge)

    # Finding.

    def find(self, query: Query) -> Iterator[array[int]]:
        """The numbers of all that a query wants, the latest first, in parts: a small one that comes at once, then more.

        Raises:
            SearchStoppedError: `stop` was called.
            HistoryError: It cannot be read.
        """
        last: int | None = None
        try:
            statement = select_ids(query, self._beginning_with if self._indexed else None)
            cursor = self._locked(lambda: self._connection.execute(*statement))
            size = FIRST
            while part := self._locked(lambda: array("q", [number for [number] in cursor.fetchmany(size)])):  # noqa: B023
                yield part
                size, last = MORE, part[-1]
        except _IndexDamagedError:
            for part in self.find(query):  # without the index
                if rest := array("q", [number for number in part if last is None or number < last]):
                    yield rest

    def ids(self, query: Query = Query()) -> array[int]:  # noqa: B008 (frozen)
        """The numbers of all that a query wants, at once."""
        found = array("q")
        for part in self.find(query):
            found.extend(part)
        return found

    def rows(self, ids: Sequence[int]) -> dict[int, Row]:
        """What a list shows of a page of entries, by their numbers; without those that are gone."""
        places = ", ".join("?" * len(ids))
        return {row.id: row for row in map(row_of, self.select(SELECT_ROWS.format(places=places), *ids))}

    def entry(self, number: int) -> Entry:
        """One entry in full, deleted or not.

        Raises:
            EntryNotFoundError: There is none.
        """
        for entry in self._entries([number]):
            return entry
        raise EntryNotFoundError(f"there is no generation {number}", "minigpt-tui history list shows them")

    def every(self, query: Query = Query()) -> Iterator[Entry]:  # noqa: B008 (frozen)
        """All that a query wants, in full, the latest first; a page is read at a time."""
        for part in self.find(query):
            yield from self.entries(part)

    def entries(self, ids: Sequence[int]) -> Iterator[Entry]:
        """These in full, in this order; without those that are gone."""
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            found = {entry.id: entry for entry in self._entries(page)}
            yield from (found[number] for number in page if number in found)

    def latest(self) -> int:
        """The number of the latest text, deleted or not; 0 before the first."""
        [[number]] = self.select("SELECT coalesce(max(id), 0) FROM entries")
        return int(number)

    def models(self) -> list[tuple[str, int]]:
        """The models that wrote, with the number of their texts, the most used first."""
        return self.select(
            "SELECT model, count(*) FROM entries WHERE deleted IS NULL GROUP BY model ORDER BY 2 DESC, max(id) DESC"
        )

    def tags(self) -> list[tuple[str, int]]:
        """All tags, with the number of texts that have them, the most used first."""
        return self.select(
            "SELECT tag, count(*) FROM tagged JOIN entries USING (id) WHERE deleted IS NULL"
            " GROUP BY tag ORDER BY 2 DESC, tag"
        )

    def select(self, sql: str, *values: Any) -> list[Any]:
        """The rows of a query in SQL."""
        return self._locked(lambda: self._connection.execute(sql, values).fetchall())

    # Beneath.

    def _entries(self, ids: Sequence[int]) -> Iterator[Entry]:
        places = ", ".join("?" * len(ids))
        yield from map(entry_of, self.select(SELECT_ENTRIES.format(places=places), *ids))

    def _locked(self, work: Callable[[], T]) -> T:
        """Do something with the connection, which threads share."""
        with self._lock, told(self.path):
            try:
                return work()
            except sqlite3.Error as error:
                if not (self._indexed and is_index_damaged(error)):
                    raise
                self._give_up_index()
                raise _IndexDamagedError("the index is damaged") from None

    def _write(self, work: Callable[[Run], T]) -> T:
        """Change something, all of it or nothing."""
        if self.read_only:
            raise HistoryError("the history may only be read", f"make {self.path} and its folder writable")

        def change() -> T:
            with transaction(self._connection):
                if not self._indexed:
                    self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('stale', '1')")
                return work(self._connection.execute)

        try:
            return self._locked(change)
        except _IndexDamagedError:
            return self._locked(change)

    def _beginning_with(self, piece: str) -> list[str] | None:
        """The trigrams that begin with one or two characters; None where more than `MANY` entries have them."""

        def look() -> list[str] | None:
            self._connection.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS temp.trigrams USING fts5vocab ('main', 'words', 'row')"
            )
            found, entries = [], 0
            for term, count in self._connection.execute(
                "SELECT term, doc FROM temp.trigrams WHERE term >= ? AND term < ?", (piece, piece + "\U0010ffff")
            ):
                found.append(term)
                entries += count
                if entries > MANY:
                    return None
            return found

        return self._locked(look)

    def _index(self, ids: Sequence[int | None]) -> None:
        if self._indexed:
            for number in ids:
                self._connection.execute(INDEX_ENTRY, (number,))

    def _unindex(self, ids: Sequence[int]) -> None:
        if self._indexed:
            for number in ids:
                self._connection.execute(UNINDEX_ENTRY, (number,))

    def _give_up_index(self) -> None:
        """Go on without the index, and have the next one to open the file make it anew."""
        self._indexed = False
        with contextlib.suppress(sqlite3.Error):  # it may be read only; then the next one finds out for itself
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('stale', '1')")


class _IndexDamagedError(HistoryError):
    """The index makes no sense; the texts are as they were."""
