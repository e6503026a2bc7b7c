"""What our models have and others may lack: a row for `<|endoftext|>`, and a head without a bias. Both are put in so
that no other logit changes; the new token's is the same at every place, and far below all that is ever drawn.

The final LayerNorm gives y = w * n + b, and what it has normed adds up to nothing: sum(n) = 0. So

- a row c / w of the head has the logit c * sum(b / w), whatever n is;
- what is added to b changes no logit where the head's rows are at right angles to it, and changes them by a constant
  each, which is what a bias does, where it is the solution for these constants.

That takes fewer tokens than n_embd. Where it cannot be done so, or not well, the stream is made wider by channels that
hold the mean of the others: the norm of these is nothing, whatever the text, so that a bias of the norm stands alone in
them, and the norm of the others is what it was but for a factor.

Shapes: V tokens, C = n_embd, H heads, D = head_size.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.importing.classic import Classic

NEVER = -50.0
"""The logit of a token that a model has never seen."""

LEAST_SHARE = 0.05
"""Of 1 / w that is at right angles to all rows; with less, rounding would be seen."""

SMALLEST = 1e-3
"""A weight of the norm, against the largest; below, its inverse would drown the others."""

PROBES = 256
WIDTHS = 8
"""Heads are made as wide as a multiple of this, as the programs want them that run such models."""


def with_end_of_text(classic: Classic, eot_id: int | None, like: int) -> Classic:
    """The model with a row for `<|endoftext|>` and without a bias of its head; its other logits are what they were.

    Args:
        classic: The model.
        eot_id: The id to make, a new one or one that stands for nothing; None where the model has its own.
        like: The id whose embedding the new token takes, so that an empty prompt begins as with that.
    """
    if eot_id is None and classic.head_bias is None:
        return classic
    weights = {name: tensor.float() for name, tensor in classic.weights.items()}
    config = classic.config.replace(tie_head=False)
    classic = replace(classic, config=config, weights=weights, notes=[*classic.notes])
    rows = max(config.vocab_size, 0 if eot_id is None else eot_id + 1)
    bias = torch.zeros(rows) if classic.head_bias is None else _longer(classic.head_bias.float(), rows)
    head = _longer(weights["head.weight"], rows)
    old = torch.ones(rows, dtype=torch.bool)  # the rows whose logits are to stay
    old[config.vocab_size :] = False
    if eot_id is not None:
        weights["embedding.weight"] = _longer(weights["embedding.weight"], rows)
        weights["embedding.weight"][eot_id] = weights["embedding.weight"][like]
        old[eot_id] = False
    weights["head.weight"] = head
    classic.config, classic.head_bias = config.replace(vocab_size=rows), None
    if not _fold(classic, bias, old, eot_id):
        _widen(classic, bias, eot_id)
    if eot_id is not None:
        classic.notes.append(f"<|endoftext|> is its token {eot_id} now, which it never draws until it is trained to")
    return classic


def _longer(tensor: Tensor, rows: int) -> Tensor:
    """A copy with as many rows, the new ones of zeros."""
    return torch.cat((tensor, tensor.new_zeros(rows - tensor.shape[0], *tensor.shape[1:])))


def _fold(classic: Classic, bias: Tensor, old: Tensor, eot_id: int | None) -> bool:
    """Put both into the final norm's bias and the head, in place; false where it cannot be done well."""
    weights, C = classic.weights, classic.config.n_embd
    head, w = weights["head.weight"][old].double(), weights["final_norm.weight"].double()  # (V, C) and (C,)
    b = weights["final_norm.bias"].double() if classic.config.bias else torch.zeros(C, dtype=torch.float64)
    if head.shape[0] >= C or w.abs().min() <= SMALLEST * w.abs().max():
        return False
    _, sizes, axes = torch.linalg.svd(head, full_matrices=False)  # axes: (V, C)
    axes = axes[sizes > 1e-9 * sizes.max()]
    moved = b + torch.linalg.pinv(head) @ bias[old].double()
    eot_row = None
    if eot_id is not None:
        inverse = 1 / w
        free = inverse - axes.T @ (axes @ inverse)  # at right angles to every row
        if free.norm() < LEAST_SHARE * inverse.norm():
            return False
        far = free / free.norm() * (w.norm() / 4)
        moved = moved + (far if inverse @ moved * (inverse @ far) >= 0 else -far)
        eot_row = inverse * (NEVER / (inverse @ moved))
    n = F.layer_norm(torch.randn(PROBES, C, generator=torch.Generator().manual_seed(0)), (C,))
    before = (n.double() * w + b) @ head.T + bias[old].double()
    y = n * w.float() + moved.float()
    if not torch.allclose(y @ head.float().T, before.float(), rtol=1e-5, atol=5e-6):
        return False
    if eot_row is not None and eot_id is not None:
        if ((y @ eot_row.float()) - NEVER).abs().max() > 1:
            return False
        weights["head.weight"][eot_id] = eot_row.float()
    _give_biases(classic)
    weights["final_norm.bias"] = moved.float()
    return True


