"""What a model remembers of its text: its name, its files and hashes by split, its size; and how to read a split of
it again. Knows nothing of torch, nor of models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.errors import DataError
from engine.text.corpus import Corpus, Normalization, SplitFiles, join_digests, read_documents, split_documents
from engine.text.library import find_text

SPLITS = ("train", "val", "test")


class TextRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The text that a model was trained on, as `data` in its `minigpt.json`.

    Attributes:
        name: What it is called.
        sha256: Of the training files.
        splits: The files that were given for `train`, `val` and `test`; a split that is not here was cut from the
            training text (`val`), or there is none (`test`).
        column: The column of the text that was named.
        train_tokens: Size of the training split; 0 when it is not known. So with the others.
    """

    name: str = ""
    sha256: str = ""
    splits: dict[str, SplitFiles] = {}
    column: str | None = None
    train_tokens: int = 0
    val_tokens: int = 0
    test_tokens: int = 0


def text_record(corpus: Corpus, train_tokens: int = 0, val_tokens: int = 0, test_tokens: int = 0) -> dict[str, Any]:
    """The record of a corpus as plain values, with the sizes of its splits where they are known."""
    record = TextRecord(
        name=corpus.name,
        sha256=corpus.files["train"].sha256 if "train" in corpus.files else corpus.sha256,
        splits=corpus.files,
        column=corpus.column,
        train_tokens=train_tokens,
        val_tokens=val_tokens,
        test_tokens=test_tokens,
    )
    plain: dict[str, Any] = msgspec.to_builtins(record)
    return plain


def read_text_record(data: Any) -> TextRecord:
    """A record from plain values; of an older one, with a name and a hash alone, what follows from those.

    Raises:
        DataError: They are not those of a record.
    """
    try:
        record = msgspec.convert(data, TextRecord)
    except msgspec.ValidationError as error:
        raise DataError(f"what the model says of its text cannot be read ({error})", "give --data FILE") from None
    if record.splits or not record.name:
        return record
    return msgspec.structs.replace(record, splits={"train": SplitFiles((record.name,), record.sha256)})


def without_folders(data: dict[str, Any]) -> dict[str, Any]:
    """The values of a record with file names in the place of paths, for a model that others will read.

    Values that are not those of a record are left as they are.
    """
    try:
        record = msgspec.convert(data, TextRecord)
    except msgspec.ValidationError:
        return data
    splits = {
        name: SplitFiles(tuple(Path(source).name for source in files.sources), files.sha256)
        for name, files in record.splits.items()
    }
    return {**data, "splits": msgspec.to_builtins(splits)} if splits else data


class Selection(NamedTuple):
    """Documents to evaluate a model on.

    Attributes:
        documents: Made uniform as the model's own text was.
        split: train, val or test; all when it is another text and no part of it was asked for.
        remark: What was chosen without being asked for, for the user; or empty.
    """

    documents: tuple[str, ...]
    split: str
    remark: str


def select(
    record: TextRecord, data: str | None, split: str | None, normalize: Sequence[Normalization] = ()
) -> Selection:
    """The part of a text to evaluate a model on.

    Args:
        record: The model's own text.
        data: A text's file, folder or name; None for the model's own, found again where it was.
        split: train, val or test. None is val when the text is the model's own training text (which its hash
            tells), the split that it was given for when it is another of the model's own files, and else all of it.
        normalize: What was made uniform in the model's own text.

    Raises:
        DataError: A text is not there, cannot be read, or is no longer what it was; or it has no such split.
    """
    if data is None:
        return _select_own(record, split, "train", {}, normalize)
    files = find_text(data)
    sha256 = _hash(files)
    given_as = next((name for name in SPLITS if name in record.splits and record.splits[name].sha256 == sha256), None)
    if given_as is not None:
        return _select_own(record, split, given_as, {given_as: files}, normalize)
    documents = read_documents(files, normalize=normalize).texts
    if split is None:
        remark = "all of the text is used: it is not the one that the model was trained on"
        return Selection(documents, "all", remark)
    train, val = split_documents(documents)
    return _selection({"train": train, "val": val, "test": ()}[split], split, "")


def _select_own(
    record: TextRecord,
    split: str | None,
    given_as: str,
    at_hand: dict[str, list[Path]],
    normalize: Sequence[Normalization],
) -> Selection:
    """A split of the model's own text, from the files at hand by split, or from where its record says they are."""
    wanted = split or ("val" if given_as == "train" else given_as)
    source = wanted if wanted in record.splits else "train"
    if wanted == "test" and source != "test":
        return _selection((), wanted, "")
    files = at_hand.get(source) or _find_again(record.splits[source], source)
    documents = read_documents(files, column=record.column, normalize=normalize).texts
    if source == "train" and "val" not in record.splits:
        train, val = split_documents(documents)
        documents = train if wanted == "train" else val
    names = {"train": "training", "val": "validation", "test": "test"}
    remark = "" if split else f"the {names[wanted]} split is used: the model was trained on this text"
    return _selection(documents, wanted, remark)


def _selection(documents: tuple[str, ...], split: str, remark: str) -> Selection:
    if not documents:
        raise DataError(f"the text has no {split} split", "choose another --split, or leave it out")
    return Selection(documents, split, remark)


def _find_again(split: SplitFiles, name: str) -> list[Path]:
    what, shown = f"the {name} text that the model was trained with", ", ".join(split.sources)
    try:
        files = [file for source in split.sources for file in _find_source(source)]
    except DataError:
        raise DataError(f"{what} is not here ({shown})", "give --data FILE") from None
    if _hash(files) != split.sha256:
        raise DataError(f"{what} is no longer what it was ({shown})", "give --data FILE to use it as it is")
    return files


def _find_source(source: str) -> list[Path]:
    """The files of a source; one without a folder, as an exported model names it, may be a text that has a name."""
    try:
        return find_text(source)
    except DataError:
        if Path(source).name != source:
            raise
        return find_text(Path(source).stem)


def _hash(files: Sequence[Path]) -> str:
    digests = []
    for path in files:
        try:
            with path.open("rb") as file:
                digests.append(("train", hashlib.file_digest(file, "sha256").digest()))
        except OSError as error:
            raise DataError(f"{path} cannot be read", error.strerror or str(error)) from None
    return join_digests(digests)
