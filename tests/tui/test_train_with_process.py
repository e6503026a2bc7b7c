"""The training screen with the real process that trains: started, paused, resumed, stopped, played, and found again by
another app when the first was killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from run_maker import open_training, until
from test_play_screen import WIDE, shown
from test_train_screen import see
from tiny_models import TINY_TEXT

from engine.config import TrainConfig
from engine.training import control, runs
from engine.training.run import RunConfig, TextSources

pytest_plugins = ("play_fixtures", "run_fixtures")

SMALL = TrainConfig(
    n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=2, steps=100_000, eval_interval=50, sample_tokens=10,
    warmup_steps=1,
)  # fmt: skip


@pytest.fixture
def config(own_home: Path) -> RunConfig:
    """A run of its own that would go on for hours; whatever a test leaves of it is ended."""
    own_home.mkdir(parents=True, exist_ok=True)
    (own_home / "text.txt").write_text(TINY_TEXT)
    sources = TextSources(train=(str(own_home / "text.txt"),))
    yield RunConfig(name="demo", created=time.time(), training=SMALL, text=sources, device="cpu")
    for run in runs.list_runs():
        if run.is_under_way:
            psutil.Process(run.status.pid).kill()


def state() -> str:
    return runs.read_run(runs.find_run("demo")).state


async def test_a_run_is_started_watched_paused_resumed_stopped_and_played(make_app, make_run, config, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot)
        pilot.app.train._start(config)  # what the form ends with
        assert "demo is starting" in shown(pilot.app, "#status")
        await until(lambda: "● running" in shown(pilot.app, "#run"), 60)
        await until(lambda: "validation" in shown(pilot.app, "#chart") and "tok/s" in shown(pilot.app, "#figures"), 60)
        await pilot.press("space")
        await see(pilot.app, "#run", "‖ paused")
        await pilot.press("space")
        await see(pilot.app, "#run", "● running")
        await pilot.press("x")
        await see(pilot.app, "#run", "■ stopped")
        step = runs.read_run(runs.find_run("demo")).status.step
        await pilot.press("space")  # goes on from the checkpoint, in a process of its own
        await until(lambda: "● running" in shown(pilot.app, "#run"), 60)
        await until(lambda: runs.read_run(runs.find_run("demo")).status.step > step)
        await pilot.press("y")
        await until(lambda: "demo:last" in shown(pilot.app, "CommandList"))
        await pilot.press(*"last", "enter")
        await until(lambda: client.loads[-1] == "demo:last")
        assert pilot.app.screen is pilot.app.play


@pytest.mark.posix
async def test_a_run_survives_the_kill_of_its_app_and_is_found_by_the_next(make_app, make_run, config):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    app = await asyncio.create_subprocess_exec(sys.executable, __file__, env=environment)
    try:
        await until(lambda: any(run.state == "running" and run.status.step for run in runs.list_runs()), 60)
    finally:
        app.kill()
        await app.wait()
    step = runs.read_run(runs.find_run("demo")).status.step
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#run", "● running", "pause")
        await until(lambda: pilot.app.train._picture.figures.step > step)
        control.request(runs.find_run("demo"), "stop")  # as from a shell
        await see(pilot.app, "#run", "■ stopped")


def _app_that_starts_a_run() -> None:
    """An app in a terminal of nobody's, which starts the run and goes on until it is killed."""
    from scripted_client import ScriptedClient

    from minigpt_tui.app import MiniGPTApp

    async def run() -> None:
        async with MiniGPTApp(client=ScriptedClient()).run_test(size=WIDE) as pilot:
            await open_training(pilot)
            text = Path(os.environ["MINIGPT_HOME"]) / "text.txt"
            sources = TextSources(train=(str(text),))
            config = RunConfig(name="demo", created=time.time(), training=SMALL, text=sources, device="cpu")
            pilot.app.train._start(config)
            await asyncio.sleep(600)

    asyncio.run(run())


if __name__ == "__main__":
    _app_that_starts_a_run()
