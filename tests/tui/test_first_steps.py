"""The first start: three short steps say what can be done, each until it was taken, and never again."""

from __future__ import annotations

import pytest

from minigpt_tui.app import MiniGPTApp
from minigpt_tui.settings import load_session
from minigpt_tui.widgets.first_steps import FirstSteps

pytest_plugins = ("play_fixtures",)


def shown(app: MiniGPTApp) -> str:
    """The title of the step that is shown; empty where none is."""
    return "".join(str(panel.border_title) for panel in app.play.query(FirstSteps))


async def until(pilot, condition) -> None:
    for _ in range(100):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not come about")


async def write(pilot, client) -> None:
    """Have a text begin."""
    await pilot.press(*"ROMEO:", "enter")
    await until(pilot, lambda: client.streams)
    client.streams[-1].start()
    client.streams[-1].write("Speak well")
    await pilot.pause(0.1)


@pytest.mark.parametrize("size", [(80, 24), (140, 40), (60, 20)])
async def test_each_step_gives_way_to_the_next_when_it_was_taken_and_none_comes_back(own_home, client, size):
    app = MiniGPTApp(client=client)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "1 of 3" in shown(app))
        await write(pilot, client)
        await until(pilot, lambda: "2 of 3" in shown(app))
        await pilot.press("T")
        await until(pilot, lambda: "3 of 3" in shown(app))
        await pilot.press("ctrl+n")
        await until(pilot, lambda: shown(app) == "")
        await pilot.press("ctrl+q")
    assert load_session()[0].welcomed
    again = MiniGPTApp(client=client)
    async with again.run_test(size=size) as pilot:
        await pilot.pause(0.2)
        assert shown(again) == ""


async def test_whoever_leaves_in_the_middle_of_them_is_not_shown_them_again(own_home, client):
    for title in ("1 of 3", ""):
        app = MiniGPTApp(client=client)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause(0.2)
            assert title in shown(app)
            assert bool(title) == bool(shown(app))
            await pilot.press("ctrl+q")


async def test_they_can_be_passed_over_from_the_prompt_itself(own_home, client):
    app = MiniGPTApp(client=client)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "1 of 3" in shown(app))
        await pilot.press("ctrl+n", "ctrl+n", "ctrl+n")
        await until(pilot, lambda: shown(app) == "")
        assert app.play.focused is not None
        assert app.play.focused.id == "prompt"


async def test_a_step_that_was_passed_over_is_not_shown_after_a_later_one(own_home, client):
    app = MiniGPTApp(client=client)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "1 of 3" in shown(app))
        await pilot.press("ctrl+n", "ctrl+n")
        await write(pilot, client)
        assert "3 of 3" in shown(app)
