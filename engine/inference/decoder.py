"""The model as decoding wants it: the same maths as `engine.model`, for one sequence, without gradients, dropout or
module calls. Token ids in, logits out; it knows nothing of sampling or of text.

Shapes: T tokens, C = n_embd, H heads, G key-value heads, D = head_size, V = vocab_size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.inference.layout import Layer, lay_out
from engine.inference.single_step import SingleStep
from engine.model.gpt import GPT
from engine.model.kv_cache import KVCache
from engine.model.layers import activate

CHUNK = 512
"""Tokens of a prompt read in one forward pass."""


class Decoder:
    """A model's weights laid out for decoding. The state of a text is in its `KVCache`, so many texts share one.

    One token on the CPU in full precision takes a path of its own, `SingleStep`, which writes into buffers of the
    decoder: a decoder is for one thread at a time.
    """

    def __init__(self, gpt: GPT) -> None:
        """Lay out the weights of `gpt`, which is not changed."""
        self.layout = lay_out(gpt)
        self.config, self.device, self.dtype = gpt.config, self.layout.device, self.layout.dtype
        alone = self.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)
        self._single_step = SingleStep(self.layout) if alone else None
        if self.layout.turns is not None:
            cos, sin = self.layout.turns.real, self.layout.turns.imag  # (block_size, D / 2)
            self._cos = cos.repeat_interleave(2, dim=-1).to(self.dtype)
            self._sin = torch.stack((-sin, sin), dim=-1).flatten(-2).to(self.dtype)

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
        if len(tokens) == 1 and self._single_step is not None:
            logits = self._single_step.read(tokens[0], cache).float()
        else:
            logits = self._read_chunks(tokens, cache).float()
        if cap := self.config.logit_soft_cap:
            logits = cap * torch.tanh(logits / cap)
        return logits

    def _read_chunks(self, tokens: list[int], cache: KVCache) -> Tensor:
        x = torch.empty(0)
        for start in range(0, len(tokens), CHUNK):
            chunk = torch.tensor(tokens[start : start + CHUNK], device=self.device)
            x = self._stream(chunk, cache)
            cache.advance(len(chunk))
        return F.linear(self.layout.norm(x[-1], self.layout.final_norm), self.layout.head)

    def _stream(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """(T,) ids to the residual stream (T, C)."""
        layout, T, past = self.layout, len(tokens), cache.length
        x = layout.embedding[tokens]  # (T, C)
        if layout.positions is not None:
            x = x + layout.positions[past : past + T]
        mask = None
        if past and T > 1:  # a later chunk: token t sees all of the past and the chunk up to itself
            mask = torch.ones(T, past + T, dtype=torch.bool, device=self.device).tril(past)
        for number, layer in enumerate(layout.layers):
            h = layout.norm(x, layer.norms[0] if layer.norms else None)
            x = x + F.linear(self._attend(h, number, layer, cache, mask), layer.out, layer.out_bias)
            h = layout.norm(x, layer.norms[1] if layer.norms else None)
            h = F.linear(h, layer.up, layer.up_bias)
            if self.config.activation_kind == "silu":
                gate, up = h.chunk(2, dim=-1)
                h = F.silu(gate) * up
            else:
                h = activate(h, self.config.activation_kind)
            x = x + F.linear(h, layer.down, layer.down_bias)
        return x

    def _attend(self, h: Tensor, number: int, layer: Layer, cache: KVCache, mask: Tensor | None) -> Tensor:
        """(T, C) to what the heads read, (T, H D)."""
        T, past = len(h), cache.length
        H, G, D = self.config.n_head, self.config.kv_heads, self.config.head_size
        qkv = F.linear(h, layer.qkv, layer.qkv_bias).view(T, H + 2 * G, D)
        qk = qkv[:, : H + G]
        if self.layout.turns is not None:  # queries and keys are normed and turned together
            cos, sin = self._cos[past : past + T, None], self._sin[past : past + T, None]  # (T, 1, D)
            qk = F.rms_norm(qk, (D,), None, self.config.eps)
            if layer.qk_norm is not None:
                qk = qk * layer.qk_norm
            swapped = qk.view(T, H + G, D // 2, 2).flip(-1).view(T, H + G, D)
            qk = qk * cos + swapped * sin
        by_head = (part.transpose(0, 1)[None] for part in (qk[:, :H], qk[:, H:], qkv[:, H + G :]))  # (1, heads, T, D)
        q, k, v = by_head
        keys, values = cache.append(number, k, v)
        causal = past == 0 and T > 1
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=G != H)
        return y[0].transpose(0, 1).reshape(T, H * D)
