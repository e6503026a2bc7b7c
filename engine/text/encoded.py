"""Texts in, token ids out, ready for training: short texts in memory, long ones as files that are mapped. A long text
is encoded piece by piece at its first start, never in memory as a whole, and opened at once at the next. Knows nothing
of torch, nor of models.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine.errors import DataError
from engine.text import corpus_cache
from engine.text.batches import Ids, StartFinder, paragraph_starts
from engine.text.corpus import (
    TRAIN_SHARE,
    Normalization,
    SplitFiles,
    all_blank,
    encode_documents,
    join_digests,
)
from engine.text.cutting import Piece, batches, part
from engine.text.kinds import TokenizerKind
from engine.text.library import find_text, findable, open_corpus, text_name
from engine.text.pieces import read_pieces
from engine.text.provenance import SPLITS, TextRecord, text_record
from engine.text.tables import is_table
from engine.text.tokenizers import TokenArray, Tokenizer, safe_chunks, train_tokenizer

IN_MEMORY_BYTES: dict[TokenizerKind, int] = {"char": 8 << 20, "byte": 8 << 20, "bpe": 2 << 20}
"""Texts up to this size are encoded anew at each start: that takes about half a second."""

SAMPLE = 1 << 28
"""Merges are learned from about this many characters, spread over the text."""

_BATCH = 1 << 20
"""Characters that are encoded at once."""

PathLike = str | os.PathLike[str]
Report = Callable[[str], None]
Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is; what it raises ends the work, and leaves nothing."""


class EncodedCorpus(msgspec.Struct, frozen=True, eq=False):
    """A text as a model reads it. While the object lives, its files stay.

    Attributes:
        name: What to call it.
        tokenizer: What it is encoded with.
        train: Ids of the training split, shape (tokens,), read-only: uint16, or uint32 for a large vocabulary.
        val: Ids of the validation split.
        test: Ids of the test split; empty unless one was given.
        starts: Where documents and paragraphs of the training split begin, for `Batches`.
        data: The text's record, as `text_record` gives it.
        sha256: Of what the files hold: for one file, the hash of its bytes.
        lease: What keeps the files from being removed; None for a text in memory.
    """

    name: str
    tokenizer: Tokenizer
    train: TokenArray
    val: TokenArray
    test: TokenArray
    starts: Ids
    data: dict[str, Any]
    sha256: str
    lease: corpus_cache.Lease | None = None


class _Sources(NamedTuple):
    """What is read, and how.

    Attributes:
        given: For each split that was given, the names or paths.
        files: The files that they stand for.
        column: Where the text is in CSV and JSONL files.
        normalize: What is made uniform.
    """

    given: dict[str, tuple[PathLike, ...]]
    files: dict[str, list[Path]]
    column: str | None
    normalize: tuple[Normalization, ...]

    def pieces(self, split: str) -> Iterator[Piece]:
        """The documents that were given for a split, in pieces."""
        return read_pieces(self.files[split], column=self.column, normalize=self.normalize)


def open_encoded(
    names: Sequence[PathLike],
    *,
    val: PathLike | None = None,
    test: PathLike | None = None,
    column: str | None = None,
    normalize: Iterable[Normalization] = (),
    tokenizer: TokenizerKind | Tokenizer = "char",
    vocab_size: int = 1024,
    report: Report | None = None,
    progress: Progress | None = None,
) -> EncodedCorpus:
    """The token ids of a text, split as `open_corpus` splits it.

    Args:
        names: Files, folders, or names of texts.
        val: Text for validation; without one, the last 10% of the characters are.
        test: Text for the test split.
        column: Where the text is in CSV and JSONL files; found when it is not named.
        normalize: What is made uniform: `nfc`, `newlines`, `lowercase`.
        tokenizer: The kind to make for this text, or one that a model has already.
        vocab_size: Number of ids of a `bpe` tokenizer that is made.
        report: Called with a sentence on what a user may wonder about.
        progress: Called as a long text is encoded.

    Raises:
        DataError: A text is unknown, empty, binary or not UTF-8, or the encoded one cannot be written.
        TokenizerError: A tokenizer cannot be made, or does not know a character.
    """
    given = {"train": tuple(names), **{name: (it,) for name, it in (("val", val), ("test", test)) if it is not None}}
    files = {split: [file for name in given[split] for file in find_text(name)] for split in given}
    sources = _Sources(given, files, column, tuple(normalize))
    kind = tokenizer.kind if isinstance(tokenizer, Tokenizer) else tokenizer
    every_file = list(itertools.chain(*files.values()))
    size = sum(corpus_cache.file_facts(file).size for file in every_file)
    # what is no file, such as a pipe, can be read but once
    if size <= IN_MEMORY_BYTES[kind] or not all(file.is_file() for file in every_file):
        return _encode_in_memory(sources, tokenizer, vocab_size)
    return _open_mapped(sources, tokenizer, vocab_size, report or _say_nothing, progress or _say_nothing)


