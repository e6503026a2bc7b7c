"""Which token comes next: the filters, as transformers defines them, and the draw. Logits in, token ids out; it
knows nothing of models or of text. A row's answer does not depend on the rows beside it.

Shapes: N rows, V = vocab_size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.config import SamplingParams

MINUS_INFINITY = float("-inf")


def filter_logits(logits: Tensor, params: SamplingParams, seen: Tensor | None = None) -> Tensor:
    """Repetition penalty, temperature, top-k, top-p and min-p, in this order.

    Each equals the transformers logits processor of its name. A temperature of 0 is left to `draw`; the filters
    then act on the unscaled logits, which changes no argmax.

    Args:
        logits: (N, V) in float32.
        params: Which filters, and how strong; those that are off cost nothing.
        seen: (N, V), true for the ids of the text so far, which the repetition penalty makes less likely.

    Returns:
        (N, V) logits, minus infinity where a token was cut. At least one is left in each row.
    """
    if params.repetition_penalty != 1.0 and seen is not None:
        logits = penalize(logits, seen, params.repetition_penalty)
    if params.temperature not in (0.0, 1.0):  # from the largest, so that it cannot overflow
        logits = (logits - logits.amax(dim=-1, keepdim=True)) / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        kth = torch.topk(logits, params.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < kth, MINUS_INFINITY)
    if params.top_p < 1.0:
        logits = keep_nucleus(logits, params.top_p)
    if params.min_p > 0.0:
        probabilities = logits.softmax(dim=-1)
        least = params.min_p * probabilities.amax(dim=-1, keepdim=True)
        logits = logits.masked_fill(probabilities < least, MINUS_INFINITY)
    return logits


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens already seen less likely: positive logits are divided by `penalty`, others multiplied by it.

    The method is that of CTRL (Keskar et al., 2019).
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of likeliest tokens whose probability reaches `top_p` (Holtzman et al., 2020)."""
    ascending, order = logits.sort(dim=-1, descending=False)
    cut = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - top_p
    cut[:, -1] = False
    return logits.masked_fill(torch.zeros_like(cut).scatter(-1, order, cut), MINUS_INFINITY)


def shares(filtered: Tensor, temperature: float) -> Tensor:
    """The probability that `draw` gives to each token: (N, V) logits after `filter_logits` to (N, V)."""
    if temperature == 0.0:
        return torch.zeros_like(filtered).scatter_(1, filtered.argmax(dim=1, keepdim=True), 1.0)
    return filtered.softmax(dim=-1)


def entropies(logprobs: Tensor) -> Tensor:
    """The entropy of each row in nats: (N, V) logprobs to (N,); what has no probability adds nothing."""
    return -(logprobs.exp() * logprobs.clamp(min=-1e4)).sum(dim=-1)


def draw(filtered: Tensor, temperature: float, noise: Tensor | None) -> Tensor:
    """Draw a token in each row: the argmax of logits plus Gumbel noise is a draw from their softmax (Gumbel, 1954).

    Args:
        filtered: (N, V) logits after `filter_logits`.
        temperature: 0 is greedy.
        noise: (N, V) standard Gumbel noise; None for greedy draws.

    Returns:
        (N,) ids.
    """
    return (filtered if temperature == 0.0 or noise is None else filtered + noise).argmax(dim=-1)
