"""Guesses through `guess.h`, for many texts in one call: those of `engine.inference.draft` where there is a table."""

from __future__ import annotations

import ctypes
import secrets
import weakref
from array import array
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_uint64, c_void_p

import numpy as np

from engine.inference.draft import match_length
from engine.inference.draft_table import DraftTable

MOST_GUESSES = 8
"""Of one text in one call."""

ROOMS = 1 << 13
"""Places of a text that are remembered, at most; a power of two."""

CONTEXT_BITS = 64
"""A context and a match must fit in so many."""


class TableStruct(Structure):
    """`table` in `guess.h`."""

    _fields_ = (
        ("longest", c_int32),
        ("bits", c_int32),
        ("rooms", c_int64),
        ("contexts", c_void_p),
        ("rows", c_void_p),
        ("odd", c_uint64),
        *((name, c_void_p) for name in ("ends", "ids", "logarithms")),
    )


class DraftStruct(Structure):
    """`draft` in `guess.h`."""

    _fields_ = (
        ("table", POINTER(TableStruct)),
        ("tokens", c_void_p),
        ("length", c_int64),
        ("learned", c_int64),
        ("noise", c_void_p),
        ("vocabulary", c_int64),
        ("scale", c_float),
        ("match", c_int32),
        ("rooms", c_int32),
        ("keys", POINTER(c_uint64)),
        ("places", POINTER(c_int64)),
        ("wanted", c_int32),
        ("found", c_int32),
        ("guesses", c_int32 * MOST_GUESSES),
    )


class NativeTable:
    """A table as the library looks things up in it.

    Attributes:
        struct: What points to it.
    """

    def __init__(self, library: ctypes.CDLL, table: DraftTable) -> None:
        """Lay it out.

        Args:
            library: What was built of `pass.c`.
            table: It; what it holds stays there as long as this does.
        """
        contexts = [np.ascontiguousarray(each, np.uint64) for each in table.contexts]
        rooms = 1 << (2 * sum(map(len, contexts))).bit_length()  # a quarter to a half of them are taken
        self._arrays = (
            np.zeros(rooms, np.uint64),
            np.zeros(rooms, np.int32),
            np.ascontiguousarray(table.ends, np.int64),
            np.ascontiguousarray(table.ids, np.int32),
            np.ascontiguousarray(table.logarithms, np.float32),
        )
        found, rows, *told = [each.ctypes.data for each in self._arrays]
        odd = secrets.randbits(64) | 1
        self.struct = TableStruct(table.longest, table.bits, rooms, found, rows, odd, *told)
        row = 0
        for length, each in enumerate(contexts):
            library.fill_table(ctypes.byref(self.struct), each.ctypes.data, len(each), length, row)
            row += len(each)


class NativeDraft:
    """Guesses for one text, which only grows. It is told what is wanted, and then guesses with others."""

    def __init__(self, library: ctypes.CDLL, table: DraftTable, vocab_size: int) -> None:
        """Prepare.

        Args:
            library: What was built of `pass.c`.
            table: Of the model, one that `fits`.
            vocab_size: V, of the noise.
        """
        if table not in _TABLES:
            _TABLES[table] = NativeTable(library, table)
        self._table, self._tokens = _TABLES[table], array("i")
        self._struct = DraftStruct(
            table=ctypes.pointer(self._table.struct),
            vocabulary=vocab_size,
            match=match_length(table.vocab_size),
            rooms=ROOMS,
            keys=(c_uint64 * ROOMS)(),
            places=(c_int64 * ROOMS)(),
        )
        self.address = ctypes.addressof(self._struct)

    def want(self, tokens: Sequence[int], noise: int, temperature: float, count: int) -> None:
        """Say what `guess` is to guess next.

        Args:
            tokens: The text so far: that of the last call with more behind it.
            noise: Where that of the next places lies, (count, V) in float32; not looked at where the temperature is 0.
            temperature: What the model's logits are divided by; 0 is greedy.
            count: How many guesses, at most MOST_GUESSES.
        """
        self._tokens.extend(tokens[len(self._tokens) :])
        struct = self._struct
        struct.tokens, struct.length = self._tokens.buffer_info()
        struct.noise = noise if temperature else None
        struct.scale = 1.0 / temperature if temperature else 1.0
        struct.wanted = min(count, MOST_GUESSES)

    @property
    def guesses(self) -> list[int]:
        """What was guessed: as many ids as were wanted, or fewer."""
        return list(self._struct.guesses[: self._struct.found])


def guess(library: ctypes.CDLL, drafts: Sequence[NativeDraft]) -> None:
    """Guess for texts that have said what they want."""
    library.guess_all((c_void_p * len(drafts))(*[draft.address for draft in drafts]), len(drafts))


def fits(table: DraftTable) -> bool:
    """Whether what is looked up fits in the library's numbers."""
    return match_length(table.vocab_size) * table.bits <= CONTEXT_BITS


_TABLES: weakref.WeakKeyDictionary[DraftTable, NativeTable] = weakref.WeakKeyDictionary()
