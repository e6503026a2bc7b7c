"""Which optimizer moves which weights: Muon the blocks' matrices and AdamW the rest, or AdamW all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from engine.config import TrainConfig
from engine.model.gpt import GPT

TABLES = ("embedding.", "positions.")
"""Weights that are looked up by row; a tied head is the embedding."""


def make_optimizers(gpt: GPT, config: TrainConfig) -> list[Optimizer]:
    """The optimizers of a run. Each group carries its `peak` learning rate for `set_learning_rate`.

    Matrices decay, and so does a head of its own. Vectors (biases, norms) do not, nor do the rows of tables: the
    embedding, which in two families is drawn with a standard deviation of 1, and the positions. Muon (Jordan et al.,
    2024) orthogonalizes the update of each matrix in the blocks; its learning rate is scaled by sqrt(max(1, rows /
    columns)).

    Args:
        gpt: The model; weights that take no gradient are left out.
        config: Names the optimizer, its learning rates, betas and decay.
    """
    trained = {name: weight for name, weight in gpt.named_parameters() if weight.requires_grad}
    matrices: list[nn.Parameter] = []
    if config.optimizer == "muon":
        matrices = [weight for name, weight in trained.items() if name.startswith("blocks.") and weight.ndim == 2]
    taken = {id(weight) for weight in matrices}
    rest = [weight for weight in trained.values() if id(weight) not in taken]
    decays = {id(weight) for name, weight in trained.items() if weight.ndim >= 2 and not name.startswith(TABLES)}
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in rest if id(weight) in decays], "weight_decay": config.weight_decay},
        {"params": [weight for weight in rest if id(weight) not in decays], "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = [
        AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
    ]
    if matrices:
        optimizers.append(
            Muon(
                matrices,
                lr=config.muon_learning_rate,
                momentum=config.muon_momentum,
                weight_decay=config.weight_decay,
                adjust_lr_fn="original",
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: list[Optimizer], share: float) -> None:
    """Set every group's learning rate to a share of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share


def clip_gradients(gpt: GPT, limit: float) -> float:
    """The norm of all gradients; above `limit` (0 is none) they are scaled down to it."""
    parameters = [weight for weight in gpt.parameters() if weight.grad is not None]
    return float(torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf")))
