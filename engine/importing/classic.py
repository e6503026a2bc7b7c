"""A GPT from elsewhere as our gpt2 family: the configuration that its shapes tell, and its weights under our names.
What shapes cannot tell is taken from the caller or guessed, and every guess is said. Knows nothing of files or text.

Shapes: V tokens, C = n_embd, T = block_size, H heads, D = head_size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn

import torch
from torch import Tensor

from engine.config import ModelConfig
from engine.errors import CheckpointError, InvalidSettingError
from engine.importing.names import Block, Parts
from engine.model.layers import sinusoidal_table
from engine.validation import make

AttentionScale = Literal["auto", "head", "embd"]
Activation = Literal["auto", "gelu", "gelu-tanh", "relu"]
ACTIVATIONS = {"gelu": "gelu_erf", "gelu-tanh": "gelu", "relu": "relu"}
"""Ours, by the names that torch's users know."""

USUAL_HEAD = 64
THIRDS = ("query", "key", "value")


@dataclass(frozen=True)
class Untold:
    """What shapes cannot tell.

    Attributes:
        attention_scale: What attention is divided by: the root of a head's size, or of n_embd.
        activation: Of the MLP: gelu is torch's own, gelu-tanh GPT-2's.
        heads: Number of heads; 0 where it is not known.
    """

    attention_scale: AttentionScale = "auto"
    activation: Activation = "auto"
    heads: int = 0


@dataclass
class Classic:
    """A model of the gpt2 family.

    Attributes:
        config: Its configuration.
        weights: Under our names, in the numbers that they came in or in float32; a tied head is the embedding.
        head_bias: (V,), which our models have not; None where it has none.
        notes: What was guessed, in words.
    """

    config: ModelConfig
    weights: dict[str, Tensor]
    head_bias: Tensor | None = None
    notes: list[str] = field(default_factory=list)


def to_classic(parts: Parts, theirs: Mapping[str, Tensor], untold: Untold) -> Classic:
    """A model as ours.

    Args:
        parts: What each tensor is.
        theirs: The tensors by the names that they have in the file.
        untold: What shapes cannot tell.

    Raises:
        CheckpointError: A tensor has another shape than the others ask for.
        InvalidSettingError: What was told does not fit the shapes.
    """
    return _Reader(parts, theirs, untold).read()


