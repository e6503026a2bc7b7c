"""Looking inside a model at one place of a text: which tokens it would draw there, what its heads look at, and what
each layer would guess. All of it is about the row that predicts the place, the last one of a window. It knows nothing
of requests, nor of how the model came into memory.

The probabilities come from the decoder that writes, so they are those that a token was drawn with. Attention and the
layers' guesses are read off the trained model in float32: what a decoder of fewer bits does differs by its rounding.

Shapes: T tokens in the window, R rows that are read, C = n_embd, H heads, G key-value heads, D = head_size,
V = vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.checkpoints import LoadedModel
from engine.config import SamplingParams
from engine.errors import DataError
from engine.inference.sampling import filter_logits, shares
from engine.inference.stream import Alternative
from engine.inference.window import window_start
from engine.model.gpt import GPT
from engine.model.layers import Attention, Block, rotate

ROWS = 256
"""Rows that are read in one pass."""


class Prediction(NamedTuple):
    """What a model expects at a place.

    Attributes:
        entropy: In nats, of its own distribution.
        likeliest: The likeliest tokens, the likeliest first, and at their end the text's own where it is none of them.
        own: The text's own token; None at its end.
        rank: The text's own token's, from 1.
    """

    entropy: float
    likeliest: tuple[Alternative, ...]
    own: Alternative | None
    rank: int | None


@torch.inference_mode()
def predict(model: LoadedModel, tokens: Sequence[int], position: int, params: SamplingParams, top: int) -> Prediction:
    """What a model expects at a position of a text.

    Args:
        model: The model.
        tokens: The text's ids from its start.
        position: From 1 to len(tokens).
        params: The settings that hold there.
        top: How many of the likeliest tokens to tell; all, where the vocabulary has fewer.

    Raises:
        DataError: An id is not in the vocabulary.
        CheckpointError: The model answers with what is no number.
    """
    check_ids(model, tokens)
    row = logits_at(model, tokens, position)[None]  # (1, V)
    logprobs = row.log_softmax(dim=-1)
    if logprobs.isnan().any():
        raise model.no_number()
    seen = torch.zeros_like(row, dtype=torch.bool)
    seen[0, list(tokens[:position])] = True
    drawn = shares(filter_logits(row, params, seen), params.temperature)[0]
    logprobs = logprobs[0].clamp(torch.finfo(torch.float32).min, 0.0)
    ids = logprobs.topk(min(top, len(logprobs))).indices.tolist()
    own = tokens[position] if position < len(tokens) else None
    if own is not None and own not in ids:
        ids.append(own)
    alternatives = {
        id: Alternative(id, model.tokenizer.piece(id), logprob, share)
        for id, logprob, share in zip(ids, logprobs[ids].tolist(), drawn[ids].tolist(), strict=True)
    }
    return Prediction(
        entropy=float(torch.special.entr(logprobs.exp()).sum()),
        likeliest=tuple(alternatives.values()),
        own=alternatives[own] if own is not None else None,
        rank=int((row > row[0, own]).sum()) + 1 if own is not None else None,
    )


def logits_at(model: LoadedModel, tokens: Sequence[int], position: int) -> Tensor:
    """The logits (V,) that the token at `position` is drawn from, as the text is written."""
    decoder = model.decoder
    window = list(tokens[window_start(position, model.config.block_size) : position])
    owner = _Owner()
    slot = decoder.slots.take(owner, window)
    behind = window[slot.keep(window[:-1]) :]
    logits = decoder.read([behind], [slot], last=True)[0, -1]
    decoder.slots.release(slot)
    return logits


def check_ids(model: LoadedModel, tokens: Sequence[int]) -> None:
    """Raise DataError unless all ids are in the model's vocabulary."""
    last = model.config.vocab_size - 1
    if min(tokens) < 0 or max(tokens) > last:
        raise DataError("a token of the text is not in the vocabulary", f"ids go from 0 to {last}")


class _Owner:
    """Has a slot for a moment."""


class Layers(NamedTuple):
    """What the last row of a window does in each layer.

    Attributes:
        streams: (n_layer + 1, C): the residual stream after the embedding, and after each block.
        attention: (n_layer, H, T): how much each head looks at each place; a head's shares add up to 1.
    """

    streams: Tensor
    attention: Tensor


