"""`minigpt-tui history`: what was generated, listed, found, shown, counted, exported and deleted. Imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from minigpt_tui.cli.history_lines import details, list_lines, statistics_lines
from minigpt_tui.cli.streams import say, write_json, write_line, write_text
from minigpt_tui.history.dates import parse_since
from minigpt_tui.history.errors import EntryNotFoundError
from minigpt_tui.history.export import FORMATS, Format, as_json, export, format_of, pieces
from minigpt_tui.history.searching import Query
from minigpt_tui.history.statistics import gather
from minigpt_tui.history.store import Store
from minigpt_tui.saving import FileThereError, SaveError

LIMIT = 20
"""So many are listed unless another number is asked for."""

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def history() -> None:
    """List, search, show, count, export and delete what was generated.

    The app keeps every text unless it is told not to; the shell keeps those of `generate --record`. ID is the number
    that `history list` shows.
    """


def _filters(function: F) -> F:
    """Add what narrows a list down."""
    for decorate in (
        click.option("--favourites", is_flag=True, help="Those that are marked alone."),
        click.option("--tag", default="", metavar="TAG", help="Those that have this tag."),
        click.option(
            "--since", default="", metavar="DATE", help="Not before 2026-11-21, today, 7d (days), 12h or 2w ago."
        ),
        click.option("--model", default="", metavar="MODEL", help="Those of this model, by its name there."),
    ):
        function = decorate(function)
    return function


def _query(words: str, model: str, since: str, tag: str, favourites: bool) -> Query:
    return Query(
        words=words,
        model=model,
        since=parse_since(since) if since else None,
        tag=tag.removeprefix("#"),
        favourites=favourites,
    )


def _listing(function: F) -> F:
    """Add what lists have."""
    limit = click.option(
        "--limit", type=click.IntRange(1), default=LIMIT, show_default=True, metavar="N", help="So many at most."
    )
    return click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per text.")(
        limit(_filters(function))
    )


@history.command("list")
@_listing
def list_(limit: int, as_lines: bool, **filters: Any) -> None:
    """List what was generated, the latest first."""
    _list(_query("", **filters), limit, as_lines)


@history.command()
@click.argument("text")
@_listing
def search(text: str, limit: int, as_lines: bool, **filters: Any) -> None:
    """List what has TEXT, the latest first.

    Each word of TEXT is looked for as a piece of the prompt, the text, the note or the tags, in any case of letters;
    words in quotes are one piece.
    """
    _list(_query(text, **filters), limit, as_lines)


def _list(query: Query, limit: int, as_lines: bool) -> None:
    with _open() as store:
        ids = list(itertools.islice((number for part in store.find(query) for number in part), limit + 1))
        if as_lines:
            for entry in store.entries(ids[:limit]):
                write_json(as_json(entry))
        else:
            rows = store.rows(ids[:limit])
            for line in list_lines([rows[number] for number in ids if number in rows]):
                write_line(line)
    if not ids:
        say("nothing is kept yet" if query.is_all else "nothing was found")
    elif len(ids) > limit:
        say(f"these are the latest {limit}; --limit shows more")


@history.command()
@click.argument("id", type=int)
@click.option("--json", "as_line", is_flag=True, help="Print it all as one JSON object.")
def show(id: int, as_line: bool) -> None:
    """Show ID in full, with the line that writes it again."""
    with _open() as store:
        entry = store.entry(id)
    if as_line:
        write_json(as_json(entry))
        return
    for line in details(entry):
        write_line(line)
    write_line()
    write_text(f"{entry.prompt}{entry.text}\n")


@history.command("export")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(FORMATS),
              help="Markdown, JSON lines, CSV or plain text.  [default: by FILE's name, or json]")  # fmt: skip
@click.option("--id", "ids", type=int, multiple=True, metavar="ID", help="This one, in place of all; may be repeated.")
@click.option("--search", "words", default="", metavar="TEXT", help="Those that have TEXT, as `history search` finds.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@_filters
def export_(
    file: Path | None, format_: Format | None, ids: tuple[int, ...], words: str, force: bool, **filters: Any
) -> None:
    """Write what was generated to FILE, or to stdout.

    All of it goes out, the latest first, unless it is narrowed down.
    """
    query = _query(words, **filters)
    if ids and not query.is_all:
        raise click.UsageError("--id and what narrows a list down exclude each other")
    chosen = format_ or (format_of(file) if file else None) or "json"
    with _open() as store:
        entries = (store.entry(number) for number in ids) if ids else store.every(query)
        if file is not None:
            try:
                count = export(entries, chosen, file, overwrite=force)
            except FileThereError as error:
                raise SaveError(error.message, "--force overwrites it") from None
            say(f"{count:,} {'text' if count == 1 else 'texts'} written to {file}")
        elif chosen == "json":
            for entry in entries:
                write_json(as_json(entry))
        else:
            for piece in pieces(entries, chosen):
                write_text(piece)


@history.command()
@click.option("--json", "as_line", is_flag=True, help="Print the figures as one JSON object.")
def stats(as_line: bool) -> None:
    """Count what was generated: texts, tokens, speeds, lengths."""
    import msgspec

    with _open() as store:
        figures = gather(store)
    if as_line:
        write_json(msgspec.to_builtins(figures))
        return
    if not figures.generations:
        say("nothing is kept yet")
    for line in statistics_lines(figures):
        write_line(line)


@history.command()
@click.argument("id", type=int, nargs=-1, required=True)
@click.option("--undo", is_flag=True, help="Bring back what was deleted in the last day.")
def remove(id: tuple[int, ...], undo: bool) -> None:
    """Delete the texts ID...; for a day --undo brings them back.

    Where one of them is not there, none is deleted.
    """
    with _open() as store:
        missing = [number for number in id if not store.rows([number])]
        if missing:
            raise EntryNotFoundError(f"there is no generation {missing[0]}", "minigpt-tui history list shows them")
        changed = store.restore(id) if undo else store.delete(id)
    if not changed:
        say("none of them was deleted" if undo else "they were deleted before")
        return
    what = "1 text is" if len(changed) == 1 else f"{len(changed)} texts are"
    if undo:
        say(f"{what} back")
        return
    again = " ".join(map(str, changed))
    say(f"{what} deleted; to bring back: minigpt-tui history remove --undo {again}")


def _open() -> Store:
    """The history; what is to be said about its opening goes to stderr."""
    store = Store()
    if store.problem:
        say(store.problem)
    return store
