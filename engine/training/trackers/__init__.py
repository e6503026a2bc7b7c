"""Who is told of a training run beside its own files: TensorBoard and MLflow, each an extra, each switched on by the
setting `trackers`. The trainer tells them what it writes into the run's directory, and never waits for them.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.config import TrainConfig
from engine.training.run import RunDirectory
from engine.training.trackers.background import Background, Recorder, Tracker
from engine.training.trackers.mlflow import MLflowRecorder
from engine.training.trackers.tensorboard import TensorBoardRecorder

__all__ = ["Tracker", "open_trackers"]

RECORDERS: dict[str, Callable[[RunDirectory], Recorder]] = {
    "tensorboard": TensorBoardRecorder,
    "mlflow": MLflowRecorder,
}
"""By the names that the setting `trackers` knows."""


def open_trackers(config: TrainConfig, run: RunDirectory) -> list[Tracker]:
    """The trackers that a run's settings ask for.

    Args:
        config: The settings, for `trackers`.
        run: The run's directory, from which a tracker fills in what it missed, and where it says what fails.

    Raises:
        InvalidSettingError: The package of one is not installed.
    """
    return [Background(name, RECORDERS[name](run), run) for name in dict.fromkeys(config.trackers)]