class _Reader:
    def __init__(self, parts: Parts, theirs: Mapping[str, Tensor], untold: Untold) -> None:
        self._parts, self._theirs, self._untold = parts, theirs, untold
        self._notes: list[str] = []
        self._ours: dict[str, Tensor] = {}
        self._embedding = self._take(parts.whole["embedding.weight"], 2)
        self._V, self._C = self._embedding.shape

    def read(self) -> Classic:
        whole, C = self._parts.whole, self._C
        positions = self._positions()
        head, head_bias = self._head()
        first = self._parts.blocks[0].whole
        inner = self._take(first["mlp.up.weight"], 2).shape[0]
        n_head = self._heads()
        names = [name for block in self._parts.blocks for each in (block.whole, *block.heads) for name in each]
        shape = {
            "family": "gpt2",
            "vocab_size": self._V,
            "block_size": positions.shape[0],
            "n_layer": len(self._parts.blocks),
            "n_head": n_head,
            "n_embd": C,
            "n_inner": 0 if inner == 4 * C else inner,
            "bias": any(name.endswith(".bias") for name in (*names, *whole) if name != "head.bias"),
            "positions": "sinusoidal" if _is_sinusoidal(positions) else "learned",
            "activation": self._activation(),
            "tie_head": head is None,
        }
        try:
            config = make(ModelConfig, shape)
        except InvalidSettingError as error:
            raise CheckpointError(f"the weights are of no model that is known: {error.message}", error.hint) from None
        self._ours |= {"embedding.weight": self._embedding, "positions.weight": positions}
        scale = self._query_scale(config)
        for number, block in enumerate(self._parts.blocks):
            self._read_block(f"blocks.{number}", block, config, scale)
        self._norm("final_norm", whole, "final_norm", config)
        self._ours["head.weight"] = self._embedding if head is None else head
        return Classic(config, self._ours, head_bias, self._notes)

    def _positions(self) -> Tensor:
        """(T, C), also where the file has them with a batch axis, as tables that are no parameters have."""
        name = self._parts.whole.get("positions.weight") or self._parts.whole["table.weight"]
        table = self._theirs[name]
        while table.ndim > 2 and 1 in table.shape[:2]:
            table = table.squeeze(0 if table.shape[0] == 1 else 1)
        if table.ndim != 2 or table.shape[1] != self._C or not table.is_floating_point():
            self._misfit(name, f"(positions, {self._C})")
        return table[: self._parts.longest] if self._parts.longest else table

    def _head(self) -> tuple[Tensor | None, Tensor | None]:
        """The head, or None where it is the embedding, and its bias."""
        whole = self._parts.whole
        bias = self._sized(whole["head.bias"], self._V) if "head.bias" in whole else None
        if bias is not None and not bias.any():
            bias = None
        if "head.weight" not in whole:
            return None, bias
        head = self._sized(whole["head.weight"], self._V, self._C)
        return (None if torch.equal(head, self._embedding) else head), bias

    def _heads(self) -> int:
        apart = {len(block.heads) for block in self._parts.blocks}
        if apart != {0}:
            if len(apart) > 1:
                raise CheckpointError("the blocks have different numbers of heads", "they cannot be imported")
            return self._told_heads(apart.pop())
        if self._untold.heads:
            return self._told_heads(self._untold.heads)
        C = self._C
        guess = C // USUAL_HEAD if C % USUAL_HEAD == 0 and C > USUAL_HEAD else next(n for n in (4, 2, 1) if not C % n)
        self._notes.append(f"taken for {guess} heads of {C // guess}; --heads N if not")
        return guess

    def _told_heads(self, heads: int) -> int:
        if self._untold.heads not in (0, heads):
            raise InvalidSettingError(f"the file has {heads} heads", "leave --heads out")
        if self._C % heads:
            raise CheckpointError(
                f"{heads} heads do not share n_embd of {self._C} evenly", "give the right number: --heads N"
            )
        return heads

    def _activation(self) -> str:
        told = self._untold.activation
        if told == "auto":
            told = "relu" if self._parts.is_numbered else "gelu"
            others = " or ".join(name for name in ACTIVATIONS if name != told)
            self._notes.append(f"taken for a model with {told}; --activation {others} if not")
        return ACTIVATIONS[told]

    def _query_scale(self, config: ModelConfig) -> float:
        """What queries are multiplied with, as our attention divides by the root of a head's size."""
        told = self._untold.attention_scale
        if config.n_head == 1:
            return 1.0
        if told == "auto":
            self._notes.append("taken for attention scaled by the size of a head; --attention-scale embd if not")
        return float((config.head_size / config.n_embd) ** 0.5) if told == "embd" else 1.0

    def _read_block(self, stem: str, block: Block, config: ModelConfig, scale: float) -> None:
        C, inner, whole = self._C, config.inner_size, block.whole
        for kind in ("weight", "bias") if config.bias else ("weight",):
            for part, tensor in zip(THIRDS, self._thirds(block, kind, config), strict=True):
                scaled = tensor if part != "query" or scale == 1.0 else tensor.float() * scale
                self._ours[f"{stem}.attention.{part}.{kind}"] = scaled
        if "attention.out.weight" in whole:
            self._linear(f"{stem}.attention.out", whole, "attention.out", (C, C), config)
        else:  # heads that are put together as they are
            self._ours[f"{stem}.attention.out.weight"] = torch.eye(C, dtype=self._embedding.dtype)
            if config.bias:
                self._ours[f"{stem}.attention.out.bias"] = self._embedding.new_zeros(C)
        self._linear(f"{stem}.mlp.up", whole, "mlp.up", (inner, C), config)
        self._linear(f"{stem}.mlp.down", whole, "mlp.down", (C, inner), config)
        for norm in ("attention_norm", "mlp_norm"):
            self._norm(f"{stem}.{norm}", whole, norm, config)

    def _thirds(self, block: Block, kind: str, config: ModelConfig) -> list[Tensor]:
        """Queries, keys and values of all heads, (C, C) each, or their biases, (C,) each."""
        C, D = self._C, config.head_size
        rest = (C,) if kind == "weight" else ()
        if block.heads:
            return [
                torch.cat([self._or_zeros(head, f"attention.{part}.{kind}", (D, *rest)) for head in block.heads])
                for part in THIRDS
            ]
        if "attention.fused.weight" in block.whole:
            fused = self._or_zeros(block.whole, f"attention.fused.{kind}", (3 * C, *rest))
            return [part.contiguous() for part in fused.tensor_split(3)]
        return [self._or_zeros(block.whole, f"attention.{part}.{kind}", (C, *rest)) for part in THIRDS]

    def _linear(
        self, ours: str, names: Mapping[str, str], part: str, shape: tuple[int, int], config: ModelConfig
    ) -> None:
        self._ours[f"{ours}.weight"] = self._sized(names[f"{part}.weight"], *shape)
        if config.bias:
            self._ours[f"{ours}.bias"] = self._or_zeros(names, f"{part}.bias", shape[:1])

    def _norm(self, ours: str, names: Mapping[str, str], part: str, config: ModelConfig) -> None:
        self._ours[f"{ours}.weight"] = self._sized(names[f"{part}.weight"], self._C)
        if config.bias:
            self._ours[f"{ours}.bias"] = self._or_zeros(names, f"{part}.bias", (self._C,))

    def _or_zeros(self, names: Mapping[str, str], part: str, shape: tuple[int, ...]) -> Tensor:
        return self._sized(names[part], *shape) if part in names else self._embedding.new_zeros(shape)

    def _sized(self, name: str, *shape: int) -> Tensor:
        tensor = self._take(name, len(shape))
        if tuple(tensor.shape) != shape:
            self._misfit(name, str(shape))
        return tensor

    def _take(self, name: str, axes: int) -> Tensor:
        tensor = self._theirs[name]
        if tensor.ndim != axes or not tensor.is_floating_point():
            self._misfit(name, "numbers with a point" if tensor.ndim == axes else f"{axes} axes")
        return tensor

    def _misfit(self, name: str, wanted: str) -> NoReturn:
        kind = str(self._theirs[name].dtype).removeprefix("torch.")
        shape = tuple(self._theirs[name].shape)
        raise CheckpointError(
            f"the tensor {name} is {kind} of shape {shape} where {wanted} belongs", "the model is none that is known"
        )


def _is_sinusoidal(table: Tensor) -> bool:
    """Whether a table is that of Vaswani et al. (2017) at whatever scale, in either order of sines and cosines."""
    T, C = table.shape
    if C % 2 or T < 2:
        return False
    usual = sinusoidal_table(T, C)
    table, usual = table.float(), usual / usual[0, 1]
    for known in (usual, torch.cat((usual[:, 0::2], usual[:, 1::2]), dim=1)):
        scale = table[0, 1 if known is usual else C // 2]
        if scale and torch.allclose(table / scale, known, atol=1e-4):
            return True
    return False
