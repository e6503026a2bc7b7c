"""Terminals of any size: every screen at 60 by 20 and up, below that what is missing; signs of all scripts; a new size
in mid-stream.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from test_play_screen import begin, settled, shown

from minigpt_tui.screens.others import NAMES

THERE = ("play", *(name for name in NAMES if find_spec(f"minigpt_tui.screens.{name}")))

pytest_plugins = ("play_fixtures",)

SCRIPTS = "漢字 👩\u200d💻 🇩🇪 ❤\ufe0f שלום مرحبا क्षि e\u0301 👍🏽 ด้้ \u202eabc\u202c 한국어\t|\n"


def lines(app) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


def check_cells(app, width: int) -> None:
    """Every line takes the cells that the terminal has."""
    for strip in app.screen._compositor.render_strips():
        assert sum(segment.cell_length for segment in strip) == width


async def show(pilot, name: str) -> None:
    await pilot.app.run_action(f"app.show({name!r})")
    await settled(pilot)


@pytest.mark.parametrize("size", [(60, 20), (140, 40)])
async def test_every_screen_fits_the_terminal(make_app, size):
    async with make_app().run_test(size=size) as pilot:
        for name in THERE:
            await show(pilot, name)
            check_cells(pilot.app, size[0])
            text = "\n".join(lines(pilot.app))
            assert "minigpt" in lines(pilot.app)[0], name
            assert "help" in lines(pilot.app)[-1], name  # the way to all keys
            assert "minigpt needs" not in text


async def test_every_screen_says_so_where_the_terminal_is_too_small(make_app):
    async with make_app().run_test(size=(80, 24)) as pilot:
        for name in THERE:
            await show(pilot, name)
            for columns, rows in ((59, 20), (60, 19), (1, 1)):
                await pilot.resize_terminal(columns, rows)
                await settled(pilot)
                check_cells(pilot.app, columns)
                text = " ".join(" ".join(lines(pilot.app)).split())
                if columns > 1:
                    assert f"minigpt needs 60 columns and 20 rows; this terminal has {columns} and {rows}" in text, name
                    assert "^q quits" in text
            await pilot.resize_terminal(80, 24)
            await settled(pilot)
            assert "minigpt" in lines(pilot.app)[0], name


@pytest.mark.parametrize("width", [60, 83, 121])
async def test_signs_of_all_scripts_take_the_cells_they_take(make_app, client, width):
    async with make_app().run_test(size=(width, 36)) as pilot:
        stream = await begin(pilot, client, "a", SCRIPTS * 12)
        check_cells(pilot.app, width)
        for _ in range(3):
            await pilot.press("up")
            check_cells(pilot.app, width)
        pilot.app.play._text.text_select_all()
        await pilot.pause()
        check_cells(pilot.app, width)
        assert pilot.app.screen.get_selected_text() == ("a" + SCRIPTS * 12).removesuffix("\n")
        stream.finish()


async def test_a_new_size_while_a_text_is_written_loses_no_letter(make_app, client):
    async with make_app().run_test(size=(120, 36)) as pilot:
        stream = await begin(pilot, client, "a", "")
        text = ""
        for number, size in enumerate([(80, 24), (60, 20), (59, 19), (140, 40), (61, 20), (120, 36)]):
            piece = f"{number} words and {SCRIPTS}" * 3
            stream.write(piece)
            text += piece
            await pilot.resize_terminal(*size)
            stream.write("more ")
            text += "more "
            await settled(pilot)
            check_cells(pilot.app, size[0])
        stream.finish()
        await settled(pilot)
        assert pilot.app.play.writing.document.text() == "a" + text
        assert pilot.app.play._text.following
        assert "more" in shown(pilot.app, "#text")
