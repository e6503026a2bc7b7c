"""Pictures of the training screen; run pytest with --snapshot-update after a wanted change, and look at them."""

from __future__ import annotations

import math

import pytest
from run_maker import open_training, until

from engine.device_use import DeviceMeter, DeviceUse, GpuUse

pytest_plugins = ("play_fixtures", "run_fixtures")

SMALL, LARGE = (80, 24), (140, 40)
DAY = 86_400.0
GPU = GpuUse(
    name="NVIDIA H200", utilization=0.97, memory_used=34_100_000_000, memory_total=150_000_000_000, temperature=61,
    power=412.0,
)  # fmt: skip
USE = DeviceUse(
    gpus=(GPU,), cpu=0.12, cores=16, memory_used=9_400_000_000, memory_total=128_000_000_000, process_cpu=1.0,
    process_memory=2_100_000_000,
)  # fmt: skip


def loss(step: int) -> float:
    return 1.4 + 2.8 * math.exp(-step / 60) + 0.06 * math.sin(step * 7.3)


@pytest.fixture
def twelve_runs(make_run, monkeypatch):
    """Runs in all states, on a machine that is always as busy."""
    monkeypatch.setattr(DeviceMeter, "read", lambda self, pid=0: USE)
    make_run("fables-nano", "running", step=412, steps=700, every=50, loss=loss)
    make_run("stdlib", "paused", step=30, steps=700, ago=300.0)
    died = {"reason": "out of memory", "hint": "use a smaller batch_size"}
    crashed = make_run("verse", "crashed", step=333, steps=700, every=50, ago=2 * DAY, loss=loss, **died)
    (crashed.path / "log.txt").write_text("step 320\nstep 330\nout of memory\n")
    make_run("война-и-мир", "stopped", ago=3 * DAY)
    for place in range(8):
        make_run(f"shakespeare-{place}", ago=(4 + place) * DAY, loss=lambda step, place=place: 1.5 + (1 + place) / step)


async def show(pilot, chosen: str) -> None:
    """Choose a run and wait until nothing more is to come."""
    await open_training(pilot, chosen=chosen)
    await until(lambda: pilot.app.train._picture.is_whole)
    await until(lambda: bool(pilot.app.train._top.note))
    await pilot.pause()


@pytest.mark.parametrize(
    ("size", "theme"),
    [(SMALL, "minigpt-dark"), (SMALL, "ansi-dark"), (LARGE, "minigpt-dark"), (LARGE, "minigpt-light")],
    ids=["80x24", "80x24-ansi", "140x40", "140x40-light"],
)
def test_a_run_under_way_among_twelve(snap_compare, make_app, twelve_runs, size, theme):
    async def watch(pilot) -> None:
        pilot.app.theme = theme
        await show(pilot, "fables-nano")

    assert snap_compare(make_app(), terminal_size=size, run_before=watch)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "140x40"])
def test_a_crashed_run(snap_compare, make_app, twelve_runs, size):
    async def watch(pilot) -> None:
        await show(pilot, "verse")

    assert snap_compare(make_app(), terminal_size=size, run_before=watch)


def test_curves_of_several_runs(snap_compare, make_app, twelve_runs):
    async def overlay(pilot) -> None:
        await show(pilot, "shakespeare-3")
        await pilot.press("v", "down", "v", "down", "v", "down")
        await until(lambda: len(pilot.app.train._picture.curves) == 4)
        await show(pilot, "shakespeare-6")
        pilot.app.train._end_remark()
        await pilot.pause()

    assert snap_compare(make_app(), terminal_size=(120, 36), run_before=overlay)


def test_no_run_yet(snap_compare, make_app, own_home, monkeypatch):
    monkeypatch.setattr(DeviceMeter, "read", lambda self, pid=0: USE)

    async def look(pilot) -> None:
        await open_training(pilot)
        await until(lambda: bool(pilot.app.train._top.note))
        await pilot.pause()

    assert snap_compare(make_app(), terminal_size=(80, 24), run_before=look)
