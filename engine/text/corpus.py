"""Files in, documents out: plain text, Markdown, CSV, JSONL and folders of them, checked, made uniform on request and
split into train, validation and test. Knows nothing of tokens, beyond joining encoded documents, nor of where texts
are kept.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from engine.errors import DataError
from engine.text.tokenizers import TokenArray, Tokenizer
from engine.validation import nearest_hint

FOLDER_SUFFIXES = (".txt", ".md", ".csv", ".jsonl", ".py")
"""What is read of a folder; a file that is named itself may have any suffix."""

TEXT_COLUMNS = ("text", "content", "body", "document", "article", "story", "completion", "message", "sentence")
"""Names that a column of text goes by, the likeliest first."""

TRAIN_SHARE = 0.9

Normalization = Literal["nfc", "newlines", "lowercase"]
"""`nfc` (composed characters), `newlines` (every line end is LF) or `lowercase`."""

_CONTROL = bytes(sorted(set(range(32)) - set(b"\t\n\v\f\r\b\x1b"))) + b"\x7f"


class SplitFiles(msgspec.Struct, frozen=True):
    """The files that were given for one split.

    Attributes:
        sources: The files; from `open_corpus`, names and absolute paths, by which they can be found again.
        sha256: Of what they hold: one file's own, or that of all files' hashes in order.
    """

    sources: tuple[str, ...]
    sha256: str


class Corpus(msgspec.Struct, frozen=True):
    """A text, split.

    Attributes:
        name: What to call it.
        train: Documents to learn from.
        val: Documents to validate with.
        test: Documents kept for the end; empty unless they were given.
        sha256: Of what the files hold, before it is made uniform: for one file, the hash of its bytes.
        sources: The files.
        files: What was given for `train`, `val` and `test`; a `val` that was cut from the training text is not in it.
        column: The column of the text that was named.
    """

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    sha256: str
    sources: tuple[str, ...]
    files: dict[str, SplitFiles] = {}
    column: str | None = None


class Documents(NamedTuple):
    """What some files hold.

    Attributes:
        texts: The documents that are not blank.
        digests: Each file's sha256, as bytes.
    """

    texts: tuple[str, ...]
    digests: tuple[bytes, ...]


PathLike = str | os.PathLike[str]
Paths = PathLike | Sequence[PathLike]


def read_corpus(
    paths: Paths,
    *,
    val: Paths | None = None,
    test: Paths | None = None,
    column: str | None = None,
    normalize: Iterable[Normalization] = (),
    name: str | None = None,
) -> Corpus:
    """Read texts and split them.

    Args:
        paths: Files and folders. A file is a document, and so is each row of a CSV or JSONL file.
        val: Files and folders for validation; without any, the last 10% of the characters are.
        test: Files and folders for the test split.
        column: Where the text is in CSV and JSONL files; found when it is not named.
        normalize: What is made uniform: `nfc`, `newlines`, `lowercase`.
        name: What to call the corpus; the first file's name without one.

    Raises:
        DataError: A file is missing, empty, binary, not UTF-8 or has no such column.
    """
    steps = tuple(normalize)
    splits: dict[str, tuple[str, ...]] = {"train": (), "val": (), "test": ()}
    sources: list[Path] = []
    digests: list[tuple[str, bytes]] = []
    given_files: dict[str, SplitFiles] = {}
    for split, given in (("train", paths), ("val", val), ("test", test)):
        if given is None:
            continue
        files = list_files(given)
        documents = read_documents(files, column=column, normalize=steps)
        splits[split] = documents.texts
        digests += [(split, digest) for digest in documents.digests]
        sources += files
        sha256 = join_digests([("train", digest) for digest in documents.digests])  # the same for any split
        given_files[split] = SplitFiles(tuple(map(str, files)), sha256)
    if val is None:
        splits["train"], splits["val"] = split_documents(splits["train"])
    return Corpus(
        name=name or sources[0].stem,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        sha256=join_digests(digests),
        sources=tuple(map(str, sources)),
        files=given_files,
        column=column,
    )


def list_files(paths: Paths) -> list[Path]:
    """The files that `paths` stand for: themselves, and for a folder the texts in it, sorted, without hidden ones.

    Raises:
        DataError: A path is missing, a folder has no text in it, or there are no paths at all.
    """
    files: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, (str, os.PathLike)) else paths):
        try:
            is_folder, exists = path.is_dir(), path.exists()
        except OSError as error:  # a name longer than the file system's, a folder that may not be looked into
            raise DataError(f"{path} cannot be read", error.strerror or str(error)) from None
        if is_folder:
            inside = _walk(path)
            if not inside:
                raise DataError(f"{path} has no text in it", f"it should hold {', '.join(FOLDER_SUFFIXES)} files")
            files += inside
        elif exists:
            files.append(path)
        else:
            raise DataError(f"{path} is not there", "check the name; `data list` shows texts that have one")
    if not files:
        raise DataError("no text was given", "name a file or a folder")
    return files


def _walk(folder: Path) -> list[Path]:
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        found += [
            Path(where, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in FOLDER_SUFFIXES
        ]
    return sorted(found)


def split_documents(documents: Sequence[str], share: float = TRAIN_SHARE) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The leading `share` of the characters of all documents together, and the rest; one may be cut in two."""
    left = int(sum(map(len, documents)) * share)
    train: list[str] = []
    val: list[str] = []
    for document in documents:
        train.append(document[:left])
        val.append(document[left:])
        left = max(left - len(document), 0)
    return tuple(filter(None, train)), tuple(filter(None, val))


