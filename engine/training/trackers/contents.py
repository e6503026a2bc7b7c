"""What trackers are told of a run, by the names that they show: numbers of a step, settings, facts, and the lines of
the run's own files that a tracker missed. Knows nothing of any tracker.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, Status
from engine.training.trackers.background import Line

NAMES = {"train_loss": "loss/train", "val_loss": "loss/val", "train_split_loss": "loss/train_split"}
"""Fields of `Metrics` that trackers show under another name, so that the losses stand together."""

AXES = ("step", "time", "tokens")
"""Fields of `Metrics` that the others are drawn over."""

EVALUATED = ("loss/val", "loss/train_split")
"""Names of what only some steps have. A run that was stopped before an evaluation was over makes it on resuming."""

FACTS = ("parameters", "vocab_size", "tokens_per_step", "train_tokens", "val_tokens", "device", "precision", "threads")
"""Fields of `Status` that do not change while a run lasts."""

TEXT_LENGTH = 500
"""A longer setting or fact, such as a list of a thousand files, is cut: it would not be read, and MLflow refuses it."""


def scalars(metrics: Metrics) -> dict[str, float]:
    """The numbers of a step by name."""
    return {
        NAMES.get(name, name): value
        for name, value in msgspec.structs.asdict(metrics).items()
        if name not in AXES and value is not None
    }


def settings(config: RunConfig) -> dict[str, str]:
    """All settings of a run as text."""
    return {name: _text(value) for name, value in msgspec.structs.asdict(config.training).items()}


def facts(config: RunConfig, status: Status) -> dict[str, str]:
    """What is known of a run beside its settings: its text, its size, where it runs, and what was set on resuming."""
    known: dict[str, Any] = {
        "text": config.text.train,
        "text for validation": config.text.val,
        "text for the test": config.text.test,
        "base": config.base,
        "processes": config.nproc,
    }
    known |= {name: getattr(status, name) for name in FACTS}
    known |= {f"set at step {step}": changes for step, changes in config.changes}
    return {name: _text(value) for name, value in known.items() if value}


def wall_time(config: RunConfig, metrics: Metrics) -> float:
    """When a step was taken, in seconds since 1970, as if the run had never been paused, killed or resumed.

    So a line that is passed on twice has the same time, and axes of time show how long the training took.
    """
    return config.created + metrics.time


def missed(run: RunDirectory, first: int, last: int) -> list[Line]:
    """The lines of a run's files from step `first` to step `last`, in the order of their steps."""
    lines: list[Line] = [line for line in run.read_metrics() if first <= line.step <= last]
    lines += [line for line in run.read_samples() if first <= line.step <= last]
    return sorted(lines, key=lambda line: line.step)  # a step's sample stays behind its metrics


def sample_text(sample: Sample) -> str:
    """A sample as one plain text, its prompt in front."""
    return sample.prompt + sample.text


def _text(value: Any) -> str:
    text = _words(value)
    return text if len(text) <= TEXT_LENGTH else f"{text[: TEXT_LENGTH - 1]}…"


def _words(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={_words(item)}" for name, item in value.items())
    return str(value)