def _give_biases(classic: Classic) -> None:
    """Zeros for every bias of a model that has none."""
    if classic.config.bias:
        return
    classic.config = classic.config.replace(bias=True)
    for name, tensor in list(classic.weights.items()):
        if name.endswith(".weight") and name.startswith(("blocks.", "final_norm.")):
            classic.weights[name.removesuffix("weight") + "bias"] = torch.zeros(tensor.shape[0])


def _widen(classic: Classic, bias: Tensor, eot_id: int | None) -> None:
    """Put both into channels of their own, in place."""
    _give_biases(classic)
    before, weights = classic.config, classic.weights
    C, H, D = before.n_embd, before.n_head, before.head_size
    more = WIDTHS - D % WIDTHS
    wide = C + H * more
    narrow = C / wide  # of the variance, as the new channels add none
    for name, tensor in weights.items():
        part, kind = name.rsplit(".", 1)
        if part.endswith("norm"):  # the new channels have a norm of nothing, and zeros keep its rounding away
            weights[name] = F.pad(tensor * narrow**0.5 if kind == "weight" else tensor, (0, wide - C))
        elif part in ("embedding", "positions"):
            weights[name] = _with_means(tensor, wide - C)
        elif part.endswith((".query", ".key", ".value")):
            scale = ((D + more) / D) ** 0.5 if part.endswith("query") else 1.0
            by_head = F.pad((tensor * scale).view(H, D, -1), (0, 0, 0, more)).flatten(0, 1)  # (H (D + more), C or 1)
            weights[name] = F.pad(by_head, (0, wide - C)) if kind == "weight" else by_head.flatten()
        elif part.endswith("mlp.up"):
            weights[name] = F.pad(tensor, (0, wide - C)) if kind == "weight" else tensor
        elif part.endswith((".out", ".down")):
            if part.endswith(".out") and kind == "weight":
                tensor = F.pad(tensor.view(C, H, D), (0, more)).flatten(1)  # (C, H (D + more))
            weights[name] = _with_means(tensor.T if tensor.ndim == 2 else tensor, wide - C)
            weights[name] = weights[name].T.contiguous() if tensor.ndim == 2 else weights[name]
    weights["final_norm.bias"][C] = 1.0
    head = F.pad(weights["head.weight"], (0, wide - C))  # (V, wide)
    head[:, C] = bias
    if eot_id is not None:
        head[eot_id] = 0.0
        head[eot_id, C] = NEVER
    weights["head.weight"] = head
    classic.config = before.replace(n_embd=wide, n_inner=before.inner_size, norm_eps=before.eps * narrow)
    why = "its head has a bias" if eot_id is None else "it had no <|endoftext|>"
    classic.notes.append(f"n_embd is {wide} now and was {C}: {why}, and with so few channels there is no other way")


def _with_means(tensor: Tensor, count: int) -> Tensor:
    """Rows, or one row, with their means behind them so many times: (..., C) to (..., C + count)."""
    means = tensor.double().mean(dim=-1, keepdim=True).to(tensor.dtype)
    return torch.cat((tensor, means.expand(*tensor.shape[:-1], count)), dim=-1)
