"""CSV and JSONL: a file's text in, its documents out, one for each row, or one clear error that names the line. Knows
nothing of how files are read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.validation import nearest_hint

TEXT_COLUMNS = ("text", "content", "body", "document", "article", "story", "completion", "message", "sentence")
"""Names that a column of text goes by, the likeliest first."""


def is_table(file: Path) -> bool:
    """Whether a file's name says that it holds rows."""
    return file.suffix.lower() in _READERS


def table_documents(file: Path, text: str, column: str | None = None) -> list[str]:
    """The documents of a file of rows, blank ones too.

    Args:
        file: Its name, which tells the format.
        text: What it holds.
        column: Where the text is; found when it is not named.

    Raises:
        DataError: It is not of its format, or has no such column.
    """
    return _READERS[file.suffix.lower()](file, text, column) if text.strip() else []


def _csv_documents(file: Path, text: str, column: str | None) -> list[str]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t|", key=header.count)  # a comma when there is none
    limit = csv.field_size_limit(2**31 - 1)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise DataError(f"{file} is not a CSV file at line {reader.line_num}", str(error)) from None
    finally:
        csv.field_size_limit(limit)
    if len(rows) < 2:
        raise DataError(f"{file} has no rows", "its first line should name the columns, and texts should follow")
    names = [name.strip() or f"column {place}" for place, name in enumerate(rows.pop(0)[1], 1)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{file} has several columns named {name!r}", "give them different names in its first line")
    for line, row in rows:
        if any(cell.strip() for cell in row[len(names) :]):
            raise DataError(
                f"{file} has {len(row)} cells at line {line} and {len(names)} columns",
                f"put quotes around texts with {delimiter!r} in them, or call it .txt to read it as it stands",
            )
    columns = {name: [row[place] for _, row in rows if place < len(row)] for place, name in enumerate(names)}
    chosen = _choose_column(file, columns, column)
    known = column is not None or chosen.lower() in TEXT_COLUMNS
    if not known and (_is_sentence(chosen) or any(map(_is_number, names))):
        raise DataError(
            f"the first line of {file} looks like text, where the names of columns belong",
            "put a line of names before it, or name the column of the text with --column",
        )
    return columns[chosen]


def _is_sentence(header: str) -> bool:
    return len(header.split()) > 4 or len(header) > 40 or header.endswith(tuple(".,;:!?…।。！？\"'"))


def _is_number(header: str) -> bool:
    return header.replace(".", "", 1).removeprefix("-").isdecimal()


def _jsonl_documents(file: Path, text: str, column: str | None) -> list[str]:
    rows: list[tuple[int, dict[str, Any]]] = []
    texts: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file} is not JSON at line {number}", str(error)) from None
        except RecursionError:
            raise DataError(f"{file} is nested too deeply at line {number}", "a line should be one object") from None
        if isinstance(value, str):
            texts.append((number, value))
        elif isinstance(value, dict):
            rows.append((number, value))
        else:
            raise DataError(f"{file} has no text at line {number}", "a line should be a JSON object or a string")
    if rows and texts:
        where = f"an object at line {rows[0][0]} and a string at line {texts[0][0]}"
        raise DataError(f"{file} has {where}", "all lines should be of one kind")
    if rows:
        texts = _keyed_texts(file, rows, column)
    for number, found in texts:
        try:
            found.encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(found[error.start]):04X}"
            hint = "write it whole, or leave it out"
            raise DataError(f"{file} has half of a character ({half}) at line {number}", hint) from None
    return [found for _, found in texts]


def _keyed_texts(file: Path, rows: Sequence[tuple[int, dict[str, Any]]], column: str | None) -> list[tuple[int, str]]:
    """The texts of JSON objects under the key that was named or found, each with its line; null is no text."""
    columns: dict[str, list[str]] = {}
    for _, row in rows:
        for key, value in row.items():
            if isinstance(value, str):
                columns.setdefault(key, []).append(value)
    if not columns:
        raise DataError(f"{file} has no text in it", 'a line should look like {"text": "..."}')
    chosen = _choose_column(file, columns, column)
    for number, row in rows:
        if chosen not in row or not isinstance(row[chosen], str | None):
            hint = "every line should have one (or null); --column names another key"
            raise DataError(f"{file} has no text under {chosen!r} at line {number}", hint)
    return [(number, row[chosen]) for number, row in rows if row[chosen] is not None]


def _choose_column(file: Path, columns: dict[str, list[str]], column: str | None) -> str:
    """The column that was named, or the one that most looks like text."""
    if column is not None:
        if column not in columns:
            raise DataError(f"{file} has no column {column!r}", nearest_hint(column, columns))
        return column
    by_name = {name.lower(): name for name in columns}
    for name in TEXT_COLUMNS:
        if name in by_name:
            return by_name[name]
    longest = max(columns, key=lambda name: sum(map(len, columns[name])) / max(len(columns[name]), 1))
    if all(_is_number(cell.strip()) for cell in columns[longest] if cell.strip()):
        raise DataError(
            f"{file} has no column that looks like text, the longest ({longest!r}) is of numbers",
            "--column names one that is to be read all the same",
        )
    return longest


_READERS: dict[str, Callable[[Path, str, str | None], list[str]]] = {".csv": _csv_documents, ".jsonl": _jsonl_documents}
