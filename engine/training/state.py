"""What a run needs to go on from a checkpoint as if it had never ended: the optimizers' tensors by their weights'
names, and how far it had come. It is one file, `training/state.safetensors`, and nothing in it is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from engine import safe_writing
from engine.catalog import STATE
from engine.errors import CheckpointError
from engine.training.run import Metrics

FORMAT = "1"
"""Version of the file's layout."""

HISTORY_POINTS = 200
"""A loss curve has at least this many points, once there are so many steps, and less than twice as many."""

WEIGHTS_PREFIX = "weights."
"""Weights of these names are trained on from, where those of the model itself are others, such as averages."""

AVERAGE_PREFIX = "average."
"""The model's own then go by these names, in memory alone."""


class Best(msgspec.Struct, frozen=True):
    """The lowest validation loss so far, in nats per token, and after which step it was measured."""

    loss: float
    step: int


class History(msgspec.Struct, frozen=True):
    """A run's loss curve, thinned out as it grows: a pure function of the steps, however often they were interrupted.

    Attributes:
        stride: Steps in one point.
        points: (step, mean training loss of its steps, the last validation loss of them or None).
        count: Steps in the point that is still open.
        total: The sum of their losses.
        val_loss: The last validation loss of them.
    """

    stride: int = 1
    points: tuple[tuple[int, float, float | None], ...] = ()
    count: int = 0
    total: float = 0.0
    val_loss: float | None = None

    def stepped(self, metrics: Metrics) -> History:
        """The curve with one more step."""
        count, total = self.count + 1, self.total + metrics.train_loss
        val_loss = self.val_loss if metrics.val_loss is None else metrics.val_loss
        if count < self.stride:
            return History(self.stride, self.points, count, total, val_loss)
        points = (*self.points, (metrics.step, total / count, val_loss))
        if len(points) < 2 * HISTORY_POINTS:
            return History(self.stride, points)
        pairs = zip(points[::2], points[1::2], strict=True)
        halved = tuple((b[0], (a[1] + b[1]) / 2, a[2] if b[2] is None else b[2]) for a, b in pairs)
        return History(2 * self.stride, halved)

    def rounded(self, step: int) -> list[tuple[int, float | None, float | None]]:
        """The curve up to `step`, for a checkpoint's record."""
        still_open = ((step, self.total / self.count, self.val_loss),) if self.count else ()
        return [
            (at, round(loss, 5), None if val is None else round(val, 5))
            for at, loss, val in (*self.points, *still_open)
        ]


class EpochSums(msgspec.Struct, frozen=True):
    """What the steps of an epoch come to; for a run whose length was given in epochs.

    Attributes:
        since: Seconds of training when it began.
        lowest: The lowest training loss.
        val_loss: The last validation loss.
    """

    since: float = 0.0
    count: int = 0
    total: float = 0.0
    lowest: float | None = None
    val_loss: float | None = None

    def stepped(self, metrics: Metrics) -> EpochSums:
        """The sums with one more step."""
        loss = metrics.train_loss
        return EpochSums(
            since=self.since,
            count=self.count + 1,
            total=self.total + loss,
            lowest=loss if self.lowest is None else min(self.lowest, loss),
            val_loss=self.val_loss if metrics.val_loss is None else metrics.val_loss,
        )


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has come.

    Attributes:
        step: Steps taken.
        seconds: Of training, without pauses.
        tokens: Training tokens seen.
        train_loss: Of the latest batch.
        val_loss: Of the latest evaluation.
        train_split_loss: Of the latest evaluation of the training split.
        evaluated: The step of the latest evaluation.
        best: The lowest validation loss so far.
        since_best: Evaluations since then.
        pending: The latest step, when not all that is due after it has been done: an evaluation, a sample.
    """

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    train_split_loss: float | None = None
    evaluated: int = 0
    best: Best | None = None
    since_best: int = 0
    history: History = History()
    epoch: EpochSums = EpochSums()
    pending: Metrics | None = None

    def concluded(self, metrics: Metrics) -> Progress:
        """The progress once all that is due after the step of `metrics` has been done."""
        best, since_best, val_loss = self.best, self.since_best, metrics.val_loss
        if val_loss is not None:
            is_best = best is None or val_loss < best.loss
            best, since_best = (Best(val_loss, metrics.step), 0) if is_best else (best, since_best + 1)
        was_evaluated = metrics.val_loss is not None or metrics.train_split_loss is not None
        return msgspec.structs.replace(
            self,
            val_loss=self.val_loss if val_loss is None else val_loss,
            train_split_loss=metrics.train_split_loss if was_evaluated else self.train_split_loss,
            evaluated=metrics.step if was_evaluated else self.evaluated,
            best=best,
            since_best=since_best,
            history=self.history.stepped(metrics),
            epoch=self.epoch.stepped(metrics),
            pending=None,
        )


def write_state(folder: Path, tensors: Mapping[str, Tensor], progress: Progress) -> None:
    """Write the state of a run into the folder `training` of a checkpoint.

    Args:
        folder: Where to.
        tensors: On the CPU, by name; no two share memory.
        progress: How far the run has come.

    Raises:
        OSError, safetensors.SafetensorError: It cannot be written.
    """
    metadata = {"format": FORMAT, "progress": msgspec.json.encode(progress).decode()}
    safetensors.torch.save_file(dict(tensors), folder / Path(STATE).name, metadata=metadata)


def read_state(checkpoint: Path) -> tuple[dict[str, Tensor], Progress]:
    """The tensors and the progress in a checkpoint of a run.

    Raises:
        CheckpointError: It has none, or they cannot be read.
    """
    path = checkpoint / STATE
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')}")
            progress = msgspec.json.decode(metadata.get("progress", ""), type=Progress)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        if safe_writing.OPEN_FILES_STAY:  # these are mapped, and the checkpoint could not be removed
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})", "take the checkpoint before it") from None
    return tensors, progress