class LayerReader:
    """Reads windows through a model layer by layer, in the order of its own forward pass.

    The keys and values of what was read are kept, so that a place beside the last one costs one row.

    Args:
        gpt: The model, evaluating, in float32.

    Attributes:
        gpt: The model.
    """

    def __init__(self, gpt: GPT) -> None:
        self.gpt = gpt
        config = gpt.config
        self._blocks = [block for block in gpt.blocks if isinstance(block, Block)]
        self._held: list[int] = []
        shape = (config.n_layer, config.kv_heads, 0, config.head_size)
        self._keys = gpt.embedding.weight.new_zeros(shape)  # (n_layer, G, capacity, D)
        self._values = self._keys.clone()

    @torch.inference_mode()
    def read(self, window: Sequence[int]) -> Layers:
        """What the last row of a window does.

        Args:
            window: Its ids, from 1 to `block_size` of them.
        """
        past = 0
        while past < min(len(self._held), len(window) - 1) and self._held[past] == window[past]:
            past += 1
        del self._held[past:]
        self._make_room(len(window))
        while len(self._held) < len(window):
            ids = list(window[len(self._held) : len(self._held) + ROWS])
            layers = self._pass(ids)
            self._held += ids
        return layers

    def _pass(self, ids: list[int]) -> Layers:
        """Read R rows behind what is held, and tell of the last one."""
        gpt, past, end = self.gpt, len(self._held), len(self._held) + len(ids)
        x = gpt.embedding(torch.tensor(ids, device=gpt.embedding.weight.device))  # (R, C)
        rotary = None
        if gpt.positions is not None:
            x = x + gpt.positions.weight[past:end]
        else:
            rotary = gpt.cos[past:end], gpt.sin[past:end]  # (R, D) each
        if gpt.embedding_norm is not None:
            x = gpt.embedding_norm(x)
        streams, attention = [x[-1]], []
        for number, block in enumerate(self._blocks):
            read, looks = self._attend(number, block.attention, block.attention_norm(x), rotary)
            x = x + read
            x = x + block.mlp(block.mlp_norm(x))
            streams.append(x[-1])
            attention.append(looks)
        return Layers(torch.stack(streams), torch.stack(attention))

    def _attend(
        self, number: int, attention: Attention, x: Tensor, rotary: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """What the heads read, (R, C), and how the last row's shares lie, (H, T)."""
        R, past = len(x), len(self._held)
        H, G, D = attention.config.n_head, attention.config.kv_heads, attention.config.head_size
        q = attention.query(x).view(R, H, D).transpose(0, 1)  # (H, R, D)
        k = attention.key(x).view(R, G, D).transpose(0, 1)  # (G, R, D)
        v = attention.value(x).view(R, G, D).transpose(0, 1)  # (G, R, D)
        if attention.query_norm is not None and attention.key_norm is not None:
            q, k = attention.query_norm(q), attention.key_norm(k)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        self._keys[number, :, past : past + R], self._values[number, :, past : past + R] = k, v
        k, v = (
            kept[number, :, : past + R].repeat_interleave(H // G, dim=0)  # (H, T, D)
            for kept in (self._keys, self._values)
        )
        future = torch.full((R, past + R), float("-inf"), device=x.device).triu(past + 1)
        looks = (q @ k.transpose(1, 2) * D**-0.5 + future).softmax(dim=-1)  # (H, R, T)
        y = (looks @ v).transpose(0, 1).reshape(R, H * D)
        return attention.out(y), looks[:, -1]

    def _make_room(self, length: int) -> None:
        """Keep at least so many places."""
        capacity = self._keys.shape[2]
        if length > capacity:
            more = min(self.gpt.config.block_size, max(length, 2 * capacity)) - capacity
            self._keys = F.pad(self._keys, (0, 0, 0, more))
            self._values = F.pad(self._values, (0, 0, 0, more))


@torch.inference_mode()
def lens(model: LoadedModel, gpt: GPT, streams: Tensor, count: int) -> tuple[tuple[Alternative, ...], ...]:
    """What the model would say if it ended after each layer: the final norm and the head, applied to the stream there.

    The method is the logit lens (nostalgebraist, 2020).

    Args:
        model: The model.
        gpt: Its weights in float32.
        streams: (layers, C), as in `Layers`.
        count: How many of the likeliest tokens of each layer to tell.

    Raises:
        CheckpointError: The model answers with what is no number.
    """
    logprobs = gpt.logits(gpt.final_norm(streams)).float().log_softmax(dim=-1)  # (layers, V)
    if logprobs.isnan().any():
        raise model.no_number()
    values, ids = logprobs.clamp(torch.finfo(torch.float32).min, 0.0).topk(min(count, logprobs.shape[-1]))
    return tuple(
        tuple(Alternative(id, model.tokenizer.piece(id), logprob) for id, logprob in zip(*row, strict=True))
        for row in zip(ids.tolist(), values.tolist(), strict=True)
    )


def packed(attention: Tensor) -> bytes:
    """Shares as float16, little endian, the last axis running fastest."""
    array = attention.to("cpu", torch.float16).contiguous().numpy()
    return array.astype("<f2", copy=False).tobytes()
