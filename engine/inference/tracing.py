"""Steps of a pass as one call each, for products whose single calls cost more from Python than what they compute:
torch writes down which operations a step consists of, and runs them by itself. They are the same operations, so the
answer is the same to the bit. It knows nothing of models.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from engine.inference.products import Product, StaticInt8

Step = TypeVar("Step", bound=Callable[..., object])


def traced(step: Step, uses: Sequence[Product], *examples: Tensor) -> Step:
    """The step in one call, where its products gain by that and this build of torch can do it; else the step itself.

    Args:
        step: A function of tensors alone that does the same whatever their numbers and their first axis; what is not so
            has to be `as_written`.
        uses: The products that it uses.
        examples: What it may be called with; they may be changed.
    """
    if not all(isinstance(product, StaticInt8) for product in uses):
        return step
    with warnings.catch_warnings():  # torch says that there will be another way one day
        warnings.simplefilter("ignore")
        try:
            module = torch.jit.trace(_Holder(step, uses), examples, check_trace=False)  # type: ignore[no-untyped-call]
            return module._c._get_method("forward")  # type: ignore[no-any-return]
        except (RuntimeError, AttributeError, OSError):  # another build of torch, or the source is not at hand
            return step


def as_written(function: Step) -> Step:
    """A function whose loops and branches stay in a step that is written down."""
    wrap: Callable[[Step], Step] = getattr(torch.jit, "script_if_tracing", lambda same: same)
    return wrap(function)


class _Holder(nn.Module):
    """A step with the packed weights that it uses, which have to be named to be found."""

    def __init__(self, step: Callable[..., object], uses: Sequence[Product]) -> None:
        super().__init__()
        self._step = step
        for number, product in enumerate(uses):
            if isinstance(product, StaticInt8):
                setattr(self, f"weight_{number}", product.packed)

    def forward(self, *tensors: Tensor) -> object:
        return self._step(*tensors)
