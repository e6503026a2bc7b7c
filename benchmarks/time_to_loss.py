"""How long until a model is good: nanoGPT's CPU configuration as published, and then presets of this engine, one after
the other on the same machine, all by this engine; the loss of the whole validation split against the time trained.

    python benchmarks/time_to_loss.py TEXT [--presets nano,small] [--seed 1337] [--threads 0]

TEXT is Tiny Shakespeare for the figures in the README. Validation is its last tenth, in windows that do not overlap, in
nats per character. The time is that of the steps alone: batch, forward and backward pass, update. Evaluations are
made between steps, each 5% later than the one before, and count for nobody, and neither do samples and checkpoints.
A preset has passed the configuration at the first evaluation that is at or below its last one.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from engine.config import TrainConfig
from engine.evaluation import evaluate
from engine.presets import find_preset
from engine.training.orders import Orders
from engine.training.run import RunConfig, RunDirectory, TextSources
from engine.training.setup import prepare
from engine.training.status_writer import StatusWriter
from engine.training.trainer import Trainer

PEER = "nanoGPT on CPU"
PEER_CONFIG = TrainConfig(
    family="gpt2", n_layer=4, n_head=4, n_embd=128, block_size=64, dropout=0.0, tie_head=True, batch_size=12,
    steps=2000, optimizer="adamw", learning_rate=1e-3, min_learning_rate=0.1, schedule="cosine", warmup_steps=100,
    weight_decay=0.1, beta2=0.99, grad_clip=1.0,
)  # fmt: skip
"""Its readme's flags over config/train_shakespeare_char.py. Embeddings do not decay here, and windows are shuffled."""

FIRST, GROWTH = 2.0, 1.05
"""Seconds until the first evaluation, and from one to the next."""

ROWS = (2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600)
"""Seconds in the table."""

MINUTES = 3
"""How long a laptop's user may want to wait."""


class Point(NamedTuple):
    """The loss of a model over the whole validation split after so many seconds of training."""

    seconds: float
    step: int
    loss: float


def train(name: str, config: TrainConfig, text: str) -> list[Point]:
    """Train from the start to the end, and print what is measured on the way."""
    sources = TextSources(train=(text,))
    run = RunDirectory.create(
        RunConfig(name=name.replace(" ", "-"), created=time.time(), training=config, text=sources, device="cpu")
    )
    prepared = prepare(run, lambda *_: None)
    trainer = Trainer(run, prepared, Orders(run.path), StatusWriter(run, run.read_status()))
    print(
        f"\n{name}: {config.family}, {config.n_layer} x {config.n_embd}, block {config.block_size}, batch"
        f" {config.batch_size * config.accumulation}, {trainer.parameters:,} parameters, {trainer.steps:,} steps,"
        f" {prepared.precision}",
        flush=True,
    )
    points: list[Point] = []
    seconds, due = 0.0, FIRST
    for step in range(trainer.steps):
        began = time.perf_counter()
        trainer.stepper.take(step)
        seconds += time.perf_counter() - began
        if seconds >= due or step + 1 == trainer.steps:
            while due <= seconds:
                due *= GROWTH
            with trainer.stepper.whole_model() as gpt:
                loss = evaluate(gpt, prepared.text.tokenizer, prepared.text.val).loss
            points.append(Point(seconds, step + 1, loss))
            print(f"  {seconds:8.1f} s   step {step + 1:6,}   {loss:.4f}", flush=True)
    run.close()
    return points


def at(points: list[Point], seconds: float) -> str:
    """The loss that was measured last by then."""
    before = [point.loss for point in points if point.seconds <= seconds]
    return f"{before[-1]:.4f}" if before else ""


def print_table(runs: dict[str, list[Point]]) -> None:
    """Print the loss of each run against time; one that has ended stays at its last."""
    longest = max(points[-1].seconds for points in runs.values())
    print(f"\n{'seconds':>8}" + "".join(f"{name:>18}" for name in runs))
    for row in ROWS:
        if row <= longest:
            print(f"{row:8,}" + "".join(f"{at(points, row):>18}" for points in runs.values()))
    print(f"{'end':>8}" + "".join(f"{points[-1].loss:>18.4f}" for points in runs.values()))
    print(f"{'seconds':>8}" + "".join(f"{points[-1].seconds:>18,.1f}" for points in runs.values()))


def print_verdict(name: str, points: list[Point], peer: list[Point]) -> None:
    """Print when a preset passed the peer, its loss after three minutes and its best."""
    end = peer[-1]
    passed = next((point for point in points if point.loss <= end.loss), None)
    if passed is None:
        print(f"{name}: never came to {end.loss:.4f}")
    else:
        print(
            f"{name}: passed {end.loss:.4f} after {passed.seconds:.1f} s (step {passed.step:,}, {passed.loss:.4f}),"
            f" {passed.seconds / end.seconds:.3f} of the {end.seconds:.1f} s that {PEER} took"
        )
    best = min(points, key=lambda point: point.loss)
    after = at(points, 60 * MINUTES) or "nothing measured"
    print(
        f"{name}: {after} after {MINUTES} minutes; {points[-1].loss:.4f} at the end;"
        f" at its best {best.loss:.4f}, step {best.step:,}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", metavar="TEXT")
    parser.add_argument("--presets", default="nano")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 for its own choice")
    options = parser.parse_args()
    configs = {PEER: PEER_CONFIG} | {name: find_preset(name) for name in options.presets.split(",")}
    text = str(Path(options.text).absolute())
    if options.threads:
        torch.set_num_threads(options.threads)
    root = Path(__file__).resolve().parents[1]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=root, check=False
    ).stdout.strip()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__},"
        f" seed {options.seed}{f', commit {commit}' if commit else ''}"
    )
    with tempfile.TemporaryDirectory() as home:
        os.environ["MINIGPT_HOME"] = home
        runs = {name: train(name, config.replace(seed=options.seed), text) for name, config in configs.items()}
    print_table(runs)
    print()
    for name in options.presets.split(","):
        print_verdict(name, runs[name], runs[PEER])


if __name__ == "__main__":
    main()
