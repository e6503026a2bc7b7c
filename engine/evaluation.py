"""How well a model predicts a text: loss, perplexity and bits per byte over all of it, the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.checkpoints import LoadedModel
from engine.errors import DataError
from engine.inference.stream import ScoredToken
from engine.model.gpt import GPT
from engine.text.batches import Tokens, windows
from engine.text.tokenizers import Tokenizer

TOKENS_AT_ONCE = 8192
"""Tokens in one forward pass of an evaluation."""


@dataclass(frozen=True)
class Evaluation:
    """The measure of a model on a text.

    Attributes:
        loss: Mean cross-entropy in nats per predicted token.
        perplexity: exp(loss).
        bits_per_byte: The loss in bits, over the bytes of the predicted tokens; comparable between tokenizers.
        tokens: Tokens predicted.
        windows: Windows they were cut into.
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
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: tuple[ScoredToken, ...]
    left_out: str


@torch.no_grad()
def evaluate(
    gpt: GPT,
    tokenizer: Tokenizer,
    tokens: Tokens,
    *,
    autocast: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a model on a whole token array in non-overlapping windows of `block_size`.

    Every token but the first is predicted exactly once, from the tokens before it in its window. Dropout is off.

    Args:
        gpt: The model; its training mode is restored afterwards.
        tokenizer: Counts the bytes.
        tokens: (N,) ids, N at least 2.
        autocast: Arithmetic of the forward pass on the CPU or GPU, or None for the weights' own.
        progress: Called with (tokens done, tokens in all).

    Raises:
        DataError: Fewer than two tokens.
    """
    if len(tokens) < 2:
        raise DataError("the text is too short to evaluate", "it needs at least two tokens")
    cut = windows(tokens, gpt.config.block_size)
    device = next(gpt.parameters()).device
    at_once = max(1, TOKENS_AT_ONCE // gpt.config.block_size)
    pieces = [(cut.x[row : row + at_once], cut.y[row : row + at_once]) for row in range(0, len(cut.x), at_once)]
    if len(cut.last_x):
        pieces.append((cut.last_x[None], cut.last_y[None]))
    total, done = 0.0, 0
    training = gpt.training
    gpt.eval()
    try:
        for x, y in pieces:
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                loss = gpt.loss(_ids(x, device), _ids(y, device), reduction="sum")
            total += loss.item()
            done += y.size
            if progress is not None:
                progress(done, cut.targets)
    finally:
        gpt.train(training)
    loss_per_token, bits = total / cut.targets, _bits_per_byte(total, tokenizer, tokens[1:])
    return Evaluation(
        loss=loss_per_token,
        perplexity=_perplexity(loss_per_token),
        bits_per_byte=bits,
        tokens=cut.targets,
        windows=len(cut.x) + (len(cut.last_x) > 0),
    )


@torch.no_grad()
def score(model: LoadedModel, text: str) -> TextScore:
    """How surprising each token of a text is to a model.

    The first token is not predicted, as nothing is before it. A text longer than `block_size` is read in windows
    that overlap by half, so that each token is predicted from at least half a window (as when generating).

    Args:
        model: The model.
        text: What to score; characters that the model has never seen are left out and named.

    Raises:
        DataError: Fewer than two tokens remain.
    """
    ids, _, left_out = model.tokenizer.encode_prompt(text)
    if len(ids) < 2:
        raise DataError("the text is too short to score", "it needs at least two tokens that the model knows")
    tokens = np.asarray(ids, dtype=np.int64)
    found: list[ScoredToken] = []
    start = 0
    while len(found) < len(tokens) - 1:
        end = min(start + model.config.block_size, len(tokens) - 1)
        logits = model.gpt(_ids(tokens[None, start:end], model.device))[0].float()  # (T, V)
        fresh = logits[len(found) - start :]  # the places that no earlier window has scored
        targets = _ids(tokens[len(found) + 1 : end + 1], model.device)
        logprobs = F.log_softmax(fresh, dim=-1).gather(1, targets[:, None])[:, 0]
        ranks = (fresh > fresh.gather(1, targets[:, None])).sum(dim=-1) + 1
        for token, logprob, rank in zip(targets.tolist(), logprobs.tolist(), ranks.tolist(), strict=True):
            found.append(ScoredToken(model.tokenizer.piece(token), min(logprob, 0.0), rank))
        start = end - model.config.block_size // 2
    total = -sum(token.logprob for token in found)
    return TextScore(
        loss=total / len(found),
        perplexity=_perplexity(total / len(found)),
        bits_per_byte=_bits_per_byte(total, model.tokenizer, tokens[1:]),
        tokens=tuple(found),
        left_out=left_out,
    )


def _ids(array: Tokens, device: torch.device | str) -> Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(device)


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


def _bits_per_byte(nats: float, tokenizer: Tokenizer, tokens: Tokens) -> float:
    """The loss of some tokens in bits, over the bytes that they stand for."""
    ids, counts = np.unique(np.asarray(tokens), return_counts=True)
    total = sum(len(tokenizer.token_bytes(int(id))) * int(count) for id, count in zip(ids, counts, strict=True))
    return nats / math.log(2) / total if total else math.inf
