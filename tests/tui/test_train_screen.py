"""The training screen under the keyboard and the mouse, on run directories that each test writes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter

import msgspec
import pytest
from run_maker import index_of, open_training, until
from scripted_client import TEXT
from test_play_screen import NARROW, WIDE, begin, settled, shown

from engine.errors import RunError
from engine.training import control, launch, runs
from engine.training.run import RunDirectory
from minigpt_tui.actions import Where, all_actions
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.machine import Here, LinkLostError
from minigpt_tui.screens import train_actions
from minigpt_tui.screens.train import TrainScreen
from minigpt_tui.settings import load_session
from minigpt_tui.training.run_feed import RunFeed
from minigpt_tui.training.run_starter import StartsHere
from minigpt_tui.training.run_watch import notification
from minigpt_tui.training.run_words import loss_text
from minigpt_tui.widgets.run_list import RunList

pytest_plugins = ("play_fixtures", "run_fixtures")

TALL = (140, 40)


def wanted(run: RunDirectory) -> str:
    return control.read_control(run.path).wanted


async def see(app, selector: str, *words: str) -> None:
    """Wait until a part of the screen shows all these words."""
    wanted = [" ".join(word.split()) for word in words]

    def seen() -> bool:
        text = " ".join(shown(app, selector).replace("│", " ").split())  # whatever the width, and where it wraps
        return all(word in text for word in wanted)

    await until(seen)


# The screens


@pytest.mark.parametrize(("there", "back"), [("f4", "f2"), ("3", "1")])
async def test_keys_lead_from_screen_to_screen(make_app, there, back):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("escape", there)
        await until(lambda: pilot.app.screen is pilot.app.train)
        assert "Train" in shown(pilot.app, "#top")
        await pilot.press(back)
        await pilot.pause()
        assert pilot.app.screen is pilot.app.play


async def test_digits_are_text_in_the_prompt(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("3", "1")
        assert pilot.app.screen is pilot.app.play
        assert pilot.app.play._prompt.text == "31"


async def test_a_click_on_a_name_on_top_goes_there(make_app):
    async with make_app().run_test(size=WIDE) as pilot:
        column = shown(pilot.app, "#top").index("Train")
        await pilot.click("#top", offset=(column + 1, 0))
        await until(lambda: pilot.app.screen is pilot.app.train)
        await pilot.click("#top", offset=(shown(pilot.app, "#top").index("Play") + 1, 0))
        await until(lambda: pilot.app.screen is pilot.app.play)


async def test_play_streams_on_while_runs_are_watched(make_app, make_run, client):
    make_run()
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, text=TEXT[:20])
        await open_training(pilot, chosen="demo")
        stream.write(TEXT[20:])
        stream.finish()
        await until(lambda: pilot.app.play.writing.finish_reason == "length")
        await pilot.press("f2")
        await settled(pilot)
        assert pilot.app.play.writing.document.text() == "ROMEO:" + TEXT
        assert "daughter" in shown(pilot.app, "#text")
        assert "done" in shown(pilot.app, "#status")


# The list


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_an_empty_list_says_the_key_that_starts(make_app, size):
    async with make_app().run_test(size=size) as pilot:
        await open_training(pilot)
        await see(pilot.app, "#runs", "No run yet: a starts one")


async def test_the_list_says_each_state_by_sign_and_word_with_the_loss(make_app, make_run):
    states = {"running": "●", "paused": "‖", "starting": "…", "finished": "✓", "stopped": "■", "crashed": "✗"}
    for place, state in enumerate(states):
        make_run(f"run-{state}", state, ago=60.0 * place)
    async with make_app().run_test(size=TALL) as pilot:
        await open_training(pilot, chosen="run-running")
        rows = [row for row in shown(pilot.app, "#runs").splitlines() if "run-" in row]
        assert len(rows) == len(states)
        for state, sign in states.items():
            row = next(row for row in rows if f"run-{state}" in row)
            assert sign in row
            assert row.count(state) == 2
            assert "1.1750" in row
        assert [row.split()[2] for row in rows[3:]] == ["run-finished", "run-stopped", "run-crashed"]


async def test_a_hundred_runs_are_reached_by_scrolling(make_app, make_run):
    for place in range(100):
        make_run(f"run-{place:02}", step=1, every=5, ago=10.0 * place)
    async with make_app().run_test(size=NARROW) as pilot:
        await open_training(pilot, chosen="run-00")
        await pilot.press("end")
        await see(pilot.app, "#runs", "run-99")
        await see(pilot.app, "#run", "run-99")
        await pilot.press("home", "pagedown")
        assert pilot.app.train._runs.index() in range(2, 9)


async def test_the_chosen_run_stays_chosen_when_the_order_changes(make_app, make_run):
    for place, name in enumerate(("new", "middle", "old")):
        make_run(name, ago=100.0 * place)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="middle")
        make_run("newest", "running")
        await until(lambda: index_of(pilot.app, "middle") == 2)
        assert pilot.app.train._runs.selected == "middle"
        assert "middle" in shown(pilot.app, "#run")
        runs.remove_run("middle")
        await until(lambda: pilot.app.train._runs.selected == "old")  # what is in its place now


async def test_a_click_chooses_a_run(make_app, make_run):
    for place, name in enumerate(("one", "two", "three")):
        make_run(name, ago=100.0 * place)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="one")
        await pilot.click("#runs", offset=(5, 3))
        await see(pilot.app, "#run", "three ·")


# The chosen run


async def test_a_run_is_shown_as_it_goes_on(make_app, make_run):
    run = make_run(state="running", step=20)
    async with make_app().run_test(size=TALL) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#run", "demo · nanochat 3.2M · char 65 · ● running")
        await see(pilot.app, "#figures", "20 of 40", "0:10 gone", "0:10 left", "1.2500  at step 20", "128", "1.00e-03")
        await see(pilot.app, "#chart", "train", "validation", "◆ best 1.2500", "by step")
        make_run.take(run, 21, 0.5)
        make_run.take(run, 22, 0.5, evaluate=True)
        make_run.write(run, msgspec.structs.replace(run.read_status(), step=22, best_val_loss=0.6, best_step=22))
        await see(pilot.app, "#figures", "22 of 40", "0.6000  at step 22")
        make_run.end(run, "finished")
        await see(pilot.app, "#run", "✓ finished")
        await see(pilot.app, "#status", "0 of 1 runs under way")


async def test_a_list_or_a_run_that_is_yet_to_be_read_is_not_taken_for_none(make_app, make_run, monkeypatch):
    make_run()
    read, look = threading.Event(), runs.list_runs
    monkeypatch.setattr(RunFeed, "look", lambda feed, wish: None)
    monkeypatch.setattr(runs, "list_runs", lambda: look() if read.wait(10) else [])
    async with make_app().run_test(size=WIDE) as pilot:
        try:
            await pilot.press("f4")
            await until(lambda: pilot.app.train is not None and pilot.app.train.is_mounted)
            await see(pilot.app, "#status", "looking for runs…")
            assert "No run yet" not in shown(pilot.app, "#runs")
            assert "shown here" not in shown(pilot.app, "#run")
        finally:
            read.set()
        await see(pilot.app, "#runs", "demo")
        assert "shown here" not in shown(pilot.app, "#run")


@pytest.mark.parametrize("loss", [None, 0.0, 1.23456, 9.99999, 12.345, 91.5427, 362.6271, 9999.96, 1e7, float("inf")])
def test_a_loss_of_any_size_keeps_to_its_column(loss):
    assert len(loss_text(loss)) == 6


async def test_a_paused_or_evaluating_run_says_so(make_app, make_run):
    run = make_run(state="running", step=4, steps=1000, activity="evaluating", done=0.4)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#figures", "evaluating 40 %")
        assert "evaluating 40 % · 4 of 1,000" in shown(pilot.app, "#figures")
        make_run.write(run, msgspec.structs.replace(run.read_status(), state="paused", activity=""))
        await see(pilot.app, "#run", "‖ paused", "space resume")


async def test_samples_are_data_and_can_be_stepped_through(make_app, make_run):
    make_run()
    async with make_app().run_test(size=TALL) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#reading", "sample at step 40", "4 of 4", "The [red]fox␛[31m said:", "who goes there? 40")
        await pilot.press("[", "left")
        await see(pilot.app, "#reading", "sample at step 20", "2 of 4", "there? 20")
        await pilot.press("]", "right", "right")
        await see(pilot.app, "#reading", "4 of 4")


async def test_a_new_sample_is_shown_unless_the_reader_went_back(make_app, make_run):
    run = make_run(state="running", step=20)
    async with make_app().run_test(size=TALL) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#reading", "2 of 2")
        make_run.take(run, 21, 0.5, evaluate=True)
        run.close()
        await see(pilot.app, "#reading", "sample at step 21", "3 of 3")
        await pilot.press("[")
        make_run.take(run, 22, 0.5, evaluate=True)
        run.close()
        await see(pilot.app, "#reading", "sample at step 20", "2 of 4")


async def test_a_low_terminal_shows_chart_samples_and_log_in_turn(make_app, make_run):
    make_run()
    async with make_app().run_test(size=NARROW) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#chart", "validation")
        assert not pilot.app.train._reading.display
        await pilot.press("i")
        await see(pilot.app, "#reading", "sample at step 40")
        assert not pilot.app.train._chart.display
        await pilot.press("i")
        await see(pilot.app, "#reading", "log", "reading the text")
        await pilot.press("i")
        await see(pilot.app, "#chart", "validation")


async def test_everything_fits_when_the_terminal_changes_its_size(make_app, make_run):
    make_run()
    async with make_app().run_test(size=NARROW) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.resize_terminal(*TALL)
        await see(pilot.app, "#chart", "validation")
        await see(pilot.app, "#reading", "sample at step 40")
        assert pilot.app.train._run.region.x == pilot.app.train._runs.region.right
        await pilot.resize_terminal(60, 20)
        await see(pilot.app, "#chart", "validation")
        assert pilot.app.train._run.region.x == 0
        await pilot.resize_terminal(50, 15)
        await see(pilot.app, "#small-terminal", "60 columns and 20 rows", "The runs go on")


async def test_a_crashed_run_says_what_happened_what_is_safe_and_the_key_that_goes_on(make_app, make_run):
    make_run(state="crashed", step=35, reason="the device is out of memory", hint="use a smaller batch_size")
    async with make_app().run_test(size=TALL) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#crash", "It crashed", "The device is out of memory. Use a smaller batch_size.")
        await see(pilot.app, "#crash", "The checkpoint of step 30 is safe", "the 5 steps", "space resumes from step 30")
        await see(pilot.app, "#crash", "Its log ends:", "reading the text")


async def test_a_run_whose_process_was_killed_has_crashed(make_app, make_run):
    run = make_run(state="running", step=35)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#run", "● running")
        make_run.end(run, "running")
        await see(pilot.app, "#run", "✗ crashed")
        await see(pilot.app, "#crash", "was killed", "step 30 is safe")


async def test_damaged_files_of_a_run_are_told_and_the_others_stay(make_app, make_run):
    run = make_run("broken")
    make_run("whole", ago=100.0)
    (run.path / "metrics.jsonl").open("a").write('{"step": "forty-one"}\n')
    (make_run("odd", ago=200.0).path / "config.json").write_text("{")
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="broken")
        await see(pilot.app, "#crash", "cannot be read")
        await pilot.press("down")
        await see(pilot.app, "#run", "whole ·", "1.1750")
        assert not pilot.app.train._crash.is_open
        await pilot.press("down")
        await see(pilot.app, "#crash", "config.json cannot be read")


async def test_curves_are_zoomed_scaled_and_drawn_by_time(make_app, make_run):
    make_run(step=400, steps=400, every=100)
    async with make_app().run_test(size=TALL) as pilot:
        await open_training(pilot, chosen="demo")
        await see(pilot.app, "#chart", "by step", "100", "400")
        await pilot.press("z")
        await see(pilot.app, "#chart", "last half", "300")
        assert " 100 " not in shown(pilot.app, "#chart")
        await pilot.press("z")
        await see(pilot.app, "#chart", "last tenth", "370")
        await pilot.press("z", "t")
        await see(pilot.app, "#chart", "by time", "3m")
        linear = shown(pilot.app, "#chart").splitlines()[1:]
        await pilot.press("l")
        await see(pilot.app, "#chart", "log scale")
        assert shown(pilot.app, "#chart").splitlines()[1:] != linear


async def test_marked_runs_are_told_apart_without_colour(make_app, make_run):
    make_run("first")
    make_run("second", ago=100.0, loss=lambda step: 2.0 + 3.0 / step)
    make_run("third", ago=200.0, loss=lambda step: 3.0 + 3.0 / step)
    async with make_app().run_test(size=TALL) as pilot:
        await open_training(pilot, chosen="third")
        await pilot.press("v", "up", "v", "up")
        await see(pilot.app, "#chart", "A first 1.1750", "B third 3.1750", "C second 2.1750")
        curves = shown(pilot.app, "#chart").split("\n", 1)[1]
        assert {"A", "B", "C"} <= set(curves)
        assert shown(pilot.app, "#runs").count("+") == 2
        await pilot.press("down", "v", "up")
        await until(lambda: "C second" not in shown(pilot.app, "#chart"))


# What is asked of a run


@pytest.mark.parametrize(
    ("key", "state", "wish"), [("space", "running", "pause"), ("space", "paused", "run"), ("x", "running", "stop")]
)
async def test_a_key_asks_and_the_screen_says_so_at_once(make_app, make_run, key, state, wish):
    run = make_run(state=state, step=20)
    control.request(run.path, "pause" if state == "paused" else "resume")
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press(key)
        assert "asked to" in shown(pilot.app, "#status")
        assert "asked to" in shown(pilot.app, "#run")
        await until(lambda: wanted(run) == wish)
        make_run.write(
            run, msgspec.structs.replace(run.read_status(), state="paused" if wish == "pause" else "running")
        )
        if wish != "stop":
            await until(lambda: "asked" not in shown(pilot.app, "#run"))


async def test_a_key_acts_on_the_state_that_is_seen_also_before_the_list_was_read_again(
    make_app, make_run, monkeypatch
):
    run, resumed = make_run(state="running", step=20), []
    monkeypatch.setattr(launch, "resume_run", lambda name, changes: resumed.append(name) or run)
    monkeypatch.setattr(launch, "wait_until_running", lambda run: None)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        before = runs.list_runs()
        monkeypatch.setattr(runs, "list_runs", lambda: before)
        make_run.end(run, "stopped")
        await see(pilot.app, "#run", "■ stopped")
        pilot.app.train.show_runs(tuple(before))  # read before it ended, and told after
        await pilot.press("space")
        await until(lambda: resumed == ["demo"])
        assert wanted(run) == "run"


async def test_a_checkpoint_that_was_asked_for_is_told_when_it_is_there(make_app, make_run):
    run = make_run(state="running", step=20)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("w")
        await until(lambda: control.read_control(run.path).saves == 1)
        make_run.take(run, 21, 0.5, evaluate=True)
        run.close()
        await see(pilot.app, "#status", "demo has saved step 21")


async def test_what_does_not_go_is_said(make_app, make_run):
    make_run(state="finished")
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("x")
        await see(pilot.app, "#status", "demo is finished; there is nothing to be stopped")
        await pilot.press("space")
        await see(pilot.app, "#status", "e gives it more steps")


async def test_a_run_is_deleted_only_when_y_was_typed(make_app, make_run):
    run = make_run()
    make_run("other", ago=100.0)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("D")
        await until(lambda: pilot.app.train._ask.is_open)
        assert "delete demo?" in shown(pilot.app, "#ask")
        assert "4 checkpoints" in shown(pilot.app, "#ask")
        await pilot.press("n", "enter")
        assert run.path.exists()
        await pilot.press("escape")
        assert not pilot.app.train._ask.is_open
        await pilot.press("delete")
        await until(lambda: pilot.app.train._ask.is_open)
        await pilot.press("y", "enter")
        await until(lambda: not run.path.exists())
        await see(pilot.app, "#run", "other ·")


async def test_a_run_under_way_is_neither_deleted_nor_renamed(make_app, make_run):
    make_run(state="running", step=20)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        for key, what in (("D", "deleted"), ("r", "renamed"), ("e", "extended")):
            await pilot.press(key)
            await see(pilot.app, "#status", f"cannot be {what}; x stops it")


async def test_a_run_is_renamed_and_stays_chosen(make_app, make_run):
    make_run()
    make_run("other", ago=-5.0)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("r", *("backspace",) * 4, *"other", "enter")
        await see(pilot.app, "#ask", "there is a run other already")
        await pilot.press(*"-2", "enter")
        await see(pilot.app, "#run", "other-2 ·")
        assert runs.find_run("other-2").exists()


async def test_pruning_asks_says_what_it_frees_and_keeps_the_best_and_the_last(make_app, make_run):
    run = make_run(loss=lambda step: 1.0 + abs(step - 20) / 100)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("k")
        await until(lambda: pilot.app.train._ask.is_open)
        assert "on disk" in shown(pilot.app, "#ask")
        await pilot.press("y", "enter")
        await see(pilot.app, "#status", "2 checkpoints of demo went", "KB are free again")
        assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == ["step-20", "step-40"]


async def test_one_checkpoint_is_called_one(make_app, make_run):
    make_run(step=20)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("k")
        await until(lambda: pilot.app.train._ask.is_open)
        await pilot.press("y", "enter")
        await see(pilot.app, "#status", "one checkpoint of demo went")
        await pilot.press("D")
        await see(pilot.app, "#ask", "y deletes it with one checkpoint,")


async def test_a_run_is_extended_to_a_number_of_steps_that_makes_sense(make_app, make_run, monkeypatch):
    resumed = []
    monkeypatch.setattr(launch, "resume_run", _refuse(resumed))
    make_run()
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("e", *("backspace",) * 3, *"40", "enter")
        await see(pilot.app, "#ask", "a whole number above 40")
        await pilot.press(*("backspace",) * 2, *"1,000", "enter")
        await see(pilot.app, "#notice", "demo does not go on", "The disk is full: free some space.")
        assert resumed == [("demo", {"steps": 1000})]
        await pilot.press("escape")
        assert not pilot.app.train._notice.is_open


def _refuse(asked: list):
    def refuse(name, changes):
        asked.append((name, dict(changes)))
        raise RunError("the disk is full", "free some space")

    return refuse


async def test_a_run_that_is_being_started_stays_chosen_until_it_is_there(make_app, make_run, monkeypatch):
    other, go = make_run("other").read_config(), threading.Event()

    def start(config):
        go.wait(10)
        return make_run(config.name, "running", step=20)

    monkeypatch.setattr(launch, "start_run", start)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="other")
        pilot.app.train._start(launch.another_like(other, "new"))
        await asyncio.sleep(0.4)  # the list is read several times
        assert pilot.app.train._runs.selected == "new"
        go.set()
        await see(pilot.app, "#run", "new ·", "● running")


async def test_a_run_that_cannot_begin_is_told_and_leaves_nothing(make_app, make_run):
    other = make_run("other").read_config()
    config = msgspec.structs.replace(launch.another_like(other, "new"), text=type(other.text)(train=("/nowhere.txt",)))
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="other")
        pilot.app.train._start(config)
        await see(pilot.app, "#status", "new is starting")
        await until(lambda: pilot.app.train._notice.is_open, 30)
        await see(pilot.app, "#notice", "new could not begin", "/nowhere.txt", "a start")
        assert [run.name for run in runs.list_runs()] == ["other"]
        await see(pilot.app, "#run", "other ·")


class LostAtTheStart(StartsHere):
    """The link goes when a run was started, and when its end is waited for the first time."""

    lost = False

    async def start(self, config):
        raise LinkLostError("the link to box is lost")

    async def wait_until_running(self, name):
        if not self.lost:
            self.lost = True
            raise LinkLostError("the link to box is lost")
        await super().wait_until_running(name)


async def test_what_began_while_the_link_was_lost_and_has_crashed_is_not_said_to_run(make_app, make_run, monkeypatch):
    monkeypatch.setattr(train_actions, "LINK_SECONDS", 0.01)
    monkeypatch.setattr(Here, "name", "box")
    why = {"kind": "DataError", "reason": "/x.txt is empty", "hint": "choose another"}
    early, late = (make_run(f"new-{step}", "crashed", step=step, **why).read_config() for step in (0, 20))
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="new-20")
        pilot.app.train._starter = LostAtTheStart()
        pilot.app.train._start(early)
        await see(pilot.app, "#notice", "Whether new-0 has begun is not known yet")
        await see(pilot.app, "#notice", "new-0 could not begin", "/x.txt is empty", "Nothing is left of it")
        assert [run.name for run in runs.list_runs()] == ["new-20"]
        pilot.app.train._starter = LostAtTheStart()
        pilot.app.train._start(late)
        await see(pilot.app, "#notice", "new-20 has begun on box, and ended", "/x.txt is empty")
        assert "has begun" not in shown(pilot.app, "#status")
        pilot.app.train._starter = LostAtTheStart()
        pilot.app.train._start(early)
        await see(pilot.app, "#notice", "new-0 has not begun", "no run of box")


# Checkpoints


async def test_any_checkpoint_is_played_also_of_a_run_under_way(make_app, make_run, client):
    make_run("other", ago=100.0)
    make_run(state="running", step=20)
    async with make_app().run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("y")
        await until(lambda: "demo:step-10" in shown(pilot.app, "CommandList"))
        assert "other:best" in shown(pilot.app, "CommandList")
        assert "validation loss 1.4000" in shown(pilot.app, "CommandList")
        await pilot.press(*"demo:step-10")
        await until(lambda: "other" not in shown(pilot.app, "CommandList"))
        await pilot.press("enter")
        await until(lambda: pilot.app.screen is pilot.app.play)
        await until(lambda: client.loads[-1] == "demo:step-10")
        await until(lambda: "demo:step-10" in shown(pilot.app, "#top"))


# Help, palette, bell


def test_no_two_keys_of_the_screen_are_the_same_and_each_does_something():
    keys = Counter()
    for action in all_actions():
        if action.where in (Where.TRAIN, Where.RUNS, Where.EVERYWHERE):
            keys.update(action.keys.split(",") if action.keys else [])
            owner = {Where.TRAIN: TrainScreen, Where.RUNS: RunList, Where.EVERYWHERE: MiniGPTApp}[action.where]
            assert hasattr(owner, "action_" + action.call.partition("(")[0]), action.id
    assert [key for key, count in keys.items() if count > 1] == []


async def test_help_and_palette_have_the_keys_of_the_screen(make_app, make_run):
    make_run()
    async with make_app().run_test(size=TALL) as pilot:
        await open_training(pilot, chosen="demo")
        await pilot.press("question_mark")
        await settled(pilot)
        lines = [line.strip("│ ") for line in shown(pilot.app, "KeysHelp VerticalScroll").splitlines()]
        assert lines.index("Runs") < lines.index("Train")
        assert any(line.startswith("space") and "pause, resume" in line for line in lines)
        await pilot.press("escape", "colon", *"extend")
        await until(lambda: "Extend  (e)" in shown(pilot.app, "CommandList"))
        await pilot.press("ctrl+u", *"again")
        await settled(pilot)
        again = [line for line in shown(pilot.app, "CommandList").splitlines() if "Same again" in line]
        assert again
        assert all(" on " in line for line in again)  # those are other screens', and lead there


async def test_the_bell_rings_and_names_the_run_when_one_ends(make_app, make_run, monkeypatch):
    run = make_run(state="running", step=20)
    async with make_app().run_test(size=WIDE) as pilot:
        written, rung = [], []
        await open_training(pilot, chosen="demo")
        monkeypatch.setattr(pilot.app._driver, "write", written.append)
        monkeypatch.setattr(pilot.app, "bell", lambda: rung.append(True))
        await pilot.press("b")
        await see(pilot.app, "#status", "will ring")
        make_run.end(run, "crashed", reason="out of\x1b]0;memory\x07")
        await until(lambda: bool(rung))
        assert "\x1b]9;demo crashed: out of␛]0;memory␇\x07" in written
    assert load_session()[0].bell


async def test_a_run_that_ends_while_the_playground_is_open_rings_too(make_app, make_run, own_home, monkeypatch):
    monkeypatch.setattr("minigpt_tui.app.WATCH_AFTER_SECONDS", 0.01)
    app = make_app()
    app.session.bell = True
    run = make_run(state="running", step=20)
    async with app.run_test(size=WIDE) as pilot:
        rung = []
        monkeypatch.setattr(pilot.app, "bell", lambda: rung.append(True))
        await asyncio.sleep(0.5)
        make_run.end(run, "finished")
        await until(lambda: bool(rung))
        assert app.train is None


def test_what_a_terminal_is_told_names_the_loss(make_run):
    make_run()
    told = notification(runs.read_run(runs.find_run("demo")))
    assert told == "\x1b]9;demo finished at step 40 after 0:20, validation loss 1.1750\x07"
    assert json.dumps(told).count("u001b") == 1
