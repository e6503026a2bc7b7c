"""Which token comes next: the filters, as transformers defines them, and the draw. Logits in, a token id out; it
knows nothing of models or of text.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.config import SamplingParams

MINUS_INFINITY = float("-inf")


def filter_logits(logits: Tensor, params: SamplingParams, seen: Tensor) -> Tensor:
    """Repetition penalty, temperature, top-k, top-p and min-p, in this order.

    Each equals the transformers logits processor of its name. A temperature of 0 is left to `draw`; the filters
    then act on the unscaled logits, which changes no argmax.

    Args:
        logits: (V,) in float32.
        params: Which filters, and how strong; those that are off cost nothing.
        seen: (N,) ids of the text so far, which the repetition penalty makes less likely.

    Returns:
        (V,) logits, minus infinity where a token was cut. At least one is left.
    """
    if params.repetition_penalty != 1.0 and len(seen):
        logits = penalize(logits, seen, params.repetition_penalty)
    if params.temperature not in (0.0, 1.0):
        logits = (logits - logits.max()) / params.temperature  # from the largest, so that it cannot overflow
    if 0 < params.top_k < logits.shape[-1]:
        kth = torch.topk(logits, params.top_k).values[-1]
        logits = logits.masked_fill(logits < kth, MINUS_INFINITY)
    if params.top_p < 1.0:
        logits = keep_nucleus(logits, params.top_p)
    if params.min_p > 0.0:
        probabilities = logits.softmax(dim=-1)
        logits = logits.masked_fill(probabilities < params.min_p * probabilities.max(), MINUS_INFINITY)
    return logits


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens already seen less likely: positive logits are divided by `penalty`, others multiplied by it.

    The method is that of CTRL (Keskar et al., 2019). An id may be named more than once in `seen`.
    """
    chosen = logits[seen]
    return logits.index_put((seen,), torch.where(chosen < 0, chosen * penalty, chosen / penalty))


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of likeliest tokens whose probability reaches `top_p` (Holtzman et al., 2020)."""
    ascending, order = logits.sort(descending=False)
    cut = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - top_p
    cut[-1] = False
    return logits.masked_fill(torch.zeros_like(cut).scatter(0, order, cut), MINUS_INFINITY)


def draw(filtered: Tensor, temperature: float, noise: Tensor) -> int:
    """Draw a token: the argmax of logits plus Gumbel noise is a draw from their softmax (Gumbel, 1954).

    Args:
        filtered: (V,) logits after `filter_logits`.
        temperature: 0 is greedy: the noise is left out.
        noise: (V,) standard Gumbel noise.
    """
    return int((filtered if temperature == 0.0 else filtered + noise).argmax())
