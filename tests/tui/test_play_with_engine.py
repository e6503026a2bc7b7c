"""The Play screen with the real engine process and a tiny model."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from endless import make_endless

from engine.config import SamplingParams
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
def app(tiny_model: Path) -> MiniGPTApp:
    if not (tiny_model.parent / "endless").exists():
        make_endless()
    app = MiniGPTApp(model="endless", device="cpu", precision="fp32")
    app.session.params = app.session.params.replace(max_new_tokens=30, seed=3, temperature=1.5)
    app.session.full_speed = True
    return app


async def test_a_session_from_the_first_prompt_to_a_killed_engine(app: MiniGPTApp):
    async with app.run_test(size=(120, 36)) as pilot:
        play, writing = app.play, app.play.writing
        live = play._live
        # A prompt may be sent while torch is being loaded.
        await pilot.press(*"The", "space", *"fox", "enter")
        await until(pilot, lambda: writing.finish_reason and play.model, "the first text")
        first = writing.document.text()
        assert first.startswith("The fox")
        assert writing.finish_reason == "length"
        assert writing.new_tokens == 30 == len(writing.trace)
        assert writing.tokens()[: len("The fox")] == writing.prompt_tokens
        assert play.model.name == "endless"
        assert all(writing.trace.token(index).top for index in range(30))

        await pilot.press("G")
        await until(pilot, lambda: not live.running and writing.finish_reason, "the same text")
        assert writing.document.text() == first

        await pilot.press("g")
        await until(pilot, lambda: not live.running and writing.finish_reason, "another text")
        assert writing.document.text() != first

        # A text that was continued is the text that was never interrupted.
        app.session.params = app.session.params.replace(max_new_tokens=15)
        await pilot.press("G")
        await until(pilot, lambda: not live.running and writing.finish_reason, "half a text")
        await pilot.press("c")
        await until(pilot, lambda: not live.running and writing.new_tokens == 15, "the other half")
        continued = writing.document.text()
        app.session.params = app.session.params.replace(max_new_tokens=30)
        await pilot.press("G")
        await until(pilot, lambda: not live.running and writing.new_tokens == 30, "both halves")
        assert writing.document.text() == continued

        # Settings are turned while text streams, and act at the visible end.
        app.session.full_speed = False
        app.session.pace = 20.0
        await pilot.press("e", "z")
        await until(pilot, lambda: live.streaming, "a text from nothing")
        await pilot.press("T")
        await until(pilot, lambda: "temperature 1.55" in shown_text(app), "the mark")
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: writing.new_tokens > 60, "full speed")
        await pilot.press("escape")
        await until(pilot, lambda: not live.running, "the end")
        assert writing.finish_reason == "cancelled"
        assert "temperature" not in writing.document.text()

        # The engine is killed in mid-text.
        await pilot.press("g")
        await until(pilot, lambda: live.streaming and writing.new_tokens > 5, "a text to lose")
        psutil.Process(app.engine.hello.pid).kill()
        await until(pilot, lambda: not live.running, "the death")
        kept = writing.document.text()
        assert writing.finish_reason == "lost"
        assert len(kept) > 5
        assert app.screen.query_one("#notice").display
        notice = app.screen.query_one("#notice")
        await until(pilot, lambda: "Another engine is ready" in str(notice.content), "another engine")
        await pilot.press("c")
        await until(pilot, lambda: live.streaming and writing.new_tokens > 5, "the text to go on")
        assert writing.document.text().startswith(kept)
        await pilot.press("ctrl+q")


def shown_text(app: MiniGPTApp) -> str:
    document = app.play.writing.document
    return "".join(piece.text for row in range(document.row_count) for piece in document.pieces(row))


async def test_an_unknown_model_and_unknown_characters_are_told_in_words(tiny_model: Path):
    app = MiniGPTApp(model="tinny", device="cpu", precision="fp32")
    async with app.run_test(size=(120, 36)) as pilot:
        notice = app.screen.query_one("#notice")
        await until(pilot, lambda: notice.display, "the notice")
        assert "did you mean tiny?" in str(notice.content)
        await pilot.press("escape")
        await app.run_action("app.use_model('tiny')")
        await until(pilot, lambda: app.play.model is not None, "the model")
        app.session.params = app.session.params.replace(max_new_tokens=5)
        app.session.full_speed = True
        await pilot.press("a", *"fé☃", "enter")  # the notice has moved the focus to the text
        await until(pilot, lambda: app.play.writing.finish_reason, "the text")
        assert "left out: é ☃" in str(app.screen.query_one("#prompt").border_title)
        assert app.play.writing.document.text().startswith("f")


def test_the_app_starts_without_torch_and_without_what_only_the_engine_needs(home: Path):
    script = (
        "import asyncio, sys\n"
        "from minigpt_tui.app import MiniGPTApp\n"
        "assert 'engine.safe_writing' not in sys.modules, 'what writes files, before the first screen'\n"
        "async def main():\n"
        "    app = MiniGPTApp()\n"
        "    async with app.run_test() as pilot:\n"
        "        await pilot.press('f1'); await pilot.press('escape'); await pilot.press('ctrl+p')\n"
        "        await pilot.pause()\n"
        "asyncio.run(main())\n"
        "heavy = {'torch', 'numpy', 'psutil', 'safetensors', 'tokenizers', 'transformers'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, timeout=60)
    assert done.returncode == 0, done.stderr


async def test_every_setting_turns_while_a_text_streams_and_every_other_action_does_its_work(
    app: MiniGPTApp, tmp_path: Path
):
    async with app.run_test(size=(120, 36)) as pilot:
        play, writing, live, session = app.play, app.play.writing, app.play._live, app.session
        session.params, session.full_speed, session.pace = SamplingParams(seed=3), False, 30.0

        def in_force() -> bool:
            return writing.params.replace(seed=None) == session.params.replace(seed=None)

        await until(pilot, lambda: play.model is not None, "the model")
        await pilot.press("escape", "e", "z")
        await until(pilot, lambda: live.streaming and writing.new_tokens > 3, "an endless text from nothing")
        for key in "TtkKpPMmRrnN":
            before = session.params
            await pilot.press(key)
            assert session.params != before, key
            await until(pilot, in_force, f"what {key} changed, in the engine")
            assert live.streaming
        await pilot.press("slash", *"qqq", "enter")
        assert session.params.stop == ("qqq",)
        await until(pilot, in_force, "the stop string, in the engine")
        await pilot.press("0")
        await until(pilot, in_force, "the reset, in the engine")
        pace = session.pace
        await pilot.press("comma")
        assert session.pace < pace
        await pilot.press("full_stop")
        assert session.pace == pace
        await pilot.press("escape")
        await until(pilot, lambda: writing.finish_reason == "cancelled", "the end")

        text = writing.document.text()
        await pilot.press("y")
        assert app.clipboard == text
        await pilot.press("w", *["backspace"] * 20, *str(tmp_path / "saved.txt"), "enter")
        await until(pilot, (tmp_path / "saved.txt").exists, "the file")
        assert (tmp_path / "saved.txt").read_text() == text
        await pilot.press("S", *"7", "enter")
        assert session.params.seed == 7
        await pilot.press("s")
        assert session.params.seed != 7
        await pilot.press("x")
        assert writing.is_empty
        for key in ("f1", "question_mark", "ctrl+p", "colon", "l"):
            await pilot.press(key)
            await pilot.pause()
            assert app.screen is not play, key
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is play, f"the way back from {key}")
        theme = app.theme
        await app.run_action("app.dark_light")
        assert app.theme != theme
        await pilot.press("ctrl+q")
