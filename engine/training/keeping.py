"""Which checkpoints of a run stay on disk: the best by validation loss, and the last two. It writes and removes them,
and decides at the end which is the best; it knows nothing of how a model is trained or a loss is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from engine import safe_writing
from engine.catalog import Record, read_record
from engine.checkpoints import save_checkpoint, write_record
from engine.errors import MiniGPTError
from engine.model.gpt import GPT
from engine.text.tokenizers import Tokenizer
from engine.training.run import RunDirectory

KEPT_LAST = 2
"""Checkpoints that are kept whatever their loss: the last one, and the one before it should that be damaged."""


class Best(msgspec.Struct, frozen=True):
    """The lowest validation loss so far, in nats per token, and after which step it was measured."""

    loss: float
    step: int


class Keeper:
    """The checkpoints of one run. The best one must be saved when it is found, so that it is there to be kept.

    Attributes:
        saved: Where the checkpoints on disk are, by step.
        best: The best validation loss so far, or None before the first.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.saved: dict[int, Path] = {}
        self.best: Best | None = None

    def is_new_best(self, step: int, val_loss: float) -> bool:
        """Take note of a validation loss; whether it is lower than all before it."""
        if self.best is not None and val_loss >= self.best.loss:
            return False
        self.best = Best(val_loss, step)
        return True

    def save(self, gpt: GPT, tokenizer: Tokenizer, record: Record) -> Path:
        """Write the checkpoint of `record.step`, and remove those that are no longer kept.

        Raises:
            CheckpointError: It cannot be written; those before it are all still there.
        """
        path = self.run.checkpoint(record.step)
        save_checkpoint(path, gpt, tokenizer, record, replace=True)
        self.saved[record.step] = path
        self._prune()
        return path

    def _prune(self) -> None:
        keep = set(sorted(self.saved)[-KEPT_LAST:]) | ({self.best.step} if self.best else set())
        for step in set(self.saved) - keep:
            with suppress(FileNotFoundError):  # somebody was quicker
                safe_writing.remove_directory(self.saved.pop(step))

    def settle(self, val_losses: Mapping[int, float], measure: Callable[[Path], Mapping[str, float]]) -> Path:
        """Find the best of the checkpoints that are kept, by losses that can be compared, and write them down.

        While a run goes on its losses may be of a part of the validation split; at the end all are of the whole.

        Args:
            val_losses: Loss over the whole split of the checkpoints that were measured already, by step.
            measure: The losses by split, `val` among them, of each of the others; one that cannot be read is left out.

        Returns:
            The checkpoint of `best`, which goes by the run's name from now on.
        """
        losses = dict(val_losses)
        for step in sorted(set(self.saved) - set(losses)):
            path = self.saved[step]
            try:
                measured = {split: loss for split, loss in measure(path).items() if math.isfinite(loss)}
                write_record(path, msgspec.structs.replace(read_record(path), losses=measured))
            except MiniGPTError as error:
                self.run.log(f"the checkpoint of step {step} is left out: {error}")
                continue
            losses[step] = measured.get("val", math.inf)
        step = min(losses, key=lambda step: (losses[step], step))
        self.best = Best(losses[step], step)
        return self.saved[step]
