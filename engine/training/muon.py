"""Muon (Jordan et al., 2024): momentum whose update is made orthogonal, for the matrices of a model. It does what
torch's own does, to the bit on the CPU; on a GPU it takes matrices of one shape together, and it knows weights that
several processes share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.training.distributed import share_of, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic, chosen by Jordan for its slope at zero; singular values end in 0.7 to 1.2, which is near enough."""

ROUNDS = 5

EPS = 1e-7

AT_ONCE = 1 << 25
"""Elements of the matrices that are taken together, 64 MiB of them in bf16."""


class Muon(Optimizer):
    """The optimizer of a model's matrices; its state is `momentum_buffer` of each.

    Args:
        weights: Matrices, (rows, columns) each.
        lr: Learning rate, above 0; for a matrix with more rows than columns times sqrt(rows / columns).
        momentum: From 0 to 1, of Nesterov's kind.
        weight_decay: Times the learning rate, what a step takes from each weight.
    """

    def __init__(self, weights: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move each weight that has a gradient."""
        for group in self.param_groups:
            lr, decay = group["lr"], group["weight_decay"]
            for weights in _alike(weight for weight in group["params"] if weight.grad is not None):
                updates = _orthogonal_each([self._update(weight, group["momentum"]) for weight in weights])
                rows, columns = weights[0].shape
                reach = lr * math.sqrt(max(1.0, rows / columns))
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - lr * decay)
                    weight.add_(share_of(weight, update), alpha=-reach)

    def _update(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """The momentum's word on one whole matrix, in bf16."""
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None  # noqa: S101  (those without one were left out)
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return whole(gradient.lerp(buffer, momentum)).bfloat16()


def _orthogonal_each(matrices: list[Tensor]) -> Sequence[Tensor]:
    """`orthogonal` of matrices of one shape: together where that saves launching kernels.

    On a CPU it saves nothing: there, products of stacks in bf16 take up to a third longer than one after the other.
    """
    if matrices[0].device.type == "cpu":
        return [orthogonal(matrix) for matrix in matrices]
    return orthogonal(torch.stack(matrices)).unbind()


def orthogonal(matrices: Tensor) -> Tensor:
    """A matrix with the singular vectors of the one given and all singular values near 1, by Newton and Schulz.

    Args:
        matrices: (rows, columns), or (N, rows, columns) for N of them, in the dtype to compute in; bf16 is enough.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices  # (..., m, n) with m <= n, so that the products of (m, m) are small
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=EPS)  # no singular value above 1
    add_product = torch.addmm if x.ndim == 2 else torch.baddbmm
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT  # (..., m, m)
        x = add_product(x, add_product(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def _alike(weights: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Weights in groups of one shape, of at most AT_ONCE elements or one weight."""
    by_shape: dict[torch.Size, list[nn.Parameter]] = {}
    for weight in weights:
        by_shape.setdefault(weight.shape, []).append(weight)
    for shape, group in by_shape.items():
        count = max(1, AT_ONCE // shape.numel())
        yield from (group[first : first + count] for first in range(0, len(group), count))
