"""The Compare screen with the real engine process: two settings of the bundled model, a tiny run's checkpoints."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest
from run_maker import RunMaker
from tiny_models import make_tiny

from minigpt_tui.app import MiniGPTApp

PATIENCE = 60.0


async def until(pilot, holds, what: str) -> None:
    """Wait for something that the engine brings about."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        await asyncio.sleep(0.02)
    await pilot.pause()


@pytest.fixture
def learner(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run with a checkpoint that has learned little and one that has learned more; returns their names."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    run = RunMaker()("learner", step=100, steps=100, every=50)
    for step, model in ((50, make_tiny("little", steps=3)), (100, tiny_model)):
        shutil.rmtree(run.checkpoint(step))
        shutil.copytree(model, run.checkpoint(step))
    return ["learner:step-50", "learner:step-100"]


async def test_two_settings_of_the_bundled_model_and_the_checkpoints_of_a_run(learner: list[str]):
    app = MiniGPTApp(device="cpu", precision="fp32")
    app.session.params = app.session.params.replace(max_new_tokens=60, seed=11, top_k=20)
    app.session.full_speed = True
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("f3")
        await until(pilot, lambda: app.screen is not app.play, "the screen")
        screen = app.screen
        await pilot.press(*"ROMEO:", "enter")
        await until(pilot, lambda: all(column.state == "ended" for column in screen.columns), "two texts")

        # They are the same up to the place that is marked, and others there.
        first, other = screen.columns
        assert first.params.temperature != other.params.temperature
        assert {len(column.writing.trace) for column in screen.columns} == {60}
        place = other.parting.place
        assert other.parting.by_token
        assert first.writing.tokens()[: 6 + place] == other.writing.tokens()[: 6 + place]
        assert first.writing.tokens()[6 + place] != other.writing.tokens()[6 + place]
        assert first.text[:place] == other.text[:place]
        assert first.text[place] != other.text[place]
        assert other.writing.document.text()[other.parting.first] == other.text[place]
        differing = {n for start, end in other.parting.spans for n in range(start - other.start, end - other.start)}
        assert {n for n in range(60) if first.text[n] != other.text[n]} <= differing

        # The same seed again is the same text; a loss is what the model says of it.
        texts = [column.text for column in screen.columns]
        await pilot.press("G")
        await until(pilot, lambda: not screen._chorus.running, "the same texts")
        assert [column.text for column in screen.columns] == texts
        await pilot.press("u")
        await until(pilot, lambda: other.scored is not None, "the loss of both on one text")
        assert first.scored == pytest.approx(other.scored)

        # A run from its first checkpoint to its last: each writes from the same prompt, the later ones know more.
        await screen.run_action("run_checkpoints('learner')")
        assert [column.model for column in screen.columns] == learner
        await until(pilot, lambda: all(column.state == "ended" for column in screen.columns), "their texts")
        early, late = screen.columns
        assert early.info.sha256 != late.info.sha256
        assert late.parting.by_token  # one tokenizer for all of the run
        await screen._score("The fox went to the river, and the river said")
        assert early.scored - late.scored > 0.3
