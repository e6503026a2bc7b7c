"""How well a model predicts a text: loss, perplexity and bits per byte, the same every time. Knows nothing of where
the text came from.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.checkpoints import LoadedModel
from engine.errors import DataError
from engine.inference.sampling import entropies
from engine.inference.stream import Alternative, ScoredToken
from engine.model.gpt import GPT
from engine.text.batches import Tokens, windows
from engine.text.tokenizers import Tokenizer
from engine.training.distributed import ALONE, Team

TOKENS_AT_ONCE = 8192
"""Tokens in one forward pass of an evaluation."""

LOGITS_AT_ONCE = 8_388_608
"""Logits in memory at once, 32 MiB of them: a large vocabulary takes a pass's tokens in several turns."""


@dataclass(frozen=True)
class Evaluation:
    """The measure of a model on a text.

    Attributes:
        loss: Mean cross-entropy in nats per predicted token.
        perplexity: exp(loss).
        bits_per_byte: The loss in bits, over the bytes of the predicted tokens; comparable between tokenizers.
        tokens: Tokens predicted.
        windows: Windows they were read in.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    windows: int


@dataclass(frozen=True)
class TextScore:
    """How surprising one text was; `tokens` has each predicted token in order.

    Attributes:
        left_out: Characters that the model has never seen and that were left out, each once.
        text: The text as the model read it.
        ids: Its tokens, the first included.
        ends: Where each of them ends in it, counted in characters; a half character ends where it began.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: tuple[ScoredToken, ...]
    left_out: str
    text: str
    ids: tuple[int, ...]
    ends: tuple[int, ...]


@torch.no_grad()
def evaluate(
    gpt: GPT,
    tokenizer: Tokenizer,
    tokens: Tokens,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    team: Team = ALONE,
) -> Evaluation:
    """Evaluate a model on a token array in non-overlapping windows of `block_size`.

    Every token but the first is predicted exactly once, from the tokens before it in its window. Dropout is off.
    With a limit that the tokens exceed, only every k-th window is read, k = ceil(targets / limit): the same windows
    each time, spread evenly, as the beginning of a text is often not like the rest of it.

    Args:
        gpt: The model; its training mode is restored afterwards.
        tokenizer: Counts the bytes.
        tokens: (N,) ids, N at least 2.
        limit: Tokens to predict, at least 1, to the nearest window; None for all.
        progress: Called with (tokens done, tokens to predict), as often in every process.
        team: Processes that share the work; every one of them has to ask, with the same model.

    Raises:
        DataError: Fewer than two tokens.
    """
    if len(tokens) < 2:
        raise DataError("the text is too short to evaluate", "it needs at least two tokens")
    device = next(gpt.parameters()).device
    pieces = _pieces(tokens, gpt.config.block_size, limit)
    targets = np.concatenate([y.ravel() for _, y in pieces])
    total, done = 0.0, 0
    training = gpt.training
    gpt.eval()
    try:
        for first in range(0, len(pieces), team.size):
            turn = pieces[first : first + team.size]  # one for each process; the last ones may have none
            for x, y in turn[team.rank : team.rank + 1]:
                stream = gpt.stream(_ids(x, device)).flatten(0, 1)  # (B x T, C)
                wanted = _ids(y.ravel(), device)  # (B x T)
                for rows, logits in _logits(gpt, stream):
                    total += F.cross_entropy(logits, wanted[rows], reduction="sum").item()
            done += sum(y.size for _, y in turn)
            if progress is not None:
                progress(done, targets.size)
    finally:
        gpt.train(training)
    (total,) = team.sum([total])
    return Evaluation(
        loss=total / targets.size,
        perplexity=_perplexity(total / targets.size),
        bits_per_byte=_bits_per_byte(total, tokenizer, targets),
        tokens=targets.size,
        windows=sum(len(x) for x, _ in pieces),
    )


