"""What a text is like, before anybody reads it as a whole: its files, its size and, from its beginning, its alphabet.
As a process (a request as JSON on stdin, a survey as one line on stdout) it can be given up, however many files a
folder has. Knows nothing of models, nor of torch.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import msgspec

from engine import processes
from engine.errors import DataError, MiniGPTError
from engine.text.corpus import TRAIN_SHARE
from engine.text.decoding import Decoder, read_blocks
from engine.text.library import find_text

SURVEYED = 1_000_000
"""Bytes that are read, shared out among the files."""

MOST_FILES = 200
"""Files that are looked into."""


class SurveyRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which texts to look at: for training, for validation and for a test, by names and paths."""

    names: tuple[str, ...]
    val: str | None = None
    test: str | None = None


class Survey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found.

    Attributes:
        files: Number of files for training.
        bytes: Their size.
        read: Bytes of them that were read.
        characters: Characters that were read.
        alphabet: Distinct characters among those; a text that was read in part may have more.
        val_bytes: Size of the files for validation; None where the last part of the text is for that.
        problem: What is wrong with it; empty when all is well.
        hint: What to do about that.
    """

    files: int = 0
    bytes: int = 0
    read: int = 0
    characters: int = 0
    alphabet: int = 0
    val_bytes: int | None = None
    problem: str = ""
    hint: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether all of it was read."""
        return self.read >= self.bytes

    def tokens(self, tokenizer: str) -> tuple[int, int]:
        """About how many tokens there are to learn from, and to validate with.

        Args:
            tokenizer: char, byte or bpe; of the last one a token is taken to be three bytes.
        """
        per_byte = {"char": self.characters / max(1, self.read), "byte": 1.0}.get(tokenizer, 1 / 3)
        if self.val_bytes is not None:
            return round(self.bytes * per_byte), round(self.val_bytes * per_byte)
        train = round(self.bytes * per_byte * TRAIN_SHARE)
        return train, round(self.bytes * per_byte) - train


def survey(request: SurveyRequest) -> Survey:
    """Look at a text.

    Raises:
        DataError: A text is not there, cannot be read, is no text, or is blank.
    """
    files = list(itertools.chain.from_iterable(map(find_text, request.names)))
    if not files:
        raise DataError("no text was given", "name a file or a folder")
    if request.test is not None:
        find_text(request.test)
    sizes = list(map(_size, files))
    looked_into = files[:: max(1, len(files) // MOST_FILES)]
    alphabet: set[str] = set()
    read = characters = 0
    for file in looked_into:
        count, text = _beginning(file, SURVEYED // len(looked_into))
        read += count
        characters += len(text)
        alphabet.update(text)
    if not alphabet or "".join(alphabet).isspace():
        raise DataError(f"{request.names[0]} is empty", "give a text with something in it")
    return Survey(
        files=len(files),
        bytes=sum(sizes),
        read=read,
        characters=characters,
        alphabet=len(alphabet),
        val_bytes=None if request.val is None else sum(map(_size, find_text(request.val))),
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise DataError(f"{file} cannot be read", error.strerror or str(error)) from None


def _beginning(file: Path, size: int) -> tuple[int, str]:
    """How many of its first bytes were read, at most `size`, and the text in them."""
    decoder = Decoder(file)
    block = next(read_blocks(file, size), b"")
    text = decoder.decode(block)
    if len(block) < size or not text:  # all of it was read, or what was read is no text
        decoder.finish()
    return len(block), text


def main() -> int:
    """Answer one request; what is wrong with a text is an answer too."""
    try:
        found = survey(msgspec.json.decode(processes.read_request(), type=SurveyRequest))
    except MiniGPTError as error:
        found = Survey(problem=error.message, hint=error.hint)
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
