"""What a reader looks for, as SQL. A query is the reader's own words: each is looked for as a piece of the text, the
note or the tags, in any case of letters; words between quotes are one piece. Nothing that is typed is a syntax error.

The index knows which trigrams an entry has, and not where: a quarter of one that knows, and as quick, since
the few entries that have them all are looked at. Pieces of one or two characters are asked for as the trigrams that
begin with them; where those are in very many entries, the texts are looked at, the latest first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

TRIGRAM = 3
MOST_TRIGRAMS = 64
"""Of one piece that are asked of the index: more would hardly leave fewer entries."""

MOST_PIECES = 32
LONGEST_PATTERN = 1000
"""Characters of a piece that SQLite looks for by itself; it refuses patterns that are much longer."""

_PIECE = re.compile(r'"([^"]*)"?|(\S+)')


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which generations are wanted; the default is all that were not deleted.

    Attributes:
        words: As the reader typed them.
        model: A model's name; empty for all.
        since: Begun then or later, in seconds since 1970.
        until: Begun before that.
        favourites: Whether those alone.
        tag: A tag that they have; empty for any.
    """

    words: str = ""
    model: str = ""
    since: float | None = None
    until: float | None = None
    favourites: bool = False
    tag: str = ""

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self == Query()


Beginnings = Callable[[str], list[str] | None]


class Statement(NamedTuple):
    """SQL with the values of its places."""

    sql: str
    values: tuple[Any, ...]


def pieces(words: str) -> list[str]:
    """What is looked for, each once."""
    found = (match[1] if match[1] is not None else match[2] for match in _PIECE.finditer(words.replace("\0", " ")))
    return list(dict.fromkeys(piece for piece in found if piece.strip()))[:MOST_PIECES]


def holds(body: str, note: str, tags: str, *wanted: str) -> bool:
    """Whether an entry has all these pieces, which are in small letters."""
    text = f"{body}\0{note}\0{tags}".lower()
    return all(piece in text for piece in wanted)


def select_ids(query: Query, beginning_with: Beginnings | None) -> Statement:
    """The ids of the entries that are wanted, the latest first.

    Args:
        query: What is wanted.
        beginning_with: The trigrams of the index that begin with one or two characters, or None where very many
            entries have them; None where there is no index.
    """
    wanted = pieces(query.words)
    terms = {piece: _terms(piece, beginning_with) for piece in wanted} if beginning_with else {}
    asked = {piece: found for piece, found in terms.items() if found}
    looked_for = [piece for piece in wanted if piece not in asked or (len(piece) > TRIGRAM or not piece.isascii())]
    conditions, values = _filters(query)
    tables = ["entries"]
    if looked_for:
        tables.insert(0, "texts")
        conditions += [condition for piece in looked_for for condition in _looks(piece, values, found=piece in asked)]
    if asked:
        tables.insert(0, "words")
        conditions.insert(0, "words MATCH ?")
        values.insert(0, " AND ".join(asked.values()))
    first = "words.rowid" if asked else f"{tables[0]}.id"
    conditions += [f"{table}.id = {first}" for table in tables[1:]]
    # CROSS keeps the order of the tables, so that the first rows come before the last were looked at.
    sql = f"SELECT {first} FROM {' CROSS JOIN '.join(tables)} WHERE {' AND '.join(conditions)} ORDER BY {first} DESC"  # noqa: S608 (our names)
    return Statement(sql, tuple(values))


def _filters(query: Query) -> tuple[list[str], list[Any]]:
    conditions, values = ["entries.deleted IS NULL"], list[Any]()
    for condition, value in (
        ("entries.model = ?", query.model or None),
        ("entries.time >= ?", query.since),
        ("entries.time < ?", query.until),
        ("entries.id IN (SELECT id FROM tagged WHERE tag = ?)", query.tag or None),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if query.favourites:
        conditions.append("entries.favourite")
    return conditions, values


def _looks(piece: str, values: list[Any], *, found: bool) -> list[str]:
    """The condition that an entry has a piece, after the values so far; in C where that knows the letters' case."""
    if found or not piece.isascii() or len(piece) > LONGEST_PATTERN:
        values.append(piece.lower())
        return ["holds(texts.body, texts.note, texts.tags, ?)"]
    pattern = re.sub(r"([%_\\])", r"\\\1", piece)
    values += [f"%{pattern}%"] * 3
    like = " OR ".join(rf"texts.{column} LIKE ? ESCAPE '\'" for column in ("note", "tags", "body"))
    return [f"({like})"]


def _terms(piece: str, beginning_with: Beginnings) -> str:
    """What the index is asked for a piece; empty where it is not asked."""
    if len(piece.lower()) != len(piece):  # a letter that becomes two
        return ""
    if len(piece) < TRIGRAM:
        found = beginning_with(piece.lower())
        if found is None:
            return ""
        return f"({' OR '.join(map(_quoted, found))})" if found else _quoted("\x01\x01\x01")  # nobody has it
    found = list(dict.fromkeys(piece[place : place + TRIGRAM] for place in range(len(piece) - TRIGRAM + 1)))
    return " AND ".join(map(_quoted, found[:MOST_TRIGRAMS]))


def _quoted(trigram: str) -> str:
    return '"' + trigram.replace('"', '""') + '"'