def _say_nothing(*_: object) -> None:
    pass


def _encode_in_memory(sources: _Sources, chosen: TokenizerKind | Tokenizer, vocab_size: int) -> EncodedCorpus:
    val, test = (sources.given.get(split, (None,))[0] for split in ("val", "test"))
    corpus = open_corpus(sources.given["train"], val=val, test=test, column=sources.column, normalize=sources.normalize)
    if isinstance(chosen, Tokenizer):
        tokenizer = chosen
    else:
        # an alphabet is of the whole text, or validation could not be read; merges are learned from the training split
        learned_from = corpus.train if chosen == "bpe" else (*corpus.train, *corpus.val, *corpus.test)
        tokenizer = train_tokenizer(chosen, learned_from, vocab_size)
    train, val_ids, test_ids = (encode_documents(tokenizer, split) for split in (corpus.train, corpus.val, corpus.test))
    return EncodedCorpus(
        name=corpus.name,
        tokenizer=tokenizer,
        train=train,
        val=val_ids,
        test=test_ids,
        starts=paragraph_starts(train, tokenizer),
        data=text_record(corpus, len(train), len(val_ids), len(test_ids)),
        sha256=corpus.sha256,
    )


def _open_mapped(
    sources: _Sources,
    chosen: TokenizerKind | Tokenizer,
    vocab_size: int,
    report: Report,
    progress: Progress,
) -> EncodedCorpus:
    name = "-".join(map(text_name, sources.given["train"][:3]))
    files = {file: corpus_cache.file_facts(file) for file in itertools.chain(*sources.files.values())}
    size = sum(facts.size for facts in files.values())
    digests = _digests(sources, size, progress)
    entry = corpus_cache.entries_folder() / _key(sources, digests, chosen, vocab_size)
    lease = corpus_cache.lease(entry)
    if lease is not None and not corpus_cache.is_whole(entry):
        report(f"the encoded copy of {name} was damaged and is made again")
        corpus_cache.discard(entry)
        lease = None
    if lease is None:
        report(f"{name} ({size / 1e6:,.0f} MB) is encoded, once; from then on it is opened at once")
        with corpus_cache.new_entry(entry) as folder:
            _build(sources, chosen, vocab_size, size, folder, report, progress)
            if any(corpus_cache.file_facts(file) != facts for file, facts in files.items()):
                raise DataError(f"the text {name} changed while it was read", "start again once it is complete")
        lease = corpus_cache.lease(entry)
        if lease is None:
            raise DataError(f"the encoded copy of {name} was removed from {entry.parent}", "start again")
        corpus_cache.make_room()

    tokenizer = chosen if isinstance(chosen, Tokenizer) else Tokenizer.open(entry)
    train, val, test = (_mapped(entry / f"{split}.bin", tokenizer.dtype) for split in SPLITS)
    by_split = {
        split: SplitFiles(
            tuple(map(findable, sources.given[split])), join_digests([("train", digest) for digest in digests[split]])
        )
        for split in digests
    }
    record = TextRecord(
        name=name,
        sha256=by_split["train"].sha256,
        splits=by_split,
        column=sources.column,
        train_tokens=len(train),
        val_tokens=len(val),
        test_tokens=len(test),
    )
    return EncodedCorpus(
        name=name,
        tokenizer=tokenizer,
        train=train,
        val=val,
        test=test,
        starts=_mapped(entry / "starts.bin", np.int64),
        data=msgspec.to_builtins(record),
        sha256=join_digests([(split, digest) for split in digests for digest in digests[split]]),
        lease=lease,
    )


def _mapped(file: Path, dtype: type[np.integer[Any]]) -> Any:
    """What a file holds, without reading it."""
    if not file.stat().st_size:  # nothing cannot be mapped
        return np.empty(0, dtype)
    return np.asarray(np.memmap(file, dtype, mode="r"))  # a plain array: it is quicker to take slices of


def _digests(sources: _Sources, size: int, progress: Progress) -> dict[str, list[bytes]]:
    """Each file's sha256, by split."""
    hashes, done = corpus_cache.FileHashes(), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress("reading", min(done / size, 1.0))

    digests = {split: [hashes.sha256(file, tell) for file in files] for split, files in sources.files.items()}
    hashes.save()
    return digests


