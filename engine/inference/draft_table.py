"""What a training text says of the next token: counts of n-grams, thinned out to a small table beside a checkpoint. It
is made once from the token ids that a model learns from, and depends on them alone. Knows nothing of torch.

The shares are those of interpolated absolute discounting (Ney, Essen and Kneser, 1994). Contexts are kept by what they
tell beyond shorter ones for each byte that they take (after Stolcke, "Entropy-based pruning of backoff language
models", 1998): most tell so little that a table without them is not only smaller, but agrees with a model more often.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from engine import catalog, safe_writing
from engine.errors import CheckpointError

TABLE = f"{catalog.DRAFT}/ngrams.safetensors"
"""In a checkpoint or a run; in a folder, as servers load every safetensors file at a checkpoint's top."""

FORMAT = "minigpt-tui n-grams 1"

NAMES = {"counts", "oldest", "children", "widths", "ids", "shares"}
KINDS = (np.uint8, np.uint16, np.uint32)
LARGEST_VOCABULARY = 1 << 31

BUDGET = 1 << 20
"""Bytes of a table, at most."""

FILE_BYTES = 1 << 24
"""What is larger is no table of ours, and is not read."""

LONGEST = 6
"""Tokens of the longest contexts; fewer where the ids are so large that one more does not fit into 64 bits."""

READ_TOKENS = 1 << 22
"""Of a longer text so many are read, in STRETCHES spread evenly over it."""

STRETCHES = 64

DISCOUNT = 0.9
"""Taken off each count, for what the shorter contexts say."""

WIDEST = 64
"""Tokens that a context tells of by itself, at most."""

LEAST_GAIN = 0.4
"""Nats over the whole text, for each byte, that a context must tell beyond a shorter one. What tells less is chance."""

HEADER_BYTES, CONTEXT_BYTES = 640, 3
"""Of a table; and of a context, beside its oldest token's id and the tokens that it tells of."""

TINY = 1e-9
"""The share of what shorter contexts have never seen."""

STEPS = 16
"""How finely logarithms of shares are kept: steps per nat, in a byte each."""

SHARES = np.exp(-np.arange(256) / STEPS)

LEAST_SHARE = 0.003
"""What is less likely to follow is not weighed for a guess."""

MOST_SPREAD = 1 << 21
"""Tokens that contexts of one length take from shorter ones, all together: several times what a table of the whole
budget came to. Where it would be more, each has its own alone."""

REMEMBERED = 1 << 13
"""Contexts whose candidates are at hand, at most."""

Array = npt.NDArray[Any]
Candidates = tuple[Sequence[int], Sequence[float]]
"""Token ids, and the logarithms of their shares."""


