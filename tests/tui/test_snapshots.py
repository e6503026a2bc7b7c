"""Pictures of the Play screen; run pytest with --snapshot-update after a wanted change, and look at what changed."""

from __future__ import annotations

import asyncio

import pytest
from scripted_client import TEXT, ScriptedClient

pytest_plugins = ("play_fixtures",)


@pytest.mark.parametrize("theme", ["minigpt-dark", "minigpt-light"])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_text_that_was_written(snap_compare, make_app, client: ScriptedClient, size, theme):
    async def write(pilot) -> None:
        await pilot.pause()  # what is typed before the prompt has the focus goes nowhere
        pilot.app.theme = theme
        await pilot.press(*"ROMEO:", "enter")
        await asyncio.sleep(0.05)
        stream = client.streams[-1]
        stream.start()
        stream.write(TEXT[:190])
        await asyncio.sleep(0.05)
        await pilot.press("T", "K", "k")
        await asyncio.sleep(0.05)
        stream.write(TEXT[190:])
        stream.finish()
        await asyncio.sleep(0.1)
        await pilot.pause()

    assert snap_compare(make_app(), terminal_size=size, run_before=write)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_first_screen(snap_compare, make_app, size):
    async def blur(pilot) -> None:  # the prompt's cursor blinks
        await pilot.press("escape")
        await pilot.pause()

    assert snap_compare(make_app(), terminal_size=size, run_before=blur)


@pytest.mark.parametrize("theme", ["minigpt-dark", "minigpt-light", "ansi-dark"])
def test_the_sampling_panel_over_a_narrow_screen_and_a_notice(snap_compare, make_app, client, theme):
    async def open_panel(pilot) -> None:
        pilot.app.theme = theme
        await pilot.press("escape")
        await asyncio.sleep(0.05)
        client.move("dead", "the engine's process was killed by SIGKILL: its log ends: out of memory")
        await asyncio.sleep(0.05)
        await pilot.press("u", "T", "down")
        await pilot.pause()

    assert snap_compare(make_app(), terminal_size=(80, 24), run_before=open_panel)


def test_the_help(snap_compare, make_app):
    assert snap_compare(make_app(), terminal_size=(120, 40), press=["f1"])