def _key(sources: _Sources, digests: dict[str, list[bytes]], chosen: TokenizerKind | Tokenizer, vocab_size: int) -> str:
    """The name of an entry: a hash of all that decides what is in it. Where the files are does not."""
    files = [
        [split, digest.hex(), file.suffix.lower() if is_table(file) else ""]
        for split, of_files in sources.files.items()
        for file, digest in zip(of_files, digests[split], strict=True)
    ]
    if isinstance(chosen, Tokenizer):
        tokenizer: list[str | int] = ["own", chosen.sha256()]
    else:
        tokenizer = [chosen, vocab_size] if chosen == "bpe" else [chosen]
    steps = sorted({*sources.normalize, unicodedata.unidata_version}) if sources.normalize else []
    parts = [corpus_cache.LAYOUT, TRAIN_SHARE, SAMPLE, files, sources.column, steps, tokenizer]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _build(
    sources: _Sources,
    chosen: TokenizerKind | Tokenizer,
    vocab_size: int,
    size: int,
    folder: Path,
    report: Report,
    progress: Progress,
) -> None:
    """Write a text's ids, the starts of its paragraphs and its tokenizer into a folder."""
    characters, alphabet = _survey(sources, size, progress)

    def pieces(split: str) -> Iterator[Piece]:
        left, end = int(characters["train"] * TRAIN_SHARE), characters["train"]
        if "val" in characters or split == "test":
            return sources.pieces(split) if split in characters else iter(())
        return part(sources.pieces("train"), *((0, left) if split == "train" else (left, end)))

    if isinstance(chosen, Tokenizer):
        tokenizer = chosen
    elif chosen == "bpe":
        share = 1.0 if "val" in characters else TRAIN_SHARE
        tokenizer = _learn(pieces("train"), int(characters["train"] * share), vocab_size, report, progress)
    else:
        tokenizer = train_tokenizer(chosen, [alphabet])
    tokenizer.save(folder)
    finder, done, total = StartFinder(tokenizer), 0, sum(characters.values())
    with (folder / "starts.bin").open("wb") as starts:
        for split in SPLITS:
            with (folder / f"{split}.bin").open("wb") as out:
                for count, ids in _encoded(tokenizer, pieces(split)):
                    out.write(ids.tobytes())
                    if split == "train":
                        starts.write(finder.find(ids).tobytes())
                    done += count
                    progress("encoding", done / total)


def _survey(sources: _Sources, size: int, progress: Progress) -> tuple[dict[str, int], str]:
    """How many characters there are for each split, and which, in order."""
    characters, seen = dict.fromkeys(sources.files, 0), np.zeros(0x110000, bool)
    for split in characters:
        for piece in sources.pieces(split):
            characters[split] += len(piece.text)
            seen[np.frombuffer(piece.text.encode("utf-32-le"), np.uint32)] = True
            progress("counting", min(sum(characters.values()) / size, 1.0))
        if not characters[split]:
            raise all_blank(sources.files[split])
    return characters, "".join(map(chr, np.flatnonzero(seen)))


def _learn(pieces: Iterable[Piece], characters: int, vocab_size: int, report: Report, progress: Progress) -> Tokenizer:
    """A bpe tokenizer from a text, or from every so many-th part of a long one."""
    every = max(1, -(-characters // SAMPLE))
    if every > 1:
        report(f"the vocabulary is learned from a sample of {characters / every / 1e6:,.0f} million characters")
    done = 0

    def texts() -> Iterator[str]:
        nonlocal done
        for number, piece in enumerate(safe_chunks(pieces)):
            done += len(piece.text)
            if number % every == 0:
                yield piece.text
                progress("learning the vocabulary", done / characters)

    return train_tokenizer("bpe", texts(), vocab_size)


def _encoded(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> Iterator[tuple[int, TokenArray]]:
    """The ids of documents, with `<|endoftext|>` between them, in parts; with each the characters that it is of."""
    end, is_first = np.array([tokenizer.eot_id], tokenizer.dtype), True
    for batch in batches(tokenizer.chunks(pieces), _BATCH):
        parts: list[TokenArray] = []
        for piece, ids in zip(batch, tokenizer.encode_arrays([piece.text for piece in batch]), strict=True):
            if piece.begins and not is_first:
                parts.append(end)
            parts.append(ids)
            is_first = False
        yield sum(len(piece.text) for piece in batch), np.concatenate(parts)