class DraftTable:
    """Which tokens follow which, for all texts of a model. What it tells never changes, so threads may share it.

    Attributes:
        vocab_size: All ids are below it.
        bits: Of an id in a packed context, whose oldest token stands highest.
        longest: Tokens of the longest contexts that it knows.
        arrays: What is stored. Contexts are in order of length, then of the context without its oldest token (the
            parent), then of that token. `counts`: contexts of each length, (longest + 1,). `oldest`: the oldest token
            of each context, (N,). `children`: contexts one longer, (N without the longest,). `widths`: tokens that it
            tells of, (N,). `ids` and `shares`: these tokens, and how likely each is, in -1/STEPS nats, (M,).
        contexts: Of each length, packed, in the order of their rows.
        ends: Where the tokens of each row begin, and where the last one's end, (N + 1,).
        ids: These tokens, with those that shorter contexts tell of.
        logarithms: Of the share of each.
    """

    def __init__(self, vocab_size: int, arrays: dict[str, Array]) -> None:
        """Take arrays that belong together, as `build_table` makes them and `open` lets through."""
        self.vocab_size, self.arrays, self.bits = vocab_size, arrays, id_bits(vocab_size)
        self.longest = len(arrays["counts"]) - 1
        self.contexts, parents = _unfold(arrays, self.bits)
        self.ends, self.ids, self.logarithms = _spread(arrays, parents, vocab_size)
        self._remembered: dict[int, Candidates] = {}

    @functools.cached_property
    def _search(self) -> list[tuple[int, Callable[[int], int | None]]]:
        """For each length what finds a context's row, the longest first; all know the empty context."""
        rows = iter(range(len(self.ends)))
        find = [dict(zip(contexts.tolist(), rows, strict=False)) for contexts in self.contexts]
        return [((1 << length * self.bits) - 1, find[length].get) for length in reversed(range(len(find)))]

    def candidates(self, context: int) -> Candidates:
        """What may follow the latest `longest` tokens, packed; where a text has fewer, zeros stand before them."""
        known = self._remembered.get(context)
        if known is not None:
            return known
        row = 0
        for mask, find in self._search:
            if (found := find(context & mask)) is not None:
                row = found
                break
        if len(self._remembered) >= REMEMBERED:
            self._remembered.clear()
        own = slice(self.ends[row], self.ends[row + 1])
        known = self._remembered[context] = self.ids[own].tolist(), self.logarithms[own].tolist()
        return known

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint's or a run's directory, in a folder of its own, in one step.

        Raises:
            OSError: It cannot be written.
        """
        metadata = {"format": FORMAT, "vocab_size": str(self.vocab_size)}
        with safe_writing.new_directory(folder / catalog.DRAFT, replace=True) as new:
            (new / Path(TABLE).name).write_bytes(safetensors.numpy.save(self.arrays, metadata))

    @classmethod
    def open(cls, folder: Path) -> DraftTable | None:
        """The table in a checkpoint's or a run's directory; None where there is none that is whole."""
        try:
            if (folder / TABLE).stat().st_size > FILE_BYTES:
                return None
            with safetensors.safe_open(folder / TABLE, "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    return None
                vocab_size = int(metadata["vocab_size"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
            return None
        return cls(vocab_size, arrays) if _is_sound(vocab_size, arrays) else None


def id_bits(vocab_size: int) -> int:
    """Bits that hold any id below `vocab_size`."""
    return max(1, (vocab_size - 1).bit_length())


def _unfold(arrays: dict[str, Array], bits: int) -> tuple[list[Array], Array]:
    """The packed contexts of each length, and the row of each context's parent."""
    packed, parents = [np.zeros(1, np.uint64)], [np.zeros(1, np.int64)]
    begin, end = 0, 1  # rows of the parents
    for length, count in enumerate(arrays["counts"][1:].tolist()):
        nth = np.repeat(np.arange(end - begin), arrays["children"][begin:end])
        parents.append(begin + nth)
        begin, end = end, end + count
        oldest = arrays["oldest"][begin:end].astype(np.uint64) << np.uint64(length * bits)
        packed.append(packed[-1][nth] | oldest)
    return packed, np.concatenate(parents)


