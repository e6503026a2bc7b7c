"""The models' screen, presets and named prompts with the real engine process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_play_with_engine import until

from engine import catalog, folders
from engine.config import SamplingParams
from minigpt_tui.app import MiniGPTApp

pytest_plugins = ("play_fixtures",)


@pytest.fixture
def app(own_home: Path, tiny_model: Path) -> MiniGPTApp:
    """The app with two models of its own, and a third in a folder that nobody has added yet."""
    for folder, name in ((folders.user_checkpoints(), "first"), (own_home / "elsewhere", "second")):
        shutil.copytree(tiny_model, folder / name)
    app = MiniGPTApp(model="first", device="cpu", precision="fp32")
    app.session.params = SamplingParams(max_new_tokens=30, seed=3)
    app.session.full_speed = True
    return app


async def test_a_model_of_an_added_folder_is_loaded_and_writes_as_a_preset_says(app: MiniGPTApp, own_home: Path):
    async with app.run_test(size=(120, 36)) as pilot:
        play = app.play
        await until(pilot, lambda: play.model is not None, "the first model")
        await pilot.press("f6")
        await until(pilot, lambda: app.current_mode == "models" and app.screen._is_whole, "the models")
        models = app.screen
        assert models.chosen.name == "first"

        await pilot.press("a")
        models._ask.query_one("Input").value = str(own_home / "elsewhere")
        await pilot.press("enter")
        await until(pilot, lambda: any(model.name == "second" for model in models._models), "the added folder")
        await pilot.press("slash", *"second", "enter", "v")
        await until(pilot, lambda: bool(models._verified), "the hashes")
        assert "ok" in next(iter(models._verified.values()))
        await pilot.press("enter")
        await until(pilot, lambda: play.model is not None and play.model.name == "second", "the second model")
        assert app.screen is play
        assert Path(play.model.path) == catalog.find_checkpoint("second") == own_home / "elsewhere" / "second"

        # Greedy is the same whatever the seed; a named prompt begins it.
        texts = []
        for seed in (1, 2):
            app.session.params = app.session.params.replace(seed=seed, temperature=2.0)
            await app.run_action("screen.use_preset('greedy')", play)
            await until(pilot, lambda: app.session.params.temperature == 0.0, "the preset")
            await app.run_action("screen.take_prompt('to be')", play)
            await until(pilot, lambda: play._prompt.text == "To be, or not to be", "the prompt")
            await pilot.press("enter")
            await until(pilot, lambda: not play._live.running and play.writing.new_tokens == 30, "a text")
            assert play.writing.seed == seed
            texts.append(play.writing.document.text())
            await pilot.press("x")
        assert texts[0] == texts[1]
        await pilot.press("f6")
        await until(pilot, lambda: app.current_mode == "models" and models._list.in_use.endswith("second"), "its mark")
        await pilot.press("ctrl+q")