def encode_documents(tokenizer: Tokenizer, documents: Iterable[str]) -> TokenArray:
    """The ids of documents, shape (tokens,), with `<|endoftext|>` between them, but not around them all.

    Raises:
        TokenizerError: A character is not in the tokenizer's alphabet.
    """
    parts: list[TokenArray] = []
    for document in documents:
        ids = tokenizer.encode_array(document)
        if parts:
            parts.append(np.array([tokenizer.eot_id], ids.dtype))
        parts.append(ids)
    return np.concatenate(parts) if parts else tokenizer.encode_array("")


def read_documents(
    files: Sequence[Path], *, column: str | None = None, normalize: Sequence[Normalization] = ()
) -> Documents:
    """The documents of some files, made uniform.

    Args:
        files: As `list_files` gives them.
        column: Where the text is in CSV and JSONL files; found when it is not named.
        normalize: What is made uniform: `nfc`, `newlines`, `lowercase`.

    Raises:
        DataError: A file cannot be read, is binary or not UTF-8, or all are blank.
    """
    texts: list[str] = []
    digests: list[bytes] = []
    for file in files:
        data = _read_bytes(file)
        digests.append(hashlib.sha256(data).digest())
        text, suffix = _decode(file, data), file.suffix.lower()
        if suffix == ".csv" and text.strip():
            texts += _csv_documents(file, text, column)
        elif suffix == ".jsonl" and text.strip():
            texts += _jsonl_documents(file, text, column)
        else:
            texts.append(text)
    kept = tuple(_normalized(text, normalize) for text in texts if text and not text.isspace())
    if not kept:
        what = f"{files[0]} is" if len(files) == 1 else f"all {len(files)} files are"
        raise DataError(f"{what} empty", "give a text with something in it")
    return Documents(kept, tuple(digests))


def join_digests(digests: Sequence[tuple[str, bytes]]) -> str:
    """The sha256 of a corpus: one file's own, or that of all files' splits and hashes in order."""
    if len(digests) == 1:
        return digests[0][1].hex()
    return hashlib.sha256(b"".join(split.encode() + digest for split, digest in digests)).hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read", error.strerror or str(error)) from error


def _decode(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16", f"convert it: iconv -f utf-16 -t utf-8 {path.name} > new.txt")
    controls = len(data) - len(data.translate(None, _CONTROL))
    if b"\0" in data or controls > 8 + len(data) // 50:
        raise DataError(f"{path} looks like a binary file", "give a plain text in UTF-8")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 at byte {error.start} (0x{data[error.start]:02x})",
            f"convert it, for example: iconv -f latin1 -t utf-8 {path.name} > new.txt",
        ) from None


def _normalized(text: str, normalize: Sequence[Normalization]) -> str:
    if "newlines" in normalize:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "lowercase" in normalize:
        text = text.lower()
    if "nfc" in normalize:  # last: lowering can take a composed character apart
        text = unicodedata.normalize("NFC", text)
    return text


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
