"""Which optimizer moves which weights: Muon the blocks' matrices and AdamW the rest, or AdamW all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from engine.config import TrainConfig
from engine.model.gpt import GPT
from engine.training.distributed import share_of, whole
from engine.training.muon import Muon

TABLES = ("embedding.", "positions.")
"""Weights that are looked up by row; a tied head is the embedding."""

FIRST_MOMENTUM = 0.85
"""Muon's, where it is warmed up, as in modded-nanogpt and nanochat."""


def make_optimizers(gpt: GPT, config: TrainConfig) -> list[Optimizer]:
    """The optimizers of a run. Each group carries its `peak` learning rate for `set_learning_rate`.

    Matrices decay, and so does a head of its own. Vectors (biases, norms) do not, nor do the rows of tables: the
    embedding, which in three families is drawn with a standard deviation of 1, and the positions. Muon (Jordan et al.,
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
    tables = {id(weight) for name, weight in trained.items() if name.startswith(TABLES)}
    vectors = [weight for weight in rest if id(weight) not in decays | tables]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in rest if id(weight) in decays], "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
        {
            "params": [weight for weight in rest if id(weight) in tables],
            "weight_decay": 0.0,
            "lr": config.embedding_learning_rate or config.learning_rate,
        },
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


def set_momentum(optimizers: list[Optimizer], config: TrainConfig, step: int) -> None:
    """Set Muon's momentum for a step, counted from 0."""
    last, length = config.muon_momentum, config.momentum_warmup_steps
    first = min(FIRST_MOMENTUM, last) if length else last
    for optimizer in optimizers:
        if isinstance(optimizer, Muon):
            for group in optimizer.param_groups:
                group["momentum"] = first + (last - first) * min(1.0, step / max(1, length))


def clip_gradients(gpt: GPT, limit: float, factor: float = 1.0) -> float:
    """The norm of all gradients; above `limit` (0 is none) they are scaled down to it.

    Args:
        gpt: The model.
        limit: The largest norm that is left.
        factor: What the loss was multiplied by, which is taken back first.
    """
    weights = [weight for weight in gpt.parameters() if weight.grad is not None]
    if factor != 1.0:
        for weight in weights:
            weight.grad.div_(factor)  # type: ignore[union-attr]
    return float(whole(torch.nn.utils.clip_grad_norm_(weights, limit if limit > 0 else float("inf"))))


def optimizers_state(gpt: GPT, optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """What the optimizers remember of each weight, whole and on the CPU, as `adamw.NAME.exp_avg`.

    Where several processes share the model every one of them has to ask.
    """
    found: dict[str, Tensor] = {}
    names: dict[Tensor, str] = {weight: name for name, weight in gpt.named_parameters()}
    for optimizer in optimizers:
        kind = type(optimizer).__name__.lower()
        for weight, state in optimizer.state.items():
            found |= {f"{kind}.{names[weight]}.{key}": whole(tensor).cpu().clone() for key, tensor in state.items()}
    return found


def load_optimizers_state(gpt: GPT, optimizers: list[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Let the optimizers go on from what `optimizers_state` gave; one that is new begins afresh."""
    weights = dict(gpt.named_parameters())
    mine = {type(optimizer).__name__.lower(): optimizer for optimizer in optimizers}
    taken = {weight: kind for kind, opt in mine.items() for group in opt.param_groups for weight in group["params"]}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        path, _, key = rest.rpartition(".")
        if kind not in mine or taken.get(weight := weights[path]) != kind:
            continue
        own = tensor.to(weight.device, copy=True)
        mine[kind].state[weight][key] = share_of(weight, own) if own.shape == weight.shape else own