def _pieces(tokens: Tokens, block_size: int, limit: int | None) -> list[tuple[Tokens, Tokens]]:
    """The windows to read as pairs of inputs and targets, each (B, T), in passes of about TOKENS_AT_ONCE."""
    cut = windows(tokens, block_size)
    every = 1 if limit is None else math.ceil(cut.targets / limit)
    x, y = cut.x[::every], cut.y[::every]
    at_once = max(1, TOKENS_AT_ONCE // block_size)
    pieces = [(x[row : row + at_once], y[row : row + at_once]) for row in range(0, len(x), at_once)]
    if len(cut.last_x) and len(cut.x) % every == 0:
        pieces.append((cut.last_x[None], cut.last_y[None]))
    return pieces


def _logits(gpt: GPT, stream: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The logits of a stream (N, C) in turns of at most LOGITS_AT_ONCE, each (rows, V) in float32, and which rows."""
    rows = max(1, LOGITS_AT_ONCE // gpt.config.vocab_size)
    for first in range(0, len(stream), rows):
        taken = slice(first, first + rows)
        yield taken, gpt.logits(stream[taken]).float()


class WindowReader:
    """Reads windows as a model that writes reads them."""

    def __init__(self, model: LoadedModel) -> None:
        self._decoder = model.decoder
        self._slot = model.decoder.slots.take(self, ())
        self._rows = max(1, LOGITS_AT_ONCE // model.config.vocab_size)

    def read(self, window: list[int]) -> Iterator[tuple[int, Tensor]]:
        """The logits behind a window's tokens, in turns of at most LOGITS_AT_ONCE: where they begin, (rows, V)."""
        self._slot.held.clear()
        for first in range(0, len(window), self._rows):
            yield first, self._decoder.read([window[first : first + self._rows]], [self._slot])[0]


@torch.inference_mode()
def score(model: LoadedModel, text: str | Sequence[int], alternatives: int = 0) -> TextScore:
    """How surprising each token of a text is to a model.

    The first token is not predicted, as nothing is before it. A text longer than `block_size` is read in windows
    that overlap by half, so that each token is predicted from at least half a window (as when generating).

    Args:
        model: The model.
        text: What to score, or its ids; characters that the model has never seen are left out and named.
        alternatives: How many of the likeliest tokens each token is reported with.

    Raises:
        DataError: Fewer than two tokens remain, or an id is not in the vocabulary.
    """
    if isinstance(text, str):
        ids, read, left_out = model.tokenizer.encode_prompt(text)
    else:
        ids, read, left_out = list(text), model.tokenizer.decode(text), ""
    if not all(0 <= id < model.config.vocab_size for id in ids):
        raise DataError("a token is not in the vocabulary", f"ids go from 0 to {model.config.vocab_size - 1}")
    if len(ids) < 2:
        raise DataError("the text is too short to score", "it needs at least two tokens that the model knows")
    found: list[ScoredToken] = []
    reader = WindowReader(model)
    start = 0
    while len(found) < len(ids) - 1:
        end = min(start + model.config.block_size, len(ids) - 1)
        for first, logits in reader.read(ids[start:end]):
            seen = max(0, len(found) - start - first)  # the places that an earlier window has scored
            if seen >= len(logits):
                continue
            place = start + first + seen
            targets = torch.tensor(ids[place + 1 : place + 1 + len(logits) - seen], device=logits.device)
            logits = logits[seen:]
            logprobs = F.log_softmax(logits, dim=-1)  # (rows, V)
            ranks = (logits > logits.gather(1, targets[:, None])).sum(dim=-1) + 1
            own = logprobs.gather(1, targets[:, None])[:, 0]
            tops = _tops(model, logprobs, alternatives)
            told = targets.tolist(), own.tolist(), ranks.tolist(), entropies(logprobs).tolist(), tops
            for token, logprob, rank, entropy, top in zip(*told, strict=True):
                found.append(ScoredToken(model.tokenizer.piece(token), min(logprob, 0.0), rank, entropy, top))
        start = end - model.config.block_size // 2
    total = -sum(token.logprob for token in found)
    return TextScore(
        loss=total / len(found),
        perplexity=_perplexity(total / len(found)),
        bits_per_byte=_bits_per_byte(total, model.tokenizer, np.asarray(ids[1:])),
        tokens=tuple(found),
        left_out=left_out,
        text=read,
        ids=tuple(ids),
        ends=tuple(_ends(model.tokenizer, ids)),
    )


def _tops(model: LoadedModel, logprobs: Tensor, count: int) -> list[tuple[Alternative, ...]]:
    """The likeliest tokens of each row of (rows, V) logprobs."""
    if not count:
        return [()] * len(logprobs)
    values, ids = logprobs.clamp(min=torch.finfo(torch.float32).min).topk(min(count, logprobs.shape[-1]))
    piece = model.tokenizer.piece
    return [
        tuple(Alternative(id, piece(id), min(logprob, 0.0)) for id, logprob in zip(*row, strict=True))
        for row in zip(ids.tolist(), values.tolist(), strict=True)
    ]


def _ends(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[int]:
    """Where each token ends in the text that they are."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    end = 0
    for id in ids:
        end += len(decoder.decode(tokenizer.token_bytes(id)))
        yield end


def _ids(array: Tokens, device: torch.device | str) -> Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(device)


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


def _bits_per_byte(nats: float, tokenizer: Tokenizer, tokens: Tokens) -> float:
    """The loss of some tokens in bits, over the bytes that they stand for."""
    ids, counts = np.unique(np.asarray(tokens), return_counts=True)
    total = sum(len(tokenizer.token_bytes(int(id))) * int(count) for id, count in zip(ids, counts, strict=True))
    return nats / math.log(2) / total if total else math.inf
