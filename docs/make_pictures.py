"""Draws the pictures of the README from the real app with the bundled model, so that they never go stale.

make pictures        # writes docs/*.svg
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minigpt_tui.app import MiniGPTApp

HERE = Path(__file__).parent
SIZE = (120, 34)


def train(name: str, **settings: object) -> None:
    """Have a run on the bundled fables, from its start to its end."""
    from engine.presets import PRESETS
    from engine.training.launch import start_run
    from engine.training.run import RunConfig, TextSources
    from engine.training.runs import read_run

    training = PRESETS["nano"].replace(n_layer=2, n_embd=96, n_head=3, steps=400, eval_interval=40, **settings)
    run = start_run(
        RunConfig(name=name, created=time.time(), training=training, text=TextSources(train=("fables",)), device="cpu")
    )
    while read_run(run.path).is_under_way:
        time.sleep(0.2)


async def draw_training() -> None:
    """The training screen: a run that has ended, and another one with a change laid over it."""
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: app.play.model is not None)
        await pilot.press("f4")
        await until(lambda: app.train is not None and app.train.is_mounted)
        await asyncio.sleep(2.0)
        await pilot.press("down", "v", "up")
        await asyncio.sleep(2.0)
        keep(app, "train")


async def draw_playing() -> None:
    """The playground while it writes; then the cursor in its text, and what the heads looked at."""
    app = make_app()
    app.session.params = app.session.params.replace(seed=3, max_new_tokens=420)
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: app.play.model is not None)
        await pilot.press(*"ROMEO:")
        app.session.full_speed, app.session.pace = False, 100.0
        await pilot.press("enter")
        await until(lambda: app.play.writing.new_tokens > 150)
        await pilot.press("T", "T", "T", "T")
        await until(lambda: app.play.writing.new_tokens > 330)
        await asyncio.sleep(0.3)
        keep(app, "play")
        await pilot.press("escape")
        await asyncio.sleep(0.5)
        await pilot.press("i", *["up"] * 5)
        await asyncio.sleep(1.5)
        for _ in range(60):  # to where the model was in doubt
            if app.play.writing.trace.token(app.play.cursor_position - len(app.play.writing.prompt_tokens)).rank > 2:
                break
            await pilot.press("left")
        await asyncio.sleep(1.5)
        keep(app, "inspect")


async def draw_comparing() -> None:
    """Four checkpoints of one run."""
    app = make_app("fables")
    app.session.params = app.session.params.replace(seed=3, max_new_tokens=420)
    app.session.full_speed = True
    async with app.run_test(size=(140, 34)) as pilot:
        await until(lambda: app.play.model is not None)
        await pilot.press("f3")
        await asyncio.sleep(0.5)
        await pilot.press(*"THE FOX:", "enter")
        await asyncio.sleep(2.0)
        await pilot.press("c")
        await asyncio.sleep(0.5)
        await pilot.press("enter")
        await asyncio.sleep(8.0)
        keep(app, "compare")


def make_app(model: str = "shakespeare") -> MiniGPTApp:
    """An app for somebody who knows it already."""
    from minigpt_tui.app import MiniGPTApp

    app = MiniGPTApp(model, "cpu", "fp32")
    app.session.welcomed = True
    return app


def keep(app: MiniGPTApp, name: str) -> None:
    """Write down what the app shows."""
    (HERE / f"{name}.svg").write_text(app.export_screenshot(title="minigpt-tui"), encoding="utf-8")


async def until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise SystemExit("the app did not get there within 30 s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["MINIGPT_HOME"] = home
        asyncio.run(draw_playing())
        train("fables-dropout", dropout=0.2)
        train("fables")
        asyncio.run(draw_training())
        asyncio.run(draw_comparing())
