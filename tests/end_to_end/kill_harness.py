"""Kills training runs with SIGKILL at random moments, lets them go on, and compares what they end in with a run that
was left alone: the weights to the bit, and every line of metrics. The moments are drawn from a seed: while the process
starts, while it trains, and while it writes a checkpoint; half a line of metrics is left behind now and then.

    python tests/end_to_end/kill_harness.py 50 [SEED]
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from engine import catalog
from engine.config import TrainConfig
from engine.training import launch, runs
from engine.training.run import Metrics, RunConfig, RunDirectory, TextSources
from engine.training.run_reader import RunReader

TEXT = "".join(f"{number} foxes went to the river, and {number * 7} came home.\n\n" for number in range(60))

FAMILIES = {
    "nanochat": TrainConfig(family="nanochat", optimizer="muon", tokenizer="char"),
    "gpt2": TrainConfig(family="gpt2", optimizer="adamw", tokenizer="byte", tie_head=True, bias=True, average=0.3),
    "qwen3": TrainConfig(family="qwen3", optimizer="muon", tokenizer="char", n_kv_head=1),
}
TINY = {
    "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 2, "accumulation": 2, "dropout": 0.2,
    "steps": 90, "eval_interval": 6, "sample_interval": 30, "sample_tokens": 10, "warmup_steps": 2,
    "learning_rate": 0.02, "precision": "fp32",
}  # fmt: skip

PATIENCE_SECONDS = 60.0
"""A run that does not get on within this time has failed."""


class Failed(Exception):
    """Something was lost."""


def main(arguments: list[str]) -> int:
    """Kill as many times as the first argument says, and tell what was found."""
    kills = int(arguments[0]) if arguments else 50
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(10**6)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as home:
        os.environ["MINIGPT_HOME"] = home
        print(f"{kills} kills, seed {seed}", flush=True)
        began = time.monotonic()
        where = kill_runs(kills, seed, print)
        counts = ", ".join(f"{count} {moment}" for moment, count in sorted(where.items()))
        print(f"nothing was lost: {counts}, in {time.monotonic() - began:.0f} s")
    return 0


def kill_runs(kills: int, seed: int, say=lambda _: None) -> Counter[str]:
    """Kill runs so many times, under MINIGPT_HOME.

    Returns:
        How many kills came at which moment.

    Raises:
        Failed: Something was lost.
    """
    chance, where, number = random.Random(seed), Counter(), 0
    references: dict[str, RunDirectory] = {}
    while where.total() < kills:
        family = list(FAMILIES)[number % len(FAMILIES)]
        if family not in references:
            references[family] = start(f"{family}-alone", family)
        run = start(f"{family}-{number}", family)
        told = kill_and_resume(run, chance, kills - where.total())
        where += told
        say(f"{run.name}: {told.total()} kills ({', '.join(told)})")
        wait_for_end(references[family])
        compare(run, references[family])
        number += 1
    return where


def start(name: str, family: str) -> RunDirectory:
    """Start a run."""
    text = Path(os.environ["MINIGPT_HOME"]) / "text.txt"
    text.write_text(TEXT)
    training = FAMILIES[family].replace(**TINY)
    config = RunConfig(
        name=name, created=time.time(), training=training, text=TextSources(train=(str(text),)), device="cpu"
    )
    return launch.start_run(config)


def kill_and_resume(run: RunDirectory, chance: random.Random, most: int) -> Counter[str]:
    """Kill a run at most so many times, until it finishes."""
    where: Counter[str] = Counter()
    while where.total() < most:
        moment = chance.choice(("starting", "training", "training", "saving", "saving"))
        pid = pid_of(run)
        if not wait_for(run, moment, chance):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while runs.read_run(run.path).is_under_way:
            time.sleep(0.02)
        if runs.read_run(run.path).state == "finished":
            break
        where[moment] += 1
        if chance.random() < 0.3:
            leave_half_a_line(run, chance)
        look(run)
        launch.resume_run(run.name)
    wait_for_end(run)
    return where


def pid_of(run: RunDirectory) -> int:
    """The process that drives a run, once it has said so."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (pid := run.read_status().pid) == os.getpid():  # written by the launcher
        if time.monotonic() > until or not runs.read_run(run.path).is_under_way:
            raise Failed(f"{run.name} does not start: {runs.read_run(run.path).reason}")
        time.sleep(0.02)
    return pid


