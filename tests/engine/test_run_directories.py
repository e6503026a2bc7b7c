"""Run directories seen from outside: states, locks, wishes, and reading what is being written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import folders
from engine.config import TrainConfig
from engine.errors import InvalidSettingError, RunError, RunNotFoundError
from engine.training import control, launch, run_lock, runs
from engine.training.launch import another_like, changed, resume_run, start_run, wait_until_running
from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, Status, TextSources
from engine.training.run_reader import RunReader


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))


def config(name="demo", **training):
    return RunConfig(
        name=name, created=time.time(), training=TrainConfig(**training), text=TextSources(train=("fables",))
    )


def make(name="demo", state="finished", **status):
    run = RunDirectory.create(config(name))
    run.write_status(Status(state=state, **status))
    return run


def line(step, **more):
    return Metrics(
        step=step, time=step * 0.1, tokens=step * 8, train_loss=4.0 / step, lr=1e-3, grad_norm=1.0,
        tokens_per_second=80.0, **more,
    )  # fmt: skip


# States


def test_a_run_that_nobody_drives_any_more_has_crashed_and_says_how_to_go_on():
    run = make(state="running", step=7, steps=10)
    info = runs.read_run(run.path)
    assert info.state == "crashed"
    assert "step 7" in info.reason
    assert info.hint == "minigpt-tui runs resume demo"
    assert not info.is_under_way


def test_a_run_whose_lock_is_held_is_what_it_says():
    run = make(state="running")
    held = run_lock.take(run.path)
    try:
        assert runs.read_run(run.path).state == "running"
    finally:
        os.close(held)
    assert runs.read_run(run.path).state == "crashed"


def test_the_lock_dies_with_a_killed_owner():
    run = make(state="running")
    code = (
        f"import sys, time; from pathlib import Path; from engine.training import run_lock;"
        f"assert run_lock.take(Path({str(run.path)!r})); print('taken', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."})
    try:
        assert owner.stdout.readline() == b"taken\n"
        assert run_lock.is_held(run.path)
        assert run_lock.take(run.path) is None
    finally:
        owner.kill()
        owner.communicate()
    assert not run_lock.is_held(run.path)


def test_a_run_on_another_host_is_judged_by_its_heartbeat():
    run = make(state="running")
    there = msgspec.structs.replace(run.read_status(), host="elsewhere")
    (run.path / "status.json").write_bytes(msgspec.json.encode(there))
    assert runs.read_run(run.path).state == "running"
    silent = msgspec.structs.replace(there, heartbeat=time.time() - 2 * runs.SILENT_SECONDS)
    (run.path / "status.json").write_bytes(msgspec.json.encode(silent))
    assert runs.read_run(run.path).state == "crashed"


def test_a_damaged_directory_is_listed_with_what_is_wrong():
    run = make()
    (run.path / "config.json").write_text("{")
    make("whole")
    found = {info.name: info for info in runs.list_runs()}
    assert found["demo"].state == "crashed"
    assert "config.json" in found["demo"].reason
    assert found["whole"].state == "finished"


def test_the_last_words_of_a_crash_are_its_reason():
    run = make(state="running")
    run.log("step 5")
    (run.path / "log.txt").open("a").write("Fatal Python error: Segmentation fault\n")
    assert runs.read_run(run.path).reason == "Fatal Python error: Segmentation fault"


def test_a_fault_is_the_reason_whatever_stacks_follow_it():
    run = make(state="running")
    run.log("saved step 5")
    with (run.path / "log.txt").open("ab") as log:
        fault = "import faulthandler; faulthandler.enable(); faulthandler._sigsegv()"
        subprocess.run([sys.executable, "-c", fault], stderr=log, check=False)
        log.write(b"\nExtension modules: numpy.random._common (total: 1)\n")
    assert runs.read_run(run.path).reason == "Fatal Python error: Segmentation fault"


@pytest.mark.posix
def test_a_killed_run_does_not_repeat_the_reason_of_an_earlier_end(monkeypatch):
    run = make(state="crashed", step=5, steps=10)
    run.log("crashed at step 5: OSError: [Errno 5] Input/output error")
    monkeypatch.setattr("engine.training.launch.COMMAND", (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    resume_run("demo")
    until = time.monotonic() + 10
    while (info := runs.read_run(run.path)).state != "crashed" and time.monotonic() < until:
        time.sleep(0.01)
    assert "without a word" in info.reason


def test_a_run_that_is_removed_while_it_is_looked_at_is_no_error(monkeypatch):
    run = make(state="running")
    monkeypatch.setattr(runs, "_is_driven", lambda path, _status: bool(shutil.rmtree(path)))
    info = runs.read_run(run.path)
    assert info.state == "crashed"
    assert "status.json cannot be read" in info.reason


def test_a_name_that_is_not_there_gets_the_nearest():
    make("shakespeare")
    with pytest.raises(RunNotFoundError, match="did you mean shakespeare"):
        runs.find_run("shakespear")
    with pytest.raises(RunNotFoundError):
        runs.find_run("../shakespeare")


def test_runs_under_way_keep_their_places_and_come_before_those_that_ended():
    locks = []
    for number, name in enumerate(("first", "second", "third", "ended")):
        run = RunDirectory.create(msgspec.structs.replace(config(name), created=1000.0 + number))
        run.write_status(Status(state="finished" if name == "ended" else "running"))
        locks.append(run_lock.take(run.path))
    RunDirectory(runs.find_run("first")).write_status(Status(state="running", step=1))  # the latest sign of life
    assert [info.name for info in runs.list_runs()] == ["third", "second", "first", "ended"]
    for lock in locks:
        os.close(lock)


# What can be done to a run


def test_a_run_is_renamed_and_removed_but_not_while_it_is_driven():
    run = make("old")
    held = run_lock.take(run.path)
    with pytest.raises(RunError, match="under way"):
        runs.rename_run("old", "new")
    with pytest.raises(RunError, match="under way"):
        runs.remove_run("old")
    os.close(held)
    renamed = runs.rename_run("old", "new")
    assert RunDirectory(renamed).read_config().name == "new"
    make("taken")
    with pytest.raises(RunError, match="already"):
        runs.rename_run("new", "taken")
    with pytest.raises(RunError, match="cannot name"):
        runs.rename_run("new", "../up")
    runs.remove_run("new")
    assert [info.name for info in runs.list_runs()] == ["taken"]
    assert not list(renamed.parent.glob(".*"))


def test_no_wish_is_lost():
    run = make()
    reader = control.ControlReader(run.path)
    assert reader.read() == control.Control()
    for command in ("pause", "save", "save"):
        control.request(run.path, command)
    assert reader.read() == control.Control(wanted="pause", saves=2)
    control.request(run.path, "resume")
    assert reader.read().wanted == "run"
    control.request(run.path, "stop")
    assert reader.read() == control.Control(wanted="stop", saves=2)
    control.clear(run.path)
    assert reader.read() == control.Control()


def test_wishes_that_make_no_sense_are_none():
    run = make()
    (run.path / "control.json").write_text('{"wanted": "dance"}')
    assert control.read_control(run.path) == control.Control()


def test_what_a_run_keeps_for_life_cannot_be_changed():
    with pytest.raises(InvalidSettingError, match="n_layer is fixed"):
        changed(config(), {"n_layer": 9}, 10)
    with pytest.raises(InvalidSettingError, match="batch_size"):
        changed(config(), {"batch_size": 0}, 10)
    longer = changed(config(epochs=2.0), {"steps": 5000}, 10)
    assert longer.training.steps == 5000
    assert longer.training.epochs is None
    assert longer.changes == ((10, {"steps": 5000, "epochs": None}),)
    assert changed(config(), {"steps": config().training.steps}, 10).changes == ()


def test_a_finished_run_wants_more_steps_to_go_on():
    make(state="finished", step=1000, steps=1000)
    with pytest.raises(InvalidSettingError, match="--set steps=2000"):
        resume_run("demo")


def test_who_comes_too_late_to_resume_a_run_changes_none_of_its_settings(monkeypatch):
    run = make(state="stopped", step=5, steps=10)
    monkeypatch.setattr(run_lock, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(launch, "LAST_WORDS_SECONDS", 0.0)
    before, held = run.read_config(), run_lock.take(run.path)
    try:
        with pytest.raises(RunError, match="driven by another process"):
            resume_run("demo", {"steps": 5000})
    finally:
        os.close(held)
    assert run.read_config() == before


def test_a_run_is_resumed_while_the_process_before_is_still_about_to_end(monkeypatch):
    run = make(state="stopped", step=5, steps=10)
    started = []
    monkeypatch.setattr(run_lock, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(launch, "_spawn", lambda run, lock: started.append(run.name))
    held = run_lock.take(run.path)
    threading.Timer(0.3, os.close, (held,)).start()
    resume_run("demo")
    assert started == ["demo"]


def test_a_paused_run_is_resumed_where_it_is():
    run = make(state="paused", step=5, steps=10)
    control.request(run.path, "pause")
    held = run_lock.take(run.path)
    try:
        resume_run("demo")
    finally:
        os.close(held)
    assert control.read_control(run.path).wanted == "run"


def test_another_run_like_this_has_its_text_and_settings_and_a_name_of_its_own():
    make("demo")
    other = another_like(config("demo", n_layer=3), changes={"dropout": 0.5})
    assert other.name == "demo-2"
    assert (other.training.n_layer, other.training.dropout) == (3, 0.5)
    assert other.text.train == ("fables",)


def test_a_run_that_cannot_start_leaves_nothing(monkeypatch):
    monkeypatch.setattr("engine.training.launch.COMMAND", ("/nowhere/python",))
    with pytest.raises(RunError, match="cannot be started"):
        start_run(config("never"))
    assert runs.list_runs() == []


def test_a_run_that_could_not_begin_goes_unless_the_user_is_sent_to_it():
    def begun(name, hint):
        run = make(name, state="crashed", reason="it broke", hint=hint, kind="RunError")
        with pytest.raises(RunError, match="it broke"):
            wait_until_running(run, discard=True)
        return run.path.exists()

    assert not begun("text", "use a longer text")
    assert begun("fault", f"its log has the traceback: {folders.runs_folder() / 'fault' / 'log.txt'}")
    assert begun("full", "free some space, then minigpt-tui runs resume full")


# Reading what is being written


def test_a_torn_last_line_is_left_out_and_cut_off_when_the_run_goes_on():
    run = make()
    for step in range(1, 6):
        run.append_metrics(line(step))
    run.close()
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":6,"ti')
    assert [metrics.step for metrics in run.read_metrics()] == [1, 2, 3, 4, 5]
    run.append_resumed(3)
    run.append_metrics(line(4))
    run.close()
    assert [metrics.step for metrics in run.read_metrics()] == [1, 2, 3, 4]
    assert b"ti" not in (run.path / "metrics.jsonl").read_bytes().splitlines()[-1][:3]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("steps"), st.integers(1, 60)),
        st.tuples(st.just("resume"), st.floats(0.0, 1.0)),
        st.tuples(st.just("torn"), st.integers(1, 40)),
        st.tuples(st.just("poll"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS, block=st.integers(40, 4000))
def test_whoever_follows_a_run_sees_each_step_once_however_it_was_killed_and_resumed(tmp_path_factory, actions, block):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_HOME", str(folder))
        patch.setattr("engine.training.run_reader.BLOCK", block)
        run = make()
        reader, step = RunReader(run.path), 0
        for action, value in actions:
            if action == "steps":
                for _ in range(value):
                    step += 1
                    run.append_metrics(line(step, val_loss=1.0 if step % 7 == 0 else None))
                    if step % 5 == 0:
                        run.append_sample(Sample(step=step, prompt="", text=f"{step} \n", seed=1))
                run.close()
            elif action == "torn":
                with (run.path / "metrics.jsonl").open("ab") as file:
                    file.write(msgspec.json.encode(line(step + 1))[:value])
                step = round(step / 2)
                run.append_resumed(step)
            elif action == "resume":
                step = round(step * value)
                run.append_resumed(step)
            else:
                reader.poll(0.0001)
        for late in (reader, RunReader(run.path)):
            late.read_all()
            expected = run.read_metrics()
            assert list(late.curves.steps) == list(range(1, step + 1))
            assert list(late.curves.steps) == [metrics.step for metrics in expected]
            assert list(late.curves["train_loss"]) == [metrics.train_loss for metrics in expected]
            assert [e[0] for e in late.curves.evaluations] == [m.step for m in expected if m.val_loss is not None]
            assert late.samples == run.read_samples()


def test_a_reader_begins_at_the_end():
    run = make()
    for step in range(1, 20_001):
        run.append_metrics(line(step))
    run.close()
    reader = RunReader(run.path)
    reader.poll(0.0)
    reader.poll(0.002)
    assert not reader.is_whole
    assert reader.curves.steps[-1] == 20_000
    reader.read_all()
    assert len(reader.curves) == 20_000


def test_a_run_that_took_the_name_of_another_is_read_anew(monkeypatch):
    monkeypatch.setattr("engine.training.run_reader.INFO_SECONDS", 0.0)
    run = make()
    for step in range(1, 50):
        run.append_metrics(line(step))
    run.close()
    reader = RunReader(run.path)
    reader.read_all()
    runs.remove_run("demo")
    run = make()
    for step in range(1, 90):
        run.append_metrics(line(step, train_split_loss=0.5, val_loss=0.5))
    run.close()
    reader.read_all()
    assert [evaluation[0] for evaluation in reader.curves.evaluations] == list(range(1, 90))


def test_the_end_of_the_log_is_there():
    run = make()
    run.log("it began")
    reader = RunReader(run.path)
    reader.poll()
    assert reader.log[-1].endswith("it began")


def test_a_checkpoint_that_is_neither_best_nor_last_is_pruned(tiny_model):
    import shutil

    run = make()
    for step, loss in ((10, 2.0), (20, 1.0), (30, 1.5)):
        shutil.copytree(tiny_model, run.checkpoint(step))
        record = msgspec.json.decode((tiny_model / "minigpt.json").read_bytes())
        record["losses"] = {"val": loss}
        (run.checkpoint(step) / "minigpt.json").write_bytes(msgspec.json.encode(record))
    count, size = runs.prune_run(run.path)
    assert count == 1
    assert size > 10_000
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == ["step-20", "step-30"]
