"""Runs written by a test itself, without a process that trains: directories as the trainer leaves them."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

import msgspec

from engine.config import TrainConfig
from engine.training import run_lock
from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, Status, TextSources

KNOWN = {"steps": 50, "parameters": 3_200_000, "vocab_size": 66, "tokens_per_step": 2048, "train_tokens": 900,
         "val_tokens": 100, "device": "cpu", "precision": "bf16", "threads": 2}  # fmt: skip


def write_run(name="demo", state="finished", step=0, **status) -> RunDirectory:
    """A run of 50 steps that has taken some of them, with an evaluation and a sample at each tenth."""
    run = RunDirectory.create(
        RunConfig(
            name=name,
            created=time.time(),
            training=TrainConfig(steps=50, dropout=0.25),
            text=TextSources(train=("fables",)),
        )
    )
    take_steps(run, 1, step)
    set_status(run, state, step, **status)
    return run


def take_steps(run: RunDirectory, first: int, last: int) -> None:
    """Add the lines of these steps: two seconds each, losses that fall."""
    for step in range(first, last + 1):
        run.append_metrics(
            Metrics(
                step=step,
                time=step * 2.0,
                tokens=step * 2048,
                train_loss=4.0 - step * 0.05,
                lr=1e-3,
                grad_norm=0.3,
                tokens_per_second=1234.0,
                val_loss=4.0 - step * 0.04 if step % 10 == 0 else None,
            )
        )
        if step % 10 == 0:
            run.append_sample(Sample(step=step, prompt="ab", text=f"sample of step {step}", seed=1))
    run.close()


def set_status(run: RunDirectory, state: str, step: int, **status) -> None:
    """Replace a run's status."""
    best = {"best_val_loss": 4.0 - step // 10 * 0.4, "best_step": step // 10 * 10} if step >= 10 else {}
    loss = {"train_loss": 4.0 - step * 0.05} if step else {}
    known = {**KNOWN, "seconds": step * 2.0, **loss, **best, **status}
    run.write_status(Status(state=state, step=step, **known))


@contextmanager
def driven(run: RunDirectory):
    """While it is entered, a run is under way."""
    lock = run_lock.take(run.path)
    assert lock is not None
    try:
        yield run
    finally:
        os.close(lock)


def control_of(run: RunDirectory) -> dict:
    """What was asked of a run."""
    path = run.path / "control.json"
    return msgspec.json.decode(path.read_bytes()) if path.exists() else {}