def wait_for(run: RunDirectory, moment: str, chance: random.Random) -> bool:
    """Wait for a random moment of a kind; false when the run has ended before it."""
    if moment == "starting":
        time.sleep(chance.uniform(0.0, 1.0))
        return runs.read_run(run.path).is_under_way
    until = time.monotonic() + PATIENCE_SECONDS
    while run.read_status().state == "starting":
        if time.monotonic() > until or not runs.read_run(run.path).is_under_way:
            raise Failed(f"{run.name} does not begin: {runs.read_run(run.path).reason}")
        time.sleep(0.02)
    if moment == "training":
        time.sleep(chance.uniform(0.0, 0.7))
    else:
        while not any((run.path / "checkpoints").glob(".*")):
            if run.read_status().state != "running":
                return False
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.03))
    return runs.read_run(run.path).is_under_way


def leave_half_a_line(run: RunDirectory, chance: random.Random) -> None:
    """What a machine that goes down in the middle of a write leaves."""
    line = msgspec.json.encode(
        Metrics(step=99, time=1.5, tokens=9, train_loss=2.5, lr=0.1, grad_norm=1.0, tokens_per_second=1.0)
    )
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (run.path / name).open("ab") as file:
            file.write(line[: chance.randrange(1, len(line))])


def look(run: RunDirectory) -> None:
    """Whether what a kill left can be read as it is: whole checkpoints, and each step once."""
    for path in catalog.run_checkpoints(run.path):
        if problems := catalog.verify_checkpoint(path):
            raise Failed(f"{path} is damaged: {'; '.join(problems)}")
    steps = [line.step for line in run.read_metrics()]
    reader = RunReader(run.path)
    reader.read_all()
    if steps != list(range(1, len(steps) + 1)) or steps != list(reader.curves.steps):
        raise Failed(f"the steps of {run.name} are {steps}, or {list(reader.curves.steps)}")


def wait_for_end(run: RunDirectory) -> None:
    """Wait until a run has finished."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (info := runs.read_run(run.path)).is_under_way:
        if time.monotonic() > until:
            raise Failed(f"{run.name} does not end")
        time.sleep(0.05)
    if info.state != "finished":
        raise Failed(f"{run.name} has {info.state}: {info.reason}\n{(run.path / 'log.txt').read_text()}")


def compare(run: RunDirectory, reference: RunDirectory) -> None:
    """Whether a run ended in what one ended in that was left alone."""
    one, other = (catalog.read_record(it.checkpoint(TINY["steps"])) for it in (run, reference))
    if one.files[catalog.WEIGHTS] != other.files[catalog.WEIGHTS]:
        raise Failed(f"the weights of {run.name} are not those of {reference.name}")
    if (one.losses, one.history) != (other.losses, other.history):
        raise Failed(f"the losses of {run.name} are not those of {reference.name}")
    lines, expected = ([course(line) for line in it.read_metrics()] for it in (run, reference))
    if lines != expected:
        raise Failed(f"the metrics of {run.name} are not those of {reference.name}")
    if run.read_samples() != reference.read_samples():
        raise Failed(f"the samples of {run.name} are not those of {reference.name}")
    kept, wanted = ([path.name for path in catalog.run_checkpoints(it.path)] for it in (run, reference))
    if kept != wanted:
        raise Failed(f"{run.name} keeps {kept} and {reference.name} {wanted}")
    left = [*run.path.glob(".*"), *(run.path / "checkpoints").rglob(".*")]
    if left:
        raise Failed(f"{run.name} has left {left}")
    look(run)


def course(line: Metrics) -> Metrics:
    """A line without the times in it."""
    return msgspec.structs.replace(line, time=0.0, tokens_per_second=0.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
