"""What can be done with texts of the history: open and replay them, mark, note, tag, delete and bring back, copy and
export them, and narrow the list down. The screen that reads the file is its heir.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from engine.errors import InvalidSettingError, MiniGPTError
from minigpt_tui.actions import by_id
from minigpt_tui.history.dates import parse_dates
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.export import export, format_of
from minigpt_tui.history.rows import clean_tags
from minigpt_tui.history.searching import Query
from minigpt_tui.history.shell_line import shell_line
from minigpt_tui.saving import SaveError
from minigpt_tui.screens.history_view import HistoryView
from minigpt_tui.settings import Session
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line
from minigpt_tui.wishes import OpenEntry

if TYPE_CHECKING:
    from minigpt_tui.history.store import Store
    from minigpt_tui.widgets.history_list import HistoryList

T = TypeVar("T")

NAMED = 4
"""So many models or tags are named where one is asked for."""


class HistoryChanges(HistoryView):
    """The actions on texts."""

    def __init__(self, session: Session) -> None:
        """Make the screen.

        Args:
            session: What outlives the app.
        """
        super().__init__(session)
        self._deleted: list[list[int]] = []  # what each deletion took, the last one last
        self._turns = asyncio.Lock()
        self._last_file = "generations.md"

    # What its heir does.

    async def with_store(self, work: Callable[[Store], T]) -> T | None:
        """Do something with the history in a thread; what goes wrong is told, and None comes back."""
        raise NotImplementedError

    def do(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something beside the screen, after what was asked for before."""
        raise NotImplementedError

    def look(self) -> None:
        """Look for what is wanted now."""
        raise NotImplementedError

    def show_chosen(self) -> None:
        """Read the chosen text."""
        raise NotImplementedError

    # The chosen ones.

    def _chosen(self) -> Entry | None:
        """The text that is shown; else it is said that there is none."""
        entry = self._entry.entry
        if entry is None or entry.id != self._list.selected:
            self.say("there is no text yet" if not self._list.count else "it is being read")
            return None
        return entry

    def _numbers(self) -> list[int]:
        """Those that were selected, the latest first; else the chosen one."""
        if self._list.marked:
            return sorted(self._list.marked, reverse=True)
        return [self._list.selected] if self._list.selected else []

    def on_history_list_open_requested(self, event: HistoryList.OpenRequested) -> None:
        """Go on with it in Play."""
        event.stop()
        self.action_open()

    def action_open(self) -> None:
        """Go on with the chosen text in Play, as a branch of its own."""
        if (entry := self._chosen()) is not None:
            self.post_message(OpenEntry(entry))

    def action_replay(self) -> None:
        """Have the chosen text written again in Play."""
        if (entry := self._chosen()) is not None:
            self.post_message(OpenEntry(entry, replay=True))

    def action_copy(self) -> None:
        """Copy the text with its prompt."""
        if (entry := self._chosen()) is not None:
            self.app.copy_to_clipboard(entry.prompt + entry.text)

    def action_copy_line(self) -> None:
        """Copy the line that writes it again."""
        if (entry := self._chosen()) is not None:
            self.app.copy_to_clipboard(shell_line(entry))

    # Marks, notes and tags.

    def action_select(self) -> None:
        """Select the chosen text, or take it out, and go on to the next."""
        if number := self._list.selected:
            self._list.marked = self._list.marked ^ {number}
            self._list.action_move(1)
            self.fit()

    def action_favourite(self) -> None:
        """Mark as favourites, or none of them where all are."""
        numbers = self._numbers()
        if not numbers:
            self.say("there is no text yet")
            return

        async def change() -> None:
            rows = await self.with_store(lambda store: store.rows(numbers))
            if rows is None:
                return
            favourite = not all(row.favourite for row in rows.values())
            if await self._changed(lambda store: store.set_favourite(numbers, favourite), numbers):
                many = f"{len(numbers):,} are" if len(numbers) > 1 else "it is"
                self.say(f"{many} {'a favourite' if favourite else 'no favourite any more'}")

        self.do(change)

    def action_note(self) -> None:
        """Ask for a note."""
        if (entry := self._chosen()) is None:
            return

        def take(text: str) -> str:
            self.do(partial(self._write, lambda store: store.set_note(entry.id, text.strip()), [entry.id], "noted"))
            return ""

        self._open("note", "enter keeps it; it is found by it", take, value=entry.note)

    def action_tags(self) -> None:
        """Ask for tags, of the selected texts or this one."""
        if (entry := self._chosen()) is None:
            return
        numbers = self._numbers()

        def take(text: str) -> str:
            tags = clean_tags([text])

            def change(store: Store) -> None:
                for number in numbers:
                    store.set_tags(number, tags)

            self.do(partial(self._write, change, numbers, f"tagged {' '.join(tags)}" if tags else "no tags any more"))
            return ""

        of = f" of {len(numbers):,} texts" if len(numbers) > 1 else ""
        remark = f"words; {by_id('history_tag').shown} lists what has one"
        self._open(f"tags{of}", remark, take, value=" ".join(entry.tags))

    async def _write(self, change: Callable[[Store], object], numbers: Sequence[int], remark: str) -> None:
        if await self._changed(change, numbers):
            self.say(remark)

    async def _changed(self, change: Callable[[Store], object], numbers: Sequence[int]) -> bool:
        """Change some texts and show them anew; whether it worked."""

        def work(store: Store) -> dict[int, Any]:
            change(store)
            return store.rows(numbers[:500])

        rows = await self.with_store(work)
        if rows is None:
            return False
        self._list.take_rows(rows)
        self.show_chosen()
        if self._query.favourites or self._query.tag or self._query.words:
            self.look()
        return True

    # Deleting.

    def action_delete(self) -> None:
        """Delete the selected texts, or the chosen one."""
        numbers = self._numbers()
        if not numbers:
            self.say("there is no text yet")
            return

        async def delete() -> None:
            gone = await self.with_store(lambda store: store.delete(numbers))
            if gone:
                self._deleted.append(gone)
                self._list.marked = frozenset()
                undo = f"{by_id('history_undo').shown} brings {'them' if len(gone) > 1 else 'it'} back"
                self.say(f"{_texts(len(gone))} deleted; {undo}")
            self.look()

        self.do(delete)

    def action_undo(self) -> None:
        """Bring back what the last deletion took."""

        async def restore() -> None:
            if not self._deleted:
                self.say("nothing was deleted here")
                return
            back = await self.with_store(lambda store: store.restore(self._deleted[-1]))
            if back is None:
                return
            self._deleted.pop()
            self.say(f"{_texts(len(back))} back")
            self.look()

        self.do(restore)

    # Exporting.

    def action_export(self) -> None:
        """Ask for a file, and write the selected texts, or all that were found."""
        numbers = sorted(self._list.marked, reverse=True) or list(self._list.ids)
        if not numbers:
            self.say("there is no text yet")
            return
        confirmed = ""

        def take(text: str) -> str:
            nonlocal confirmed
            path, problem = _file(text)
            if problem or path is None:
                return problem
            if path.exists() and confirmed != text:
                confirmed = text
                return f"{path.name} is there already; enter again overwrites it"
            self._last_file = text.strip()
            self.do(partial(self._export, numbers, path, path.exists()))
            return ""

        what = "selected " if self._list.marked else ""
        remark = ".md .json .csv .txt"
        self._open(f"export {len(numbers):,} {what}to", remark, take, value=self._last_file)

    async def _export(self, numbers: Sequence[int], path: Path, overwrite: bool) -> None:
        self.say("exporting…")

        def write(store: Store) -> int | MiniGPTError:
            try:
                return export(store.entries(numbers), format_of(path) or "json", path, overwrite=overwrite)
            except SaveError as error:
                return error

        count = await self.with_store(write)
        if isinstance(count, MiniGPTError):
            self.tell("It was not exported", f"{sentence(count)} Nothing was changed.", ["history_export"])
        elif count is not None:
            self.say(f"{_texts(count)} written to {path}")

    # Narrowing down.

    def narrow(self, **changes: Any) -> None:
        """Want something else."""
        query: Query = msgspec.structs.replace(self._query, **changes)
        if query != self._query:
            self._query, self._is_whole = query, False
            self.look()
            self.show_status()

    def list_all(self) -> None:
        """Want everything."""
        self._dates = ""
        with self._search.prevent(type(self._search).Changed):
            self._search.value = ""
        self.narrow(words="", model="", since=None, until=None, favourites=False, tag="")

    def action_favourites(self) -> None:
        """The favourites alone, or all."""
        self.narrow(favourites=not self._query.favourites)
        self.say("favourites alone" if self._query.favourites else "favourites and others")

    def action_by_date(self) -> None:
        """Ask for a day, or some."""

        def take(text: str) -> str:
            try:
                since, until = parse_dates(text)
            except InvalidSettingError as error:
                return visible_line(f"{error.message}; {error.hint}")
            self._dates = text.strip()
            self.narrow(since=since, until=until)
            return ""

        self._open("date", "2026-11-21, today, 7d, or one..another; empty for all", take, value=self._dates)

    def action_by_model(self) -> None:
        """Ask for a model."""
        self._choose_among("model", lambda store: store.models(), "model", self._query.model)

    def action_by_tag(self) -> None:
        """Ask for a tag."""
        self._choose_among("tag", lambda store: store.tags(), "tag", self._query.tag)

    def _choose_among(
        self, question: str, read: Callable[[Store], list[tuple[str, int]]], field: str, now: str
    ) -> None:
        async def ask() -> None:
            known = await self.with_store(read)
            if known is None:
                return
            if not known:
                self.say(f"no text has a {question} yet")
                return
            names = [name for name, _ in known]

            def take(text: str) -> str:
                name = _one_of(names, text.strip().removeprefix("#" if field == "tag" else ""))
                if name is None:
                    return f"none of them is {visible_line(text.strip())}" if text.strip() else ""
                self.narrow(**{field: name})
                return ""

            few = ", ".join(f"{visible_line(name)} {count:,}" for name, count in known[:NAMED])
            more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
            self._open(question, f"{few}{more}; empty for all", take, value=now)

        self.do(ask)


def _one_of(names: Sequence[str], typed: str) -> str | None:
    """The name that was meant: itself, or the only one that has what was typed; None where it is not clear."""
    if not typed or typed in names:
        return typed
    near = [name for name in names if typed.lower() in name.lower()]
    return near[0] if len(near) == 1 else None


def _file(text: str) -> tuple[Path | None, str]:
    """Where to export to, or what is wrong with it."""
    if not text.strip():
        return None, "type the file's name"
    try:
        path = Path(text.strip()).expanduser()
        if path.is_dir():
            return None, f"{path.name or path} is a folder; add a file name"
        if not path.absolute().parent.is_dir():
            return None, f"there is no folder {path.absolute().parent}"
    except (OSError, RuntimeError, ValueError) as error:
        return None, f"it cannot be saved there ({error})"
    if format_of(path) is None:
        return None, "end its name with .md, .json, .csv or .txt"
    return path, ""


def _texts(number: int) -> str:
    return "1 text" if number == 1 else f"{number:,} texts"
