"""Pictures of the History screen; run pytest with --snapshot-update after a wanted change, and look at them."""

from __future__ import annotations

import time

import pytest
from history_maker import make_entry
from test_history_screen import HistoryApp, see, until

from engine.config import SamplingParams
from engine.worker.protocol import ParamsAt
from minigpt_tui.history.store import Store

pytest_plugins = ("play_fixtures",)

pytestmark = pytest.mark.posix  # its hours are those of one place, which Windows cannot be told

SMALL, LARGE, LEAST = (80, 24), (140, 40), (60, 20)
BEGAN = 1_690_000_000.0
DAY = 86_400.0

FABLE = """THE FOX:
What will you carry for me?

THE RIVER:
Whatever you let go of, to whoever stands further down. I have carried a hat, a boat and a king, and of the three the
hat went furthest, for nobody held on to it.

THE FOX:
Then carry my supper back to the goose it ran away with."""


@pytest.fixture
def thirty_texts(own_home, monkeypatch):
    """Texts of a month, by two models on two devices."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with Store() as store:
        for place in range(30):
            length = 20 + place * 53 % len(FABLE)
            params = SamplingParams(seed=1000 + place, temperature=0.5 + place % 5 / 10, max_new_tokens=length)
            at = length // 2
            entry = make_entry(
                text=FABLE[18 : 18 + length],
                prompt=FABLE[:18],
                time=BEGAN + place * DAY,
                params=params,
                changes=(ParamsAt(18 + at, params.replace(temperature=1.3, top_k=20)),) if place % 3 == 2 else (),
                model=("shakespeare", "fables-nano:step-500")[place % 2],
                device=("cpu", "cuda")[place % 3 == 0],
                precision="fp32",
                sha256=f"{place:02x}" * 32,
                tokens_per_second=100.0 * (1 + place % 7),
                tags=("best", "river") if place % 4 == 1 else (),
                note="for the reading on Sunday" if place == 29 else "",
                favourite=place % 8 == 5,
            )
            store.add(entry)
    yield
    monkeypatch.undo()
    time.tzset()


async def settle(pilot, *words: str) -> None:
    await see(pilot, *words)
    await until(lambda: pilot.app.screen._is_whole and not pilot.app.screen._list._asked)
    await pilot.pause()


@pytest.mark.parametrize("size", [SMALL, LARGE, LEAST], ids=["80x24", "140x40", "60x20"])
def test_thirty_texts(snap_compare, thirty_texts, size):
    async def look(pilot) -> None:
        await settle(pilot, "History · 30", "fables-nano" if size == LARGE else "THE FOX")
        await pilot.press("down", "space", "up")
        await settle(pilot, "1 selected", *(["in a shell"] if size == LARGE else []))

    assert snap_compare(HistoryApp(), terminal_size=size, run_before=look)


def test_a_text_in_a_narrow_terminal(snap_compare, thirty_texts):
    async def look(pilot) -> None:
        await settle(pilot, "History · 30")
        await pilot.press("tab")
        await settle(pilot, "30 · fables-nano", "written by")

    assert snap_compare(HistoryApp(), terminal_size=SMALL, run_before=look)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "140x40"])
def test_statistics(snap_compare, thirty_texts, size):
    async def look(pilot) -> None:
        await settle(pilot, "History · 30")
        await pilot.press("s")
        await see(pilot, "30 texts", "by day")
        await pilot.pause()

    assert snap_compare(HistoryApp(), terminal_size=size, run_before=look)


def test_a_search(snap_compare, thirty_texts):
    async def look(pilot) -> None:
        await settle(pilot, "History · 30")
        await pilot.press("slash", *"hat ri")
        await settle(pilot, "texts found")
        await until(lambda: "underline" in {span.style for span in pilot.app.screen._entry._text._shown.spans})

    assert snap_compare(HistoryApp(), terminal_size=LARGE, run_before=look)


def test_nothing_is_kept_yet(snap_compare, own_home):
    async def look(pilot) -> None:
        await settle(pilot, "No text is kept yet")

    assert snap_compare(HistoryApp(), terminal_size=SMALL, run_before=look)
