"""Draws the pictures of the README from the real app with the bundled model, so that they never go stale.

python docs/make_pictures.py        # writes docs/*.svg
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SIZE = (120, 34)


async def main() -> None:
    from minigpt_tui.app import MiniGPTApp
    from minigpt_tui.settings import load_session, save_session

    session, _ = load_session()
    session.params = session.params.replace(seed=3, max_new_tokens=420)
    session.full_speed = True
    save_session(session)
    app = MiniGPTApp("shakespeare", "cpu", "fp32")
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: app.play.model is not None)
        await pilot.press(*"ROMEO:")
        app.session.full_speed, app.session.pace = False, 100.0
        await pilot.press("enter")
        await until(lambda: app.play.writing.new_tokens > 150)
        await pilot.press("T", "T", "T", "T")
        await until(lambda: app.play.writing.new_tokens > 330)
        await asyncio.sleep(0.3)
        (HERE / "play.svg").write_text(app.export_screenshot(title="minigpt-tui"), encoding="utf-8")
        await pilot.press("escape")


async def until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise SystemExit("the app did not get there within 30 s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["MINIGPT_HOME"] = home
        asyncio.run(main())
