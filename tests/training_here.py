"""Training runs in the test's own process, on a tiny text, with something that happens at a step."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_models import TINY_TEXT

from engine.config import TrainConfig
from engine.training.orders import Orders
from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, Status, TextSources
from engine.training.setup import prepare
from engine.training.status_writer import StatusWriter
from engine.training.trainer import Trainer

TINY = TrainConfig(
    n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, steps=12, eval_interval=4, sample_tokens=20,
    precision="fp32", warmup_steps=2, learning_rate=0.02,
)  # fmt: skip


class Killed(BaseException):
    """Nothing catches it: as near to kill -9 as it comes within a process."""


def kill() -> None:
    raise Killed


@contextlib.contextmanager
def dying(trainer: Trainer) -> Iterator[None]:
    """Expect that a trainer is killed."""
    with pytest.raises(Killed):
        yield
    bury(trainer)


def bury(trainer: Trainer) -> None:
    """Let the lines that a killed trainer had not handed to the system die with it.

    Python would write them when it clears the trainer away, which may be long after another has taken the run up.
    """
    if trainer.run._metrics is not None:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), trainer.run._metrics.fileno())
        trainer.run.close()


class Watcher:
    """A tracker that keeps what it is told; `at` has what is done when the line of a step is written."""

    def __init__(self) -> None:
        self.lines: list[Metrics] = []
        self.samples: list[Sample] = []
        self.at: dict[int, Callable[[], object]] = {}
        self.told: list[str] = []

    def begin(self, config: RunConfig, status: Status) -> None:
        self.told.append(f"begin {status.step}")

    def metrics(self, metrics: Metrics) -> None:
        self.lines.append(metrics)
        self.at.get(metrics.step, lambda: None)()

    def sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    def end(self, run: RunDirectory, status: Status) -> None:
        self.told.append(f"end {status.state} {status.step}")


def tiny_text(folder: Path, text: str = TINY_TEXT, name: str = "text.txt") -> str:
    """A file with a text, by its path."""
    (folder / name).write_text(text)
    return str(folder / name)


def new_run(name: str, config: TrainConfig, train: str, **more) -> RunDirectory:
    """The directory of a run on the CPU."""
    sources = {key: more.pop(key) for key in ("val", "test", "column") if key in more}
    text = TextSources(train=(train,), **sources)
    return RunDirectory.create(
        RunConfig(name=name, created=time.time(), training=config, text=text, device="cpu", **more)
    )


def take_up(run: RunDirectory) -> Trainer:
    """A trainer of a run where it begins or goes on, as a process of its own would make one; `watcher` follows it."""
    run = RunDirectory(run.path)
    trackers = [Watcher()]
    status = StatusWriter(run, run.read_status())
    trainer = Trainer(run, prepare(run, lambda *_: None), Orders(run.path), status, trackers=trackers)
    trainer.watcher = trackers[0]
    return trainer


def after_saving(trainer: Trainer, act: Callable[[int, Path], object]) -> None:
    """Call `act` with the step and the path of each checkpoint, once it is written."""
    save = trainer.keeper.save

    def saving(gpt, tokenizer, record, *rest):
        path = save(gpt, tokenizer, record, *rest)
        act(record.step, path)
        return path

    trainer.keeper.save = saving
