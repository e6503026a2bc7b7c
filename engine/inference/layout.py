"""A model's weights laid out once for decoding: projections fused, norms folded in where what follows is linear, and
what is rotated together lying together. It computes nothing of a text.

Shapes: C = n_embd, H heads, G key-value heads, D = head_size, V = vocab_size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.config import ModelConfig
from engine.model.gpt import GPT
from engine.model.layers import Block, LayerNorm, in_pairs

LOOK_UP_VOCABULARY = 1024
"""Up to this many tokens, the first block's projections are looked up."""

NormWeights = tuple[Tensor, Tensor | None]
"""Weight and bias of a LayerNorm."""


@dataclass(frozen=True)
class Layer:
    """One block's weights.

    Attributes:
        qkv: (H D + 2 G D, C): queries, keys and values in one. With rotary positions the rows of queries and keys
            stand in pairs (i, i + D / 2), which a rotation turns against each other.
        up: (inner, C), or gate and up in one, (2 inner, C).
        norms: Of attention and MLP, for gpt2 alone; the weights of RMSNorms are folded into `qkv` and `up`.
        qk_norm: (H + G, D), for qwen3 alone.
    """

    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor  # (C, H D)
    out_bias: Tensor | None
    up: Tensor
    up_bias: Tensor | None
    down: Tensor  # (C, inner)
    down_bias: Tensor | None
    norms: tuple[NormWeights, NormWeights] | None
    qk_norm: Tensor | None


@dataclass(frozen=True)
class Layout:
    """All of a model's weights; folding is exact but for rounding.

    Attributes:
        embedding: (V, C), normed where the family norms its embedding.
        positions: (block_size, C), for gpt2 alone.
        turns: (block_size, D / 2) complex: the rotation of each pair, for the others.
        final_norm: For gpt2 alone.
        head: (V, C).
    """

    config: ModelConfig
    device: torch.device
    dtype: torch.dtype
    embedding: Tensor
    positions: Tensor | None
    turns: Tensor | None
    layers: tuple[Layer, ...]
    final_norm: NormWeights | None
    head: Tensor

    def norm(self, x: Tensor, weights: NormWeights | None) -> Tensor:
        """The family's norm over the last axis, with a LayerNorm's weights or, for an RMSNorm, none: (..., C)."""
        if weights is not None:
            return F.layer_norm(x, (self.config.n_embd,), weights[0], weights[1], self.config.eps)
        return F.rms_norm(x, (self.config.n_embd,), None, self.config.eps)


@torch.inference_mode()
def lay_out(gpt: GPT) -> Layout:
    """Lay out the weights of a model, which is not changed; most are shared with it."""
    config = gpt.config
    embedding, head = gpt.embedding.weight.detach(), gpt.head.weight.detach()
    if gpt.embedding_norm is not None:  # the norm of a row does not depend on where it stands
        embedding = F.rms_norm(embedding, (config.n_embd,), None, config.eps)
    final_norm: NormWeights | None = None
    if isinstance(gpt.final_norm, LayerNorm):
        final_norm = gpt.final_norm.weight, gpt.final_norm.bias
    elif gpt.final_norm.weight is not None:
        head = head * gpt.final_norm.weight
    turns = None
    if gpt.positions is None:
        half = config.head_size // 2
        wide = torch.float64 if head.dtype == torch.float64 else torch.float32
        turns = torch.complex(gpt.cos[:, :half].to(wide), gpt.sin[:, half:].to(wide))
    return Layout(
        config=config,
        device=head.device,
        dtype=head.dtype,
        embedding=embedding,
        positions=gpt.positions.weight.detach() if gpt.positions is not None else None,
        turns=turns,
        layers=tuple(_layer(config, block) for block in gpt.blocks if isinstance(block, Block)),
        final_norm=final_norm,
        head=head,
    )


@torch.inference_mode()
def first_projections(layout: Layout, dtype: torch.dtype) -> Tensor | None:
    """The first block's queries, keys and values of every token, normed, (V, H D + 2 G D), where that is small.

    With rotary positions they depend on the token alone: a row to look up instead of a product.
    """
    config, layer = layout.config, layout.layers[0]
    if layout.turns is None or config.vocab_size > LOOK_UP_VOCABULARY:
        return None
    qkv = F.linear(layout.norm(layout.embedding.to(dtype), None), layer.qkv.to(dtype))
    if config.norms_heads:
        qk = qkv.view(-1, config.n_head + 2 * config.kv_heads, config.head_size)[:, : config.n_head + config.kv_heads]
        normed = F.rms_norm(qk, (config.head_size,), None, config.eps)
        qk.copy_(normed if layer.qk_norm is None else normed * layer.qk_norm.to(dtype))
    return qkv


def _layer(config: ModelConfig, block: Block) -> Layer:
    attention, mlp = block.attention, block.mlp
    query, key, value = attention.query, attention.key, attention.value
    qk = torch.cat((query.weight, key.weight))
    if config.position_kind == "rotary":
        qk = in_pairs(qk, config.head_size)
    qkv = torch.cat((qk, value.weight))
    up = mlp.up.weight.detach() if mlp.gate is None else torch.cat((mlp.gate.weight, mlp.up.weight))
    norms: tuple[NormWeights, NormWeights] | None = None
    first, second = block.attention_norm, block.mlp_norm
    if isinstance(first, LayerNorm) and isinstance(second, LayerNorm):
        norms = (first.weight, first.bias), (second.weight, second.bias)
    elif first.weight is not None and second.weight is not None:
        qkv, up = qkv * first.weight, up * second.weight
    qk_norm: Tensor | None = None
    weights = [norm.weight for norm in (attention.query_norm, attention.key_norm) if norm is not None]
    if weights and weights[0] is not None and weights[1] is not None:
        rows = torch.cat((weights[0].repeat(config.n_head), weights[1].repeat(config.kv_heads)))
        qk_norm = in_pairs(rows, config.head_size).view(-1, config.head_size)
    biased = query.bias is not None
    return Layer(
        qkv=qkv,
        qkv_bias=torch.cat((query.bias, key.bias, value.bias)) if biased else None,
        out=attention.out.weight.detach(),
        out_bias=attention.out.bias,
        up=up,
        up_bias=mlp.up.bias,
        down=mlp.down.weight.detach(),
        down_bias=mlp.down.bias,
        norms=norms,
        qk_norm=qk_norm,
    )
