"""The Batch screen with the real engine process and a tiny model."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from minigpt_tui.app import MiniGPTApp

PATIENCE = 60.0


async def until(pilot, holds, what: str) -> None:
    """Wait for something that the engine brings about."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        await asyncio.sleep(0.02)
    await pilot.pause()


async def test_seventy_prompts_are_written_at_once_and_each_is_what_it_would_be_alone(tiny_model: Path):
    app = MiniGPTApp(model="tiny", device="cpu", precision="fp32")
    app.session.params = app.session.params.replace(max_new_tokens=12, seed=3, temperature=1.2)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("f8")
        await until(pilot, lambda: app.screen is not app.play, "the screen")
        screen = app.screen
        prompts = ["The fox", "THE FOX:\\n", *(f"and {'so ' * n}" for n in range(68))]  # more than go at once
        screen._prompts.load_text("\n".join(prompts))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: screen._run is not None and not screen._run.running, "all of them")
        assert [result.job.prompt for result in screen.results] == prompts
        assert {result.state for result in screen.results} == {"ended"}
        assert screen._run.tokens == sum(len(result.tokens) for result in screen.results) > 100
        for place in (0, 40, 69):
            stream = app.engine.generate(
                prompts[place], model="tiny", device="cpu", precision="fp32", params=screen.results[place].job.params
            )
            events = [event async for event in stream]
            alone = [token.token for event in events for token in getattr(event, "tokens", ())]
            assert screen.results[place].tokens == alone
        # Texts that have no end by themselves are stopped, and what is written stays.
        screen.params = screen.params.replace(max_new_tokens=1_000_000, temperature=0.0)
        await pilot.press("g")
        await until(pilot, lambda: screen._run.running and screen._run.tokens > 200, "some text")
        await pilot.press("escape")
        await until(pilot, lambda: not screen._run.running, "the end")
        assert [result.state for result in screen.results] == ["ended"] * 64 + ["left"] * 6
        assert {result.finish_reason for result in screen.results[:64]} == {"cancelled"}
        assert sum(len(result.tokens) for result in screen.results) == screen._run.tokens
