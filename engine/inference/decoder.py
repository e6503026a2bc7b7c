"""The model as decoding wants it: the same maths as `engine.model`, for one sequence, without gradients, dropout,
masks or module calls. Token ids in, logits out; it knows nothing of sampling or of text.

Shapes: T tokens, C = n_embd, H heads, G key-value heads, D = head_size, V = vocab_size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.model.gpt import GPT
from engine.model.kv_cache import KVCache
from engine.model.layers import Block, LayerNorm, activate

CHUNK = 512
"""Tokens of a prompt read in one forward pass."""


NormWeights = tuple[Tensor, Tensor | None]
"""Weight and bias of a LayerNorm."""


@dataclass(frozen=True)
class _Layer:
    """One block's weights as decoding reads them; the projections of queries, keys and values are one matrix.

    Where a norm has weights and what follows it is linear, they are folded into that matrix (exact but for rounding).
    """

    qkv: Tensor  # (H D + 2 G D, C)
    qkv_bias: Tensor | None
    out: Tensor  # (C, H D)
    out_bias: Tensor | None
    up: Tensor  # (inner, C), or gate and up as one (2 inner, C)
    up_bias: Tensor | None
    down: Tensor  # (C, inner)
    down_bias: Tensor | None
    norms: tuple[NormWeights, NormWeights] | None  # gpt2 alone
    qk_norm: Tensor | None  # (H + G, D), qwen3 alone


class Decoder:
    """A model's weights laid out for decoding. The state of a text is in its `KVCache`, so many texts share one."""

    def __init__(self, gpt: GPT) -> None:
        """Lay out the weights of `gpt`, which is not changed."""
        self.config = gpt.config
        weight = gpt.embedding.weight
        self.device, self.dtype = weight.device, weight.dtype
        with torch.inference_mode():
            self._lay_out(gpt)

    def new_cache(self) -> KVCache:
        """An empty cache for one text, with room for `block_size` tokens."""
        return KVCache(self.config, device=self.device, dtype=self.dtype)

    @torch.inference_mode()
    def read(self, tokens: list[int], cache: KVCache) -> Tensor:
        """Read tokens behind those in the cache.

        Args:
            tokens: At least one id; with those in the cache, at most `block_size`.
            cache: Takes their keys and values.

        Returns:
            (V,) logits in float32 of the token that follows the last one.

        Raises:
            ValueError: They do not fit in the window.
        """
        if cache.length + len(tokens) > self.config.block_size:
            raise ValueError(f"{cache.length + len(tokens)} tokens do not fit in a window of {self.config.block_size}")
        x = torch.empty(0)
        for start in range(0, len(tokens), CHUNK):
            chunk = tokens[start : start + CHUNK]
            x = self._stream(torch.tensor(chunk, device=self.device), cache)
            cache.advance(len(chunk))
        logits = F.linear(self._norm(x[-1], self._final), self._head).float()
        if cap := self.config.logit_soft_cap:
            logits = cap * torch.tanh(logits / cap)
        return logits

    def _stream(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """(T,) ids to the residual stream (T, C)."""
        config, eps = self.config, self.config.eps
        T, past = len(tokens), cache.length
        H, G, D = config.n_head, config.kv_heads, config.head_size
        x = self._embedding[tokens]  # (T, C)
        if self._positions is not None:
            x = x + self._positions[past : past + T]
        else:
            cos, sin = self._cos[past : past + T, None], self._sin[past : past + T, None]  # (T, 1, D)
        mask = None
        if past and T > 1:
            mask = torch.ones(T, past + T, dtype=torch.bool, device=self.device).tril(past)
        half = D // 2
        for number, layer in enumerate(self._layers):
            h = self._norm(x, layer.norms[0] if layer.norms else None)
            qkv = F.linear(h, layer.qkv, layer.qkv_bias).view(T, H + 2 * G, D)
            if self._positions is None:
                qk = qkv[:, : H + G]  # queries and keys are normed and turned together
                qk = F.rms_norm(qk, (D,), None, eps)
                if layer.qk_norm is not None:
                    qk = qk * layer.qk_norm
                qk = qk * cos + torch.cat((qk[..., half:], qk[..., :half]), dim=-1) * sin
                q, k = qk[:, :H], qk[:, H:]
            else:
                q, k = qkv[:, :H], qkv[:, H : H + G]
            keys, values = cache.append(number, k.transpose(0, 1)[None], qkv[:, H + G :].transpose(0, 1)[None])
            y = F.scaled_dot_product_attention(
                q.transpose(0, 1)[None],  # (1, H, T, D)
                keys,
                values,
                attn_mask=mask,
                is_causal=past == 0 and T > 1,
                enable_gqa=G != H,
            )
            y = y[0].transpose(0, 1).reshape(T, H * D)
            x = x + F.linear(y, layer.out, layer.out_bias)
            h = self._norm(x, layer.norms[1] if layer.norms else None)
            h = F.linear(h, layer.up, layer.up_bias)
            if config.activation_kind == "silu":
                gate, up = h.chunk(2, dim=-1)
                h = F.silu(gate) * up
            else:
                h = activate(h, config.activation_kind)
            x = x + F.linear(h, layer.down, layer.down_bias)
        return x

    def _norm(self, x: Tensor, weights: NormWeights | None) -> Tensor:
        shape = (self.config.n_embd,)
        if self.config.family == "gpt2" and weights is not None:
            return F.layer_norm(x, shape, weights[0], weights[1], self.config.eps)
        return F.rms_norm(x, shape, None, self.config.eps)

    def _lay_out(self, gpt: GPT) -> None:
        config = self.config
        self._embedding = gpt.embedding.weight.detach().clone()
        if gpt.embedding_norm is not None:  # the norm of a row does not depend on where it stands
            self._embedding = F.rms_norm(self._embedding, (config.n_embd,), None, config.eps)
        self._positions = gpt.positions.weight.detach() if gpt.positions is not None else None
        if self._positions is None:
            self._cos, self._sin = gpt.cos.to(self.dtype), gpt.sin.to(self.dtype)
        self._layers = [self._layer(block) for block in gpt.blocks if isinstance(block, Block)]
        self._final: NormWeights | None = None
        self._head = gpt.head.weight.detach()
        if isinstance(gpt.final_norm, LayerNorm):
            self._final = (gpt.final_norm.weight, gpt.final_norm.bias)
        elif gpt.final_norm.weight is not None:
            self._head = self._head * gpt.final_norm.weight

    def _layer(self, block: Block) -> _Layer:
        attention, mlp = block.attention, block.mlp
        parts = (attention.query, attention.key, attention.value)
        qkv = torch.cat([part.weight for part in parts])
        biased = attention.query.bias is not None
        up = mlp.up.weight if mlp.gate is None else torch.cat((mlp.gate.weight, mlp.up.weight))
        norms: tuple[NormWeights, NormWeights] | None = None
        qk_norm: Tensor | None = None
        first, second = block.attention_norm, block.mlp_norm
        if isinstance(first, LayerNorm) and isinstance(second, LayerNorm):
            norms = (first.weight, first.bias), (second.weight, second.bias)
        elif first.weight is not None and second.weight is not None:
            qkv, up = qkv * first.weight, up * second.weight
        qk = [norm.weight for norm in (attention.query_norm, attention.key_norm) if norm is not None]
        if qk and qk[0] is not None and qk[1] is not None:
            H, G = self.config.n_head, self.config.kv_heads
            qk_norm = torch.cat((qk[0].expand(H, -1), qk[1].expand(G, -1)))
        return _Layer(
            qkv=qkv,
            qkv_bias=torch.cat([part.bias for part in parts]) if biased else None,
            out=attention.out.weight.detach(),
            out_bias=attention.out.bias,
            up=up,
            up_bias=mlp.up.bias,
            down=mlp.down.weight.detach(),
            down_bias=mlp.down.bias,
            norms=norms,
            qk_norm=qk_norm,
        )
