"""What a trainer tells whoever watches it, as it happens. Plain data; knows nothing of torch or of screens."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.training.run import Metrics, Sample, State


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """The model is built and the text encoded; the first step comes next.

    Attributes:
        tokens_per_step: Of the global batch: batch_size x accumulation x block_size.
        train_tokens: Size of the training split.
        precision: fp32 or bf16, of the forward pass; what `auto` chose.
    """

    parameters: int
    vocab_size: int
    tokens_per_step: int
    steps: int
    train_tokens: int
    val_tokens: int
    device: str
    precision: str


class Stepped(msgspec.Struct, frozen=True, kw_only=True):
    """A step was taken; `metrics.val_loss` is set when it was followed by an evaluation."""

    metrics: Metrics
    best_val_loss: float | None
    best_step: int | None


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """The model wrote a sample."""

    sample: Sample


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint is safely on disk."""

    step: int
    path: Path


class Evaluating(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation goes on: tokens done of all."""

    done: int
    total: int


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The run has ended.

    Attributes:
        val_loss: Of the best checkpoint over the whole validation split; None without one.
        train_loss: Of the last step over a part of the training split as long as the validation split, in windows
            that are spread evenly over it.
        test_loss: Of the best checkpoint over the whole test split; None when none was given.
        best: The checkpoint with the lowest validation loss, or the last one when there is no validation split.
    """

    state: State
    step: int
    seconds: float
    val_loss: float | None
    train_loss: float | None
    test_loss: float | None = None
    best: Path | None


TrainEvent = Began | Stepped | Sampled | Saved | Evaluating | Ended
