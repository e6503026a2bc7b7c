"""Draws through `draw.h`, for settings that filter nothing: what torch does in a dozen calls. As
`engine.inference.sampling` has it, each row's token depends on that row alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int32, c_void_p
from typing import NamedTuple

import torch
from torch import Tensor


class DrawingStruct(Structure):
    """`drawing` in `draw.h`."""

    _fields_ = (
        ("texts", c_int32),
        ("rows", c_int32),
        ("vocabulary", c_int32),
        ("temperatures", POINTER(c_float)),
        ("logits", c_void_p),
        ("noise", POINTER(c_void_p)),
        ("ids", POINTER(c_int32)),
        ("logprobs", POINTER(c_float)),
        ("tops", POINTER(c_float)),
        ("logs", POINTER(c_float)),
    )


class Draws(NamedTuple):
    """What was drawn in S R rows.

    Attributes:
        ids: A token for each.
        logprobs: Of each in the model's own distribution; NaN where that has what is no number.
        tops: The largest logit of each row.
        logs: The logarithm of the sum of all exponentials of a row's logits, with `tops` taken off.
    """

    ids: list[int]
    logprobs: list[float]
    tops: list[float]
    logs: list[float]

    def all_logprobs(self, logits: Tensor, first: int) -> Tensor:
        """Those of every token, (R, V), for logits of R rows from the `first` on: of a drawn one the very same."""
        rows = slice(first, first + len(logits))
        return logits - torch.tensor(self.tops[rows])[:, None] - torch.tensor(self.logs[rows])[:, None]


def draw(library: ctypes.CDLL, logits: Tensor, temperatures: Sequence[float], noise: Sequence[int]) -> Draws:
    """Draw a token in each row.

    Args:
        library: What was built of `pass.c`.
        logits: (S, R, V) in float32, on the CPU.
        temperatures: Of each of S texts; 0 is greedy: the noise is left out.
        noise: For each text where (R, V) standard Gumbel noise lies; 0 for one that is greedy.
    """
    S, R, V = logits.shape
    ids, numbers = (c_int32 * (S * R))(), [(c_float * (S * R))() for _ in range(3)]
    whole = logits.contiguous()  # which lives until the call is over
    struct = DrawingStruct(
        texts=S,
        rows=R,
        vocabulary=V,
        temperatures=(c_float * S)(*temperatures),
        logits=whole.data_ptr(),
        noise=(c_void_p * S)(*noise),
        ids=ids,
        logprobs=numbers[0],
        tops=numbers[1],
        logs=numbers[2],
    )
    library.draw_rows(ctypes.byref(struct))
    return Draws(list(ids), *map(list, numbers))
