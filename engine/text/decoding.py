"""Bytes in, text out, a block at a time: UTF-8 that is checked as it passes, so that a file of any size is found to be
no text, and where, without being held in memory.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from engine.errors import DataError

_CONTROL = bytes(sorted(set(range(32)) - set(b"\t\n\v\f\r\b\x1b"))) + b"\x7f"
_BOM = "\ufeff"


class Decoder:
    """The text of one file, from its bytes in their order."""

    def __init__(self, file: Path) -> None:
        """Begin with a file.

        Args:
            file: Its name, for what is said of it.
        """
        self.file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._head = b""
        self._bytes = 0
        self._controls = 0
        self._has_zero = False
        self._begun = False
        self._wrong: tuple[int, int] | None = None  # the first byte that is not UTF-8: its place and value

    def decode(self, block: bytes) -> str:
        """What a block adds to the text, without a byte order mark; nothing once a byte was not UTF-8."""
        if len(self._head) < 2:
            self._head = (self._head + block[:2])[:2]
        self._controls += len(block) - len(block.translate(None, _CONTROL))
        self._has_zero = self._has_zero or b"\0" in block
        text = self._next(block)
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix(_BOM)
        self._bytes += len(block)
        return text

    def finish(self) -> None:
        """Say that there are no more bytes.

        Raises:
            DataError: The file is UTF-16, looks like a binary file, or is not UTF-8; the message says at which byte.
        """
        self._next(b"", final=True)
        if self._head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            name = self.file.name
            raise DataError(f"{self.file} is UTF-16", f"convert it: iconv -f utf-16 -t utf-8 {name} > new.txt")
        if self._has_zero or self._controls > 8 + self._bytes // 50:
            raise DataError(f"{self.file} looks like a binary file", "give a plain text in UTF-8")
        if self._wrong is not None:
            place, value = self._wrong
            raise DataError(
                f"{self.file} is not UTF-8 at byte {place} (0x{value:02x})",
                f"convert it, for example: iconv -f latin1 -t utf-8 {self.file.name} > new.txt",
            )

    def _next(self, block: bytes, final: bool = False) -> str:
        if self._wrong is not None:
            return ""
        kept_back = len(self._decoder.getstate()[0])  # the beginning of a character that is not whole yet
        try:
            return self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            self._wrong = (self._bytes - kept_back + error.start, error.object[error.start])
            return ""


def decoded_blocks(file: Path, size: int) -> Iterator[str]:
    """The text of a file, from blocks of `size` bytes.

    Raises:
        DataError: It cannot be read, or, once its end is reached, is no text.
    """
    decoder = Decoder(file)
    for block in read_blocks(file, size):
        yield decoder.decode(block)
    decoder.finish()


def read_blocks(file: Path, size: int) -> Iterator[bytes]:
    """The bytes of a file, in blocks of `size`.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with file.open("rb", buffering=0) as handle:
            while block := handle.read(size):
                yield block
    except OSError as error:
        raise DataError(f"{file} cannot be read", error.strerror or str(error)) from error
