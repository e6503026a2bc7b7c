"""The keys and values of the tokens read so far, in buffers allocated once. It knows nothing of the model's maths."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.config import ModelConfig


class KVCache:
    """Room for the keys and values of every layer.

    Attributes:
        keys: (n_layer, B, G, capacity, D); of these the first `length` places of the fourth axis are filled.
        values: Like `keys`.
        layers: For each layer and the first sequence: both, keys transposed, and values, as views.
        length: Tokens held, the same for all layers and sequences.
        capacity: Tokens that fit.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int = 1,
        capacity: int | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.capacity = config.block_size if capacity is None else capacity
        shape = (config.n_layer, 2, batch_size, config.kv_heads, self.capacity, config.head_size)
        both = torch.zeros(shape, device=device, dtype=dtype)
        self.keys, self.values = both[:, 0], both[:, 1]
        # of the first sequence, as one token wants them: (2, G, capacity, D), (G, D, capacity), (G, capacity, D)
        self.layers = [(layer[:, 0], layer[0, 0].transpose(1, 2), layer[1, 0]) for layer in both]
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values, each (B, G, T, D), behind the `length` places already filled.

        `length` itself moves with `advance`, once all layers have written.

        Returns:
            All keys and values of the layer so far, each (B, G, length + T, D), as views of the buffers.

        Raises:
            ValueError: They do not fit.
        """
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, and {end} were to be kept")
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, tokens: int) -> None:
        """Count `tokens` more as held."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot keep {length} of {self.length} tokens")
        self.length = length
