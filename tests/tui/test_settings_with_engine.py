"""What config.toml says, from the start of the real app with the real engine to the next start."""

from __future__ import annotations

from pathlib import Path

import pytest
from endless import make_endless
from test_play_with_engine import until

from minigpt_tui.actions import by_id, use_keys
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.clipboard import copied_file
from minigpt_tui.config_file import config_path, load_config
from minigpt_tui.history.recorder import Recorder

DECIDED = """\
# this machine
model = "endless"  # it never ends
device = "cpu"
precision = "fp32"
new_tokens = 12
pace = 0
clipboard = "file"
theme = "nord"

[history]
record_app = false

[keys]
again = "ctrl+g"
generate = "ctrl+r"
"""


@pytest.fixture
def decided(tiny_model: Path):
    if not (tiny_model.parent / "endless").exists():
        make_endless()
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().write_text(DECIDED)
    yield
    config_path().unlink()
    use_keys({})


async def test_what_was_decided_holds_from_the_first_text_to_the_next_start(decided, monkeypatch):
    kept = []
    monkeypatch.setattr(Recorder, "record", lambda recorder, entry: kept.append(entry))
    app = MiniGPTApp()
    async with app.run_test(size=(120, 36)) as pilot:
        writing = app.play.writing
        await pilot.press(*"fox", "ctrl+r")
        await until(pilot, lambda: writing.finish_reason and app.play.model, "the first text")
        model = app.play.model
        assert (model.name, model.device, model.precision) == ("endless", "cpu", "fp32")
        assert (writing.new_tokens, writing.finish_reason) == (12, "length")
        assert app.theme == "nord"
        first = writing.document.text()
        await pilot.press("y")
        assert copied_file().read_text() == first
        await pilot.press("ctrl+g")
        await until(pilot, lambda: writing.finish_reason and writing.document.text() != first, "another text")
        second = writing.document.text()
        assert kept == []

        await pilot.press("f9", "k")
        await until(pilot, lambda: app.screen.NAME == "Settings", "the settings")
        page = app.screen.query_one("#page")
        page.choose(next(place for place, row in enumerate(page.rows) if row.key == "continue"))
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("f10")
        await pilot.pause()
        assert by_id("continue").shown == "F10"
        await pilot.press("f2", "f10")
        await until(
            pilot,
            lambda: writing.finish_reason and len(writing.document.text()) > len(second),
            "its continuation",
        )
        assert writing.document.text().startswith(second)
        await pilot.press("ctrl+q")
    assert config_path().read_text() == DECIDED + 'continue = "f10"\n'
    assert load_config().problems == ()
