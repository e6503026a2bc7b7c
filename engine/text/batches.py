"""Token arrays in, windows of shape (B, T) out: training batches as a pure function of (seed, step), and the windows
of a deterministic evaluation. Knows nothing of torch, files or text; works on arrays in memory and on `np.memmap`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.errors import DataError

if TYPE_CHECKING:
    from engine.text.tokenizers import Tokenizer

Tokens = npt.NDArray[Any]
Ids = npt.NDArray[np.int64]

START_ROWS = 32
"""One row in this many begins with `<|endoftext|>` and a document's start."""

_EPOCH, _ROWS = 0, 1
_PIECE = 1 << 22


class Batches:
    """The endless sequence of training batches of one text.

    An epoch is a shuffle of non-overlapping windows of T tokens. They begin at a phase that is drawn anew for each
    epoch, so that a token is not always seen at the same place; there is one window less than would fit, which
    leaves the phase its room. A batch may run over from one epoch into the next. All draws are raw output of
    Philox (Salmon et al. 2011) under the key (seed, epoch or step), which no version of numpy will change.
    """

    def __init__(
        self,
        tokens: Tokens,
        block_size: int,
        batch_size: int,
        seed: int,
        eot_id: int,
        starts: npt.ArrayLike | None = None,
    ) -> None:
        """Prepare the batches of `tokens`.

        Args:
            tokens: Ids of the training text, shape (N,), of any integer type.
            block_size: Length of a window, T.
            batch_size: Windows in a batch, B: the global batch, before ranks and micro-steps take their slices.
            seed: Of the order; 0 or more.
            eot_id: Id of `<|endoftext|>`.
            starts: Offsets where a document or paragraph begins, in their order. One row in 32 is then a window that
                begins at one of them, with `eot_id` before it, so that a model learns what follows `<|endoftext|>` even
                from a text that is one document.

        Raises:
            DataError: There are fewer than T + 1 tokens.
        """
        if len(tokens) < block_size + 1:
            shorter = f", or make block_size smaller (at most {len(tokens) - 1})" if len(tokens) > 2 else ""
            raise DataError(
                f"the training text has {len(tokens):,} tokens and one window needs {block_size + 1:,}",
                f"use a longer text{shorter}",
            )
        self.tokens = tokens
        self.block_size = block_size
        self.batch_size = batch_size
        self.seed = seed
        self.eot_id = eot_id
        offsets = np.asarray([] if starts is None else starts, dtype=np.int64)
        # those with a whole window behind them; a view, as there may be millions in a mapped file
        self.starts: Ids = offsets[: np.searchsorted(offsets, len(tokens) - block_size, "right")]
        self.windows_per_epoch = max(1, (len(tokens) - 1) // block_size - 1)
        self._cached: tuple[int, Ids] = (-1, offsets[:0])

    @property
    def batches_per_epoch(self) -> float:
        """How many batches one pass over the windows takes; a fraction, as batches run over."""
        return self.windows_per_epoch / self.batch_size

    def batch(self, step: int) -> tuple[Ids, Ids]:
        """The batch of a step, counted from 0.

        Returns:
            Inputs x and targets y, each (B, T) of int64; y is x shifted by one.
        """
        x = np.empty((self.batch_size, self.block_size), np.int64)
        y = np.empty_like(x)
        offsets = self.offsets(step)
        for row, start in enumerate(self._start_rows(step)):
            if start < 0:
                window = self.tokens[offsets[row] : offsets[row] + self.block_size + 1]
                x[row], y[row] = window[:-1], window[1:]
            else:
                y[row] = self.tokens[start : start + self.block_size]
                x[row, 0], x[row, 1:] = self.eot_id, y[row, :-1]
        return x, y

    def offsets(self, step: int) -> Ids:
        """Where the windows of a step's batch begin, shape (B,), before any row gives way to a document's start."""
        first = step * self.batch_size
        rows = np.arange(first, first + self.batch_size)
        epochs, places = rows // self.windows_per_epoch, rows % self.windows_per_epoch
        found = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            found[mine] = self.epoch(int(epoch))[places[mine]]
        return found

    def epoch(self, epoch: int) -> Ids:
        """Where the windows of an epoch begin, in their order, shape (windows_per_epoch,)."""
        if self._cached[0] != epoch:
            count = self.windows_per_epoch
            slack = len(self.tokens) - 1 - count * self.block_size
            draws = _philox(self.seed, epoch, _EPOCH, count + 1)
            phase = int(draws[0] % np.uint64(slack + 1))
            order = np.argsort(draws[1:], kind="stable")
            self._cached = (epoch, phase + order * self.block_size)
        return self._cached[1]

    def _start_rows(self, step: int) -> Ids:
        """For each row the document's start that it begins at, or -1 for a plain window; shape (B,)."""
        if not len(self.starts):
            return np.full(self.batch_size, -1)
        draws = _philox(self.seed, step, _ROWS, 2 * self.batch_size).reshape(2, -1)
        chosen = self.starts[(draws[1] % np.uint64(len(self.starts))).astype(np.int64)]
        return np.where(draws[0] % np.uint64(START_ROWS) == 0, chosen, -1)


def _philox(seed: int, number: int, stream: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` words that depend on (seed, number, stream) alone; streams never overlap."""
    key = np.array([seed, number], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=np.array([0, 0, 0, stream], dtype=np.uint64))
    return np.asarray(generator.random_raw(count), dtype=np.uint64)


def paragraph_starts(tokens: Tokens, tokenizer: Tokenizer) -> Ids:
    r"""Offsets where a document or paragraph begins, for `Batches`.

    An offset is a start when it is 0, when `<|endoftext|>` is before it, or when the text before it ends with a
    blank line ("\n\n", in one token or in two), unless it holds another line break or `<|endoftext|>` itself.

    Args:
        tokens: Ids of a text, shape (N,).
        tokenizer: What they were encoded with.

    Returns:
        Increasing offsets, shape (starts,).
    """
    finder = StartFinder(tokenizer)
    return np.concatenate(
        [np.zeros(0, np.int64), *(finder.find(tokens[at : at + _PIECE]) for at in range(0, len(tokens), _PIECE))]
    )


class StartFinder:
    """`paragraph_starts` of a text that comes piece by piece."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin with a text.

        Args:
            tokenizer: What it is encoded with.
        """
        texts = [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)]
        self._newline = np.array([text == b"\n" for text in texts])
        self._ends_line = np.array([text.endswith(b"\n") for text in texts])
        self._ends_paragraph = np.array([text.endswith(b"\n\n") for text in texts])
        self._ends_paragraph[tokenizer.eot_id] = True
        self._begins = np.array([not text.startswith(b"\n") for text in texts])
        self._begins[tokenizer.eot_id] = False
        self._before: Tokens = np.empty(0, np.uint32)  # the last two tokens
        self._offset = 0

    def find(self, tokens: Tokens) -> Ids:
        """The starts in the next tokens, shape (n,), as offsets from the beginning of the text."""
        context = len(self._before)
        known = np.concatenate([self._before, tokens])
        after_blank = self._ends_paragraph[known[:-1]]  # of known[1:]
        after_blank[1:] |= self._newline[known[1:-1]] & self._ends_line[known[:-2]]
        starts = self._begins[known]
        starts[1:] &= after_blank
        found = np.flatnonzero(starts[context:]) + self._offset
        self._before = known[-2:]
        self._offset += len(tokens)
        return found


class Windows(NamedTuple):
    """A text cut for evaluation; n windows of T tokens and a last one that is shorter. All are views.

    Attributes:
        x: Inputs, (n, T).
        y: Targets, (n, T): x shifted by one.
        last_x: Inputs of the last partial window, (t,) with 0 <= t < T.
        last_y: Its targets, (t,).
    """

    x: Tokens
    y: Tokens
    last_x: Tokens
    last_y: Tokens

    @property
    def targets(self) -> int:
        """Number of tokens that are predicted."""
        return int(self.y.size + self.last_y.size)


def windows(tokens: Tokens, block_size: int) -> Windows:
    """The whole of a text in non-overlapping windows: each token but the first is a target exactly once.

    Args:
        tokens: Ids, shape (N,).
        block_size: Length of a window, T.

    Raises:
        DataError: There are fewer than two tokens.
    """
    if len(tokens) < 2:
        raise DataError(f"the text has {len(tokens)} tokens", "at least two are needed to predict one")
    count = (len(tokens) - 1) // block_size
    whole = count * block_size
    return Windows(
        x=tokens[:whole].reshape(count, block_size),
        y=tokens[1 : whole + 1].reshape(count, block_size),
        last_x=tokens[whole:-1],
        last_y=tokens[whole + 1 :],
    )
