"""Runs for the tests of the training screen: directories as the trainer writes them, in any state, without it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import msgspec

from engine.catalog import Record
from engine.config import TrainConfig
from engine.training import run_lock
from engine.training.run import UNDER_WAY, Metrics, RunConfig, RunDirectory, Sample, Status, TextSources

SAMPLE = "The [red]fox\x1b[31m said:\nwho goes there?"


class RunMaker:
    """Makes runs; those under way are driven by this process until `let_go`."""

    def __init__(self) -> None:
        self._locks: dict[str, int] = {}

    def __call__(
        self,
        name: str = "demo",
        state: str = "finished",
        *,
        step: int = 40,
        steps: int = 40,
        every: int = 10,
        ago: float = 0.0,
        loss: Callable[[int], float] = lambda step: 1.0 + 3.0 / step,
        **status: object,
    ) -> RunDirectory:
        """A run that has taken `step` steps, with a validation, a sample and a checkpoint `every` so many."""
        training = TrainConfig(steps=steps, eval_interval=every)
        config = RunConfig(name=name, created=time.time() - ago, training=training, text=TextSources(train=("fables",)))
        run = RunDirectory.create(config)
        run.log("reading the text")
        for place in range(1, step + 1):
            self.take(run, place, loss(place), evaluate=place % every == 0)
        run.close()
        best = min(((loss(place) + 0.1, place) for place in range(every, step + 1, every)), default=(None, None))
        facts = {
            "step": step, "steps": steps, "seconds": step * 0.5, "tokens": step * 64, "train_loss": loss(max(1, step)),
            "val_loss": best[0], "best_val_loss": best[0], "best_step": best[1], "parameters": 3_181_569,
            "vocab_size": 65, "tokens_per_step": 64,
        } | status  # fmt: skip
        self.write(run, Status(state=state, **facts), ago)
        if state in UNDER_WAY:
            self._locks[name] = run_lock.take(run.path)
        return run

    def take(self, run: RunDirectory, step: int, loss: float, *, evaluate: bool = False) -> None:
        """Have a run take a step."""
        run.append_metrics(
            Metrics(
                step=step, time=step * 0.5, tokens=step * 64, train_loss=loss, lr=1e-3, grad_norm=0.5,
                tokens_per_second=128.0, val_loss=loss + 0.1 if evaluate else None,
            )
        )  # fmt: skip
        if evaluate:
            run.append_sample(Sample(step=step, prompt="", text=f"{SAMPLE} {step}", seed=1))
            checkpoint = run.checkpoint(step)
            checkpoint.mkdir(parents=True)
            (checkpoint / "config.json").write_text("{}")
            (checkpoint / "model.safetensors").write_bytes(b"0" * 1000)
            record = Record(step=step, losses={"val": loss + 0.1})
            (checkpoint / "minigpt.json").write_bytes(msgspec.json.encode(record))

    def write(self, run: RunDirectory, status: Status, ago: float = 0.0) -> None:
        """Replace a run's status, as of so many seconds ago."""
        run.write_status(status)
        then = msgspec.structs.replace(run.read_status(), heartbeat=time.time() - ago)
        (run.path / "status.json").write_bytes(msgspec.json.encode(then))

    def end(self, run: RunDirectory, state: str, **status: object) -> None:
        """Let a run that is under way end, or die without a word where the state says that it still is."""
        self.write(run, msgspec.structs.replace(run.read_status(), state=state, **status))
        os.close(self._locks.pop(run.name))

    def let_go(self) -> None:
        """Drive none of them any more."""
        for lock in self._locks.values():
            os.close(lock)


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for something that comes from a thread or another process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        await asyncio.sleep(0.04)  # most look at a screen, which is drawn for it


async def open_training(pilot, *, chosen: str = "") -> None:
    """Go to the training screen and wait until it shows a run, or that there is none."""
    app = pilot.app
    await pilot.press("f4")
    await until(lambda: app.train is not None and app.train.is_mounted)
    if chosen:
        await until(lambda: chosen in [run.name for run in app.train._runs.runs])
        while app.train._runs.selected != chosen:
            await pilot.press("down" if app.train._runs.index() < index_of(app, chosen) else "up")
        await until(lambda: app.train._picture is not None and app.train._picture.info.name == chosen)
    await pilot.pause()


def index_of(app, name: str) -> int:
    """The row of a run in the list."""
    return [run.name for run in app.train._runs.runs].index(name)