def _spread(arrays: dict[str, Array], parents: Array, vocab_size: int) -> tuple[Array, Array, Array]:
    """What may follow each context: its own tokens, and for the rest of their shares those of its parent.

    All at once, as a context alone takes some ten times as long, and most of a text's are met once.

    Returns:
        Where each one's tokens end, (N + 1,) from 0 on; these tokens' ids, and the logarithms of their shares.
    """
    told, widths = SHARES[arrays["shares"]], arrays["widths"].astype(np.int64)
    bounds = np.concatenate(([0], np.cumsum(widths)))
    rests = 1.0 - np.bincount(np.repeat(np.arange(len(widths)), widths), told, len(widths))
    ids, shares, sizes = np.zeros(0, np.int64), np.zeros(0), np.zeros(1, np.int64)  # of the contexts one shorter
    before = begin = 0  # their first row, and that of these
    parts = []
    for count in arrays["counts"].tolist():
        rows, own = slice(begin, begin + count), slice(bounds[begin], bounds[begin + count])
        parent, rest = parents[rows] - before, rests[rows]
        taken = np.where(rest > 0.0, sizes[parent], 0)
        if taken.sum() > MOST_SPREAD:
            taken = np.zeros_like(taken)
        place = np.arange(taken.sum()) + np.repeat((np.cumsum(sizes) - sizes)[parent] - np.cumsum(taken) + taken, taken)
        keys = np.concatenate((np.repeat(np.arange(count), widths[rows]), np.repeat(np.arange(count), taken)))
        keys = keys * vocab_size + np.concatenate((arrays["ids"][own].astype(np.int64), ids[place]))
        both = np.concatenate((told[own], shares[place] * np.repeat(rest, taken)))
        order = np.argsort(keys, kind="stable")
        keys, starts = keys[order], _groups(keys[order])[0]
        total = np.add.reduceat(both[order], starts)
        keys, shares = keys[starts][total >= LEAST_SHARE], total[total >= LEAST_SHARE]
        ids, sizes = keys % vocab_size, np.bincount(keys // vocab_size, minlength=count)
        parts.append((ids, shares, sizes))
        before, begin = begin, begin + count
    ids, shares, sizes = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.concatenate(([0], np.cumsum(sizes))), _narrow(ids), np.log(shares).astype(np.float32)


def _is_sound(vocab_size: int, arrays: dict[str, Array]) -> bool:
    """Whether what was read is a table: all of it there, of one piece, and every id in the vocabulary."""
    if set(arrays) != NAMES or not 0 < vocab_size <= LARGEST_VOCABULARY:
        return False
    if any(array.ndim != 1 or array.dtype not in KINDS for array in arrays.values()):
        return False
    counts, children = arrays["counts"].astype(np.int64), arrays["children"].astype(np.int64)
    contexts, tokens = len(arrays["oldest"]), len(arrays["ids"])
    if not 0 < len(counts) <= longest_context(vocab_size) + 1 or counts[0] != 1 or counts.sum() != contexts:
        return False
    if len(arrays["widths"]) != contexts or len(children) != contexts - counts[-1]:
        return False
    if arrays["widths"].sum(dtype=np.int64) != tokens or len(arrays["shares"]) != tokens:
        return False
    born = [part.sum() for part in np.split(children, np.cumsum(counts[:-1]))[:-1]]
    if born != counts[1:].tolist():
        return False
    limits = {"ids": vocab_size, "oldest": vocab_size, "shares": len(SHARES)}
    return all(arrays[name].max(initial=0) < limit for name, limit in limits.items())


def longest_context(vocab_size: int) -> int:
    """Tokens of the longest contexts: LONGEST, or as many as leave room for one more id in 64 bits."""
    return min(LONGEST, 64 // id_bits(vocab_size) - 1)


def find_table(checkpoint: Path) -> DraftTable | None:
    """The table that belongs to a model: in its own directory, or else in that of the run that it is a checkpoint of.

    A table of another vocabulary than the model's is left alone, and so is one that is damaged.
    """
    try:
        vocab_size = catalog.read_config(checkpoint).get("vocab_size")
    except CheckpointError:
        return None
    places, path = [checkpoint], checkpoint.resolve()
    if path.parent.name == "checkpoints" and path.name.startswith("step-"):
        places.append(path.parent.parent)
    tables = (DraftTable.open(place) for place in places)
    return next((table for table in tables if table and table.vocab_size == vocab_size), None)


# Building


def build_table(tokens: Array, vocab_size: int, *, budget: int = BUDGET) -> DraftTable:
    """Count a text.

    Args:
        tokens: Ids below `vocab_size`, (tokens,), of any unsigned kind; may be a mapped file.
        vocab_size: The model's.
        budget: Bytes that its file may take; what tells most for each byte is kept.
    """
    bits, read, orders = id_bits(vocab_size), _read(tokens), list[_Order]()
    for length in range(longest_context(vocab_size) + 1):
        orders.append(_count(read, length, bits, orders[-1] if orders else None))
    return DraftTable(vocab_size, _stored(orders, _chosen(orders, budget - HEADER_BYTES, bits), bits))


def _read(tokens: Array) -> Array:
    """A text's ids, or stretches of a long one."""
    if len(tokens) <= READ_TOKENS:
        return tokens.astype(np.uint64)
    length = READ_TOKENS // STRETCHES
    begins = np.linspace(0, len(tokens) - length, STRETCHES).astype(np.int64).tolist()
    return np.concatenate([tokens[begin : begin + length] for begin in begins]).astype(np.uint64)


class _Order(NamedTuple):
    """What contexts of one length tell.

    Attributes:
        contexts: Packed, ascending, (N,).
        widths: Tokens that each tells of, (N,).
        grams: These tokens, each behind its context, ascending, (M,).
        own: Shares of these tokens by their own counts, (M,).
        shares: The same with what shorter contexts say, (M,).
        gains: Nats that each tells beyond shorter ones, over the whole text, (N,).
    """

    contexts: Array
    widths: Array
    grams: Array
    own: Array
    shares: Array
    gains: Array


def _count(tokens: Array, length: int, bits: int, shorter: _Order | None) -> _Order:
    packed = np.zeros(max(0, len(tokens) - length), np.uint64)
    for behind in range(length + 1):
        packed = packed << np.uint64(bits) | tokens[behind : behind + len(packed)]
    grams, counts = np.unique(packed, return_counts=True)
    starts, sizes = _groups(grams >> np.uint64(bits))
    totals = np.repeat(np.add.reduceat(counts, starts), sizes)
    rank = np.empty(len(grams), np.int64)  # within its context, from the most frequent on
    rank[np.lexsort((-counts, np.repeat(starts, sizes)))] = np.arange(len(grams))
    kept = rank - np.repeat(starts, sizes) < WIDEST
    grams, own, totals = grams[kept], (counts[kept] - DISCOUNT) / totals[kept], totals[kept]

    if not length and not len(grams):  # the empty context is always there
        nothing = np.zeros(0)
        return _Order(np.zeros(1, np.uint64), np.zeros(1, np.int64), grams, nothing, nothing, np.zeros(1))
    contexts = grams >> np.uint64(bits)
    starts, sizes = _groups(contexts)
    before = np.zeros(len(grams))
    if shorter is not None:
        place, found = _find(shorter.grams, grams & np.uint64((1 << length * bits) - 1))
        before[found] = shorter.shares[place[found]]
    rest = 1.0 - np.add.reduceat(own, starts)
    shares = own + np.repeat(rest, sizes) * before
    told = np.add.reduceat(shares * np.log(shares / np.maximum(before, TINY)), starts)
    untold = (1.0 - np.add.reduceat(shares, starts)) * np.log(rest)
    gains = totals[starts] * (told + untold)
    return _Order(contexts[starts], sizes, grams, own, shares, gains)


def _groups(ascending: Array) -> tuple[Array, Array]:
    """Where each run of equal numbers begins, and how long it is."""
    is_first = np.ones(len(ascending), bool)
    is_first[1:] = ascending[1:] != ascending[:-1]
    starts = np.flatnonzero(is_first)
    return starts, np.diff(starts, append=len(ascending))


def _find(ascending: Array, wanted: Array) -> tuple[Array, Array]:
    """Where numbers are among others, and whether they are there."""
    if not len(ascending):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return place, ascending[place] == wanted


def _chosen(orders: list[_Order], budget: int, bits: int) -> list[Array]:
    """Which contexts to keep: those that change most for their bytes, and the shorter ones that each rests on."""
    id_bytes = -(-bits // 8)
    sizes = [CONTEXT_BYTES + id_bytes + order.widths * (1 + id_bytes) for order in orders]
    worth = [order.gains / size for order, size in zip(orders, sizes, strict=True)]
    for length in range(len(orders) - 1, 0, -1):
        np.maximum.at(worth[length - 1], _parents(orders[length], orders[length - 1], length, bits), worth[length])
    best = np.argsort(-np.concatenate(worth), kind="stable")  # of equal ones the shorter first
    total = np.cumsum(np.concatenate(sizes)[best])
    kept = np.zeros(len(best), bool)
    kept[0] = True
    kept[best[(total <= budget) & (np.concatenate(worth)[best] >= LEAST_GAIN)]] = True
    return np.split(kept, np.cumsum([len(order.contexts) for order in orders])[:-1])


def _parents(order: _Order, shorter: _Order, length: int, bits: int) -> Array:
    """Where the contexts are, in the order before, that lack the oldest token."""
    return np.searchsorted(shorter.contexts, order.contexts & np.uint64((1 << (length - 1) * bits) - 1))


def _stored(orders: list[_Order], kept: list[Array], bits: int) -> dict[str, Array]:
    """The arrays of a table, in the order in which it has them."""
    parts: dict[str, list[Array]] = {name: [] for name in ("oldest", "children", "widths", "ids", "own")}
    rows = np.zeros(1, np.int64)  # of each context of the order before, among those of its length that are kept
    counts: list[int] = []
    for length, (order, which) in enumerate(zip(orders, kept, strict=True)):
        chosen = np.flatnonzero(which)
        if length:
            parents = rows[_parents(order, orders[length - 1], length, bits)[chosen]]
            chosen = chosen[np.argsort(parents, kind="stable")]
            parts["children"].append(np.bincount(parents, minlength=counts[-1]))
        parts["oldest"].append(order.contexts[chosen] >> np.uint64(max(0, length - 1) * bits))
        widths = order.widths[chosen]
        behind = np.cumsum(widths)  # ranges of grams, one after the other
        grams = np.arange(widths.sum()) + np.repeat((np.cumsum(order.widths)[chosen] - behind), widths)
        parts["widths"].append(widths)
        parts["ids"].append(order.grams[grams] & np.uint64((1 << bits) - 1))
        parts["own"].append(order.own[grams])
        rows = np.full(len(which), -1)
        rows[chosen] = np.arange(len(chosen))
        counts.append(len(chosen))
    steps = np.clip(np.round(np.log(np.concatenate(parts.pop("own"))) * -STEPS), 0, 255)
    arrays = {name: _narrow(np.concatenate(part)) for name, part in parts.items()}
    return arrays | {"counts": np.array(counts, np.uint32), "shares": steps.astype(np.uint8)}


def _narrow(array: Array) -> Array:
    """Whole numbers in as few bytes as they need."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))
