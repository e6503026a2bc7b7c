"""Files in, documents out: plain text, Markdown, CSV, JSONL and folders of them, checked, made uniform on request and
split into train, validation and test. Knows nothing of tokens, beyond joining encoded documents, nor of where texts
are kept.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from engine.errors import DataError
from engine.text.decoding import Decoder
from engine.text.tables import is_table, table_documents

if TYPE_CHECKING:
    from engine.text.tokenizers import TokenArray, Tokenizer

FOLDER_SUFFIXES = (".txt", ".md", ".csv", ".jsonl", ".py")
"""What is read of a folder; a file that is named itself may have any suffix."""

TRAIN_SHARE = 0.9

Normalization = Literal["nfc", "newlines", "lowercase"]
"""`nfc` (composed characters), `newlines` (every line end is LF) or `lowercase`."""


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
    import numpy as np  # whoever only asks which texts there are need not wait for it

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
        decoder = Decoder(file)
        text = decoder.decode(data)
        decoder.finish()
        texts += table_documents(file, text, column) if is_table(file) else [text]
    kept = tuple(normalized(text, normalize) for text in texts if text and not text.isspace())
    if not kept:
        raise all_blank(files)
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


def all_blank(files: Sequence[Path]) -> DataError:
    """What is wrong with files that hold white space alone, or nothing."""
    what = f"{files[0]} is" if len(files) == 1 else f"all {len(files)} files are"
    return DataError(f"{what} empty", "give a text with something in it")


def normalized(text: str, normalize: Sequence[Normalization]) -> str:
    """A text, made uniform."""
    if "newlines" in normalize:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "lowercase" in normalize:
        text = text.lower()
    if "nfc" in normalize:  # last: lowering can take a composed character apart
        text = unicodedata.normalize("NFC", text)
    return text
