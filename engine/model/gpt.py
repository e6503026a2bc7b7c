"""One GPT for four families, from token ids to logits, top to bottom in the order of the forward pass.
It knows nothing of text, training or sampling.

Shapes: B sequences, T tokens, C = n_embd, V = vocab_size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import ModelConfig
from engine.model.layers import Block, make_norm, rotary_tables, sinusoidal_table


class GPT(nn.Module):
    """A decoder-only transformer.

    `gpt2` (Radford et al., 2019): learned or sinusoidal positions, LayerNorm, GELU or ReLU. `nanochat` (Karpathy,
    2025): rotary positions, RMSNorm without weights (on the embedding too), QK-norm, squared ReLU, optional soft
    cap. `qwen3` (Qwen team, 2025): rotary positions, RMSNorm, QK-norm with weights, SwiGLU, grouped-query heads.
    `llama` (Touvron et al., 2023): qwen3 without the QK-norm.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = _embedding(config.vocab_size, config.n_embd)
        self.positions: nn.Embedding | None = None
        if config.family == "gpt2":
            self.positions = _embedding(config.block_size, config.n_embd)
            self.positions.weight.requires_grad_(config.position_kind == "learned")
        else:
            for name in ("cos", "sin"):
                self.register_buffer(name, torch.empty(config.block_size, config.head_size), persistent=False)
            if not self.cos.is_meta:
                self.make_rotary_tables()
        self.embedding_norm = make_norm(config, config.n_embd) if config.family == "nanochat" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.final_norm = make_norm(config, config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_head:
            self.head.weight = self.embedding.weight

    def make_rotary_tables(self) -> None:
        """Compute the rotary tables where the family has them.

        A model that is built without memory waits for this: a damaged file may ask for tables of any size, so its
        weights are compared with what it asks for first.
        """
        if self.positions is None:
            self.cos, self.sin = rotary_tables(self.config)  # (block_size, D) each

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at every place.

        Args:
            tokens: (B, T) ids.

        Returns:
            (B, T, V) logits, in the dtype of the weights (or of autocast).

        Raises:
            ValueError: More than `block_size` tokens.
        """
        return self.logits(self.stream(tokens))

    def stream(self, tokens: Tensor) -> Tensor:
        """The residual stream after the last block and the final norm, (B, T, C)."""
        T = tokens.shape[1]
        if self.config.block_size < T:
            raise ValueError(f"{T} tokens do not fit in a context of {self.config.block_size}")
        x = self.embedding(tokens)  # (B, T, C)
        rotary = None
        if self.positions is not None:
            x = x + self.positions.weight[:T]
        else:
            rotary = self.cos[:T], self.sin[:T]  # (T, D) each
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, rotary)
        return self.final_norm(x)  # type: ignore[no-any-return]

    def logits(self, x: Tensor) -> Tensor:
        """The head, with the soft cap where there is one: (..., C) to (..., V)."""
        logits: Tensor = self.head(x)
        if cap := self.config.logit_soft_cap:
            logits = cap * torch.tanh(logits / cap)
        return logits

    def loss(self, tokens: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats, in float32.

        Args:
            tokens: (B, T) ids.
            targets: (B, T) ids that follow them; -1 is left out of the loss.
            reduction: mean, sum or none, as in `torch.nn.functional.cross_entropy`.
        """
        logits = self(tokens).float()  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction=reduction)

    def parameter_count(self) -> int:
        """Number of trained or stored weights; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw fresh weights.

        gpt2 as GPT-2: normal with standard deviation 0.02, less by the square root of 2 n_layer for what each block
        adds. The others as modded-nanogpt and nanochat: an embedding of standard deviation 1 (0.02 when it is the
        head too), uniform matrices of variance 1 / fan-in, and zeros for the head and for what each block adds, so
        that training starts from the uniform guess.
        """
        classic = self.config.family == "gpt2"
        embedding_std = 0.02 if classic or self.config.tie_head else 1.0
        self.embedding.weight.normal_(0.0, embedding_std, generator=generator)
        for name, parameter in self.blocks.named_parameters():
            adds_to_stream = name.endswith(("attention.out.weight", "mlp.down.weight"))
            if parameter.ndim < 2:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            elif classic:
                std = 0.02 / (2 * self.config.n_layer) ** 0.5 if adds_to_stream else 0.02
                parameter.normal_(0.0, std, generator=generator)
            elif adds_to_stream:
                parameter.zero_()
            else:
                bound = (3 / parameter.shape[1]) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
        if self.positions is not None and self.config.position_kind == "sinusoidal":
            self.positions.weight.copy_(sinusoidal_table(self.config.block_size, self.config.n_embd))
        elif self.positions is not None:
            self.positions.weight.normal_(0.0, 0.02, generator=generator)
        if not self.config.tie_head:
            if classic:
                self.head.weight.normal_(0.0, 0.02, generator=generator)
            else:
                self.head.weight.zero_()


def _embedding(rows: int, size: int) -> nn.Embedding:
    """An embedding not filled yet: filling one that has no memory would import torch._dynamo, a second's wait."""
    return nn.Embedding.from_pretrained(torch.empty(rows, size), freeze=False)  # type: ignore[no-any-return, no-untyped-call]
