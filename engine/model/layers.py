"""The parts of a block: norms, rotary positions, attention and MLP, for all four families.

Shapes: B sequences, T tokens, C = n_embd, H heads, G key-value heads, D = head_size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import WRITTEN_OUT, ModelConfig


class LayerNorm(nn.Module):
    """LayerNorm with an optional bias, as GPT-2 has it. (B, T, C) to (B, T, C)."""

    def __init__(self, size: int, eps: float, *, bias: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) to (..., size)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis (Zhang and Sennrich, 2019), with or without weights."""

    def __init__(self, size: int, eps: float, *, weighted: bool) -> None:
        super().__init__()
        self.size, self.eps = size, eps
        self.weight = nn.Parameter(torch.ones(size)) if weighted else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) to (..., size)."""
        weight = self.weight if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, (self.size,), weight, self.eps)


def make_norm(config: ModelConfig, size: int) -> LayerNorm | RMSNorm:
    """The family's own norm."""
    if config.family == "gpt2":
        return LayerNorm(size, config.eps, bias=config.bias)
    return RMSNorm(size, config.eps, weighted=config.has_norm_weights)


def rotary_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles (Su et al., 2021), each (block_size, D), float32.

    The halves of a head are rotated against each other, not neighbouring pairs. nanochat turns the other way
    round than the others, which is a sine of the other sign.
    """
    places = torch.arange(config.block_size, dtype=torch.float32)
    angles = places[:, None] * (rotary_frequencies(config) * rotary_slowing(config))  # (block_size, D/2)
    cos, sin = angles.cos(), angles.sin()
    if config.family == "nanochat":
        sin = -sin
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotary_frequencies(config: ModelConfig) -> Tensor:
    """Radians per token of each pair before any slowing, (D/2,), float32."""
    D = config.head_size
    return 1.0 / config.rope_theta ** (torch.arange(0, D, 2, dtype=torch.float32) / D)


def rotary_slowing(config: ModelConfig) -> Tensor:
    """What each frequency is multiplied with, (D/2,): ones, or less for the slow ones, as Llama 3.1 stretches them."""
    turns = rotary_frequencies(config) * config.rope_context / math.tau
    kept = ((turns - config.rope_slow) / (config.rope_fast - config.rope_slow)).clamp(0.0, 1.0)
    return kept + (1.0 - kept) / config.rope_factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys (..., T, D) by their positions; the tables are those of `rotary_tables`, (T, D)."""
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)  # the sign is in the sine table
    return x * cos + swapped * sin


def in_pairs(rows: Tensor, head_size: int) -> Tensor:
    """The rows of each head's first and second half in turn: 0, D / 2, 1, D / 2 + 1, ...

    What is rotated together lies together then. (heads D, ...) to the same shape.
    """
    halves = rows.reshape(-1, 2, head_size // 2, *rows.shape[1:])  # (heads, 2, D / 2, ...)
    return halves.transpose(1, 2).reshape(rows.shape)


def sinusoidal_table(block_size: int, n_embd: int) -> Tensor:
    """The fixed positions of Vaswani et al. (2017), (block_size, C), scaled to an embedding's 0.02 rms."""
    angles = torch.arange(block_size)[:, None] / 10_000 ** (torch.arange(0, n_embd, 2) / n_embd)
    table = torch.zeros(block_size, n_embd)
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles.cos()[:, : n_embd // 2]
    return table * 0.02 * 2**0.5


class Attention(nn.Module):
    """Causal self-attention with optional rotary positions, QK-norm and grouped-query heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        C, H, G, D = config.n_embd, config.n_head, config.kv_heads, config.head_size
        self.query = nn.Linear(C, H * D, bias=config.bias)
        self.key = nn.Linear(C, G * D, bias=config.bias)
        self.value = nn.Linear(C, G * D, bias=config.bias)
        self.out = nn.Linear(H * D, C, bias=config.bias)
        weighted = config.has_norm_weights
        self.query_norm = RMSNorm(D, config.eps, weighted=weighted) if config.norms_heads else None
        self.key_norm = RMSNorm(D, config.eps, weighted=weighted) if config.norms_heads else None

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        B, T, _ = x.shape
        H, G, D = self.config.n_head, self.config.kv_heads, self.config.head_size
        q = self.query(x).view(B, T, H, D).transpose(1, 2)  # (B, H, T, D)
        k = self.key(x).view(B, T, G, D).transpose(1, 2)  # (B, G, T, D)
        v = self.value(x).view(B, T, G, D).transpose(1, 2)  # (B, G, T, D)
        # qwen3 norms with weights, then rotates; nanochat rotates first, and without weights the order is free
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if rotary is not None:
            cos, sin = (table.to(q.dtype) for table in rotary)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        # GPT-2 drops attention weights too; the newer recipes drop only what is added to the stream
        dropout = self.config.dropout if self.training and self.config.family == "gpt2" else 0.0
        if _is_slow_backward(q):
            if G != H:
                k, v = k.repeat_interleave(H // G, dim=1), v.repeat_interleave(H // G, dim=1)
            y = attend(q, k, v, dropout)
        else:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=T > 1, enable_gqa=G != H)
        return self.out(y.transpose(1, 2).reshape(B, T, H * D))  # type: ignore[no-any-return]


def _is_slow_backward(q: Tensor) -> bool:
    """Whether to do without torch's own attention: in bf16 on a CPU its backward pass takes four times as much."""
    return q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.requires_grad and q.shape[2] <= WRITTEN_OUT


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Causal attention in plain products, (B, H, T, D) each; the same as torch's own but for rounding."""
    T = q.shape[2]
    future = torch.full((T, T), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + future  # (B, H, T, T)
    return F.dropout(scores.softmax(dim=-1), dropout) @ v


class MLP(nn.Module):
    """The feed-forward half of a block: GELU of two kinds or ReLU (gpt2), squared ReLU (nanochat), or SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.activation_kind
        self.up = nn.Linear(config.n_embd, config.inner_size, bias=config.bias)
        self.gate = nn.Linear(config.n_embd, config.inner_size, bias=False) if config.is_gated else None
        self.down = nn.Linear(config.inner_size, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        h = self.up(x)  # (B, T, inner_size)
        h = F.silu(self.gate(x)) * h if self.gate is not None else activate(h, self.kind)
        return self.down(h)  # type: ignore[no-any-return]


def activate(h: Tensor, kind: str) -> Tensor:
    """Apply an activation by its name: gelu (by tanh), gelu_erf (by definition), relu, or relu2 (So et al., 2021)."""
    if kind in ("gelu", "gelu_erf"):
        return F.gelu(h, approximate="tanh" if kind == "gelu" else "none")
    if kind == "relu":
        return F.relu(h)
    return F.relu(h).square()


class Block(nn.Module):
    """Attention and MLP, each on a normed copy of the stream and added to it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config, config.n_embd)
        self.attention = Attention(config)
        self.mlp_norm = make_norm(config, config.n_embd)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))  # type: ignore[no-any-return]
