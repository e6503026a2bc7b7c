"""Whether reading a long run holds up the training screen: the real app in this process, without a terminal, on a run
of 200,000 lines of metrics that is read while it is shown, and to which lines are added meanwhile.

    python benchmarks/reading_runs.py [--lines 200000] [--rate 200] [--seconds 10]

Measured are: from the key to the first picture of the run, and until all of it is read; how late a timer of 10 ms comes
on the app's loop (its lag) while nothing is shown, while the past is read, and while `--rate` lines a second are added;
and what a look at the run and a drawing of its chart take.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SIZE = (140, 40)
TICK = 0.01


def write_run(lines: int) -> tuple[Path, Callable[[int], None]]:
    """The metrics of a run under way, driven by this process, and what adds the line of a step to them."""
    import msgspec

    from engine.config import TrainConfig
    from engine.training import run_lock
    from engine.training.run import Metrics, RunConfig, RunDirectory, Status, TextSources

    generator = random.Random(0)
    training = TrainConfig(steps=2 * lines, eval_interval=1000)
    sources = TextSources(train=("fables",))
    run = RunDirectory.create(RunConfig(name="long", created=time.time(), training=training, text=sources))
    run_lock.take(run.path)

    def metrics(step: int) -> Metrics:
        loss = 1.4 + 3 * math.exp(-step / 5000)
        return Metrics(
            step=step, time=step * 0.05, tokens=step * 2048, train_loss=loss + generator.gauss(0, 0.05), lr=1e-3,
            grad_norm=0.3 + abs(generator.gauss(0, 0.05)), tokens_per_second=40_000 + generator.gauss(0, 500),
            val_loss=loss + 0.1 if step % 1000 == 0 else None,
        )  # fmt: skip

    with (run.path / "metrics.jsonl").open("wb") as file:
        file.writelines(msgspec.json.encode(metrics(step)) + b"\n" for step in range(1, lines + 1))
    run.write_status(Status(state="running", step=lines, steps=2 * lines, parameters=3_000_000, vocab_size=65))
    return run.path / "metrics.jsonl", lambda step: run.append_metrics(metrics(step))


class Lag:
    """How late the loop is: each tick asks to be woken after 10 ms and notes how much later it was."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self.times.append(time.perf_counter() - before - TICK)

    def say(self, name: str) -> None:
        """Print what was found since the last time."""
        times, self.times = sorted(self.times), []
        late = times[min(len(times) - 1, int(len(times) * 0.95))]
        print(f"{name:<34} median {statistics.median(times) * 1e3:5.1f} ms   p95 {late * 1e3:5.1f} ms   "
              f"most {times[-1] * 1e3:5.1f} ms   ({len(times)} ticks)")  # fmt: skip


async def until(condition: Callable[[], bool]) -> None:
    """Look every two milliseconds, as nobody tells a benchmark."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


async def measure(lines: int, rate: float, seconds: float) -> None:
    """Print all figures."""
    from minigpt_tui.app import MiniGPTApp
    from minigpt_tui.engine_client import EngineClient

    began = time.perf_counter()
    path, add = write_run(lines)
    print(f"{lines:,} lines, {path.stat().st_size / 1e6:.0f} MB, written in {time.perf_counter() - began:.1f} s")
    app = MiniGPTApp(client=EngineClient(command=[sys.executable, "-c", "import sys; sys.stdin.read()"]))
    async with app.run_test(size=SIZE) as pilot:
        await asyncio.sleep(1.0)
        lag = Lag()
        await asyncio.sleep(3.0)
        lag.say("lag before the screen is wanted")
        began = time.perf_counter()
        await app.action_show("train")
        await until(lambda: app.train is not None and app.train._picture is not None)
        print(f"from the key to the first picture  {(time.perf_counter() - began) * 1e3:.0f} ms")
        lag.say("lag while the screen is made")
        await until(lambda: len(app.train._feed._readers[path.parent].curves) >= lines)
        print(f"until all of it is read            {time.perf_counter() - began:.1f} s")
        lag.say("lag while the past is read")
        ended = threading.Event()

        def write() -> None:
            step = lines
            while not ended.wait(1 / rate):
                step += 1
                add(step)

        writer = threading.Thread(target=write)
        writer.start()
        await asyncio.sleep(seconds)
        lag.say(f"lag while {rate:.0f} lines a second come")
        for key in ("l", "z", "t", "z", "z"):
            await pilot.press(key)
            await asyncio.sleep(0.5)
        lag.say("lag while zoomed and scaled")
        ended.set()
        writer.join()
        train = app.train
        drawing = [_timed(train._chart._draw) for _ in range(20)]
        looks = []
        for _ in range(20):
            train._feed._stale, train._feed._drawn_at = True, 0.0
            looks.append(_timed(lambda: train._feed.look(train._wish())))
        print(f"a look at the run, in its thread   median {statistics.median(looks) * 1e3:5.1f} ms")
        print(f"a drawing of the chart             median {statistics.median(drawing) * 1e3:5.1f} ms")


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {SIZE[0]}x{SIZE[1]}")
    with tempfile.TemporaryDirectory() as home:
        os.environ["MINIGPT_HOME"] = home
        asyncio.run(measure(options.lines, options.rate, options.seconds))


if __name__ == "__main__":
    main()
