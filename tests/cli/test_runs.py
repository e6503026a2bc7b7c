"""`runs`: what there is, how it is, and what can be done to it, from directories that the tests write themselves."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest
from written_runs import control_of, driven, set_status, take_steps, write_run

from engine.training import control
from minigpt_tui.cli import runs_asking


@pytest.fixture(autouse=True)
def runs_of_its_own(own_home):
    """Each test has runs of its own."""


def lines(result):
    assert result.status == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


# Looking


def test_without_a_run_the_list_says_how_to_start_one(cli):
    result = cli("runs", "list")
    assert (result.status, result.out) == (0, "")
    assert "minigpt-tui train" in result.err
    assert cli("runs", "list", "--json") == (0, "", "")


def test_the_list_has_state_step_loss_and_age_and_says_why_a_run_crashed(cli):
    write_run("done", "finished", 50)
    write_run("broken", "crashed", 7, reason="the loss became nan", hint="try a lower learning_rate")
    write_run("killed", "running", 20)
    with driven(write_run("going", "running", 12)):
        header, *rows = cli("runs", "list").out.splitlines()
        found = {line["name"]: line for line in lines(cli("runs", "list", "--json"))}
    assert header.split() == ["name", "state", "step", "loss", "age", "device"]
    words = {row.split()[0]: row.split() for row in rows}
    assert rows[0].split()[0] == "going"  # those under way come first
    assert words["going"][1:8] == ["running", "12", "of", "50", "3.6000", "0s", "cpu"]
    assert words["done"][1] == "finished"
    assert " ".join(words["broken"]).endswith("the loss became nan")
    assert words["killed"][1] == "crashed"
    assert "killed" in " ".join(words["killed"][8:])
    assert (found["going"]["state"], found["going"]["step"], found["going"]["best_val_loss"]) == ("running", 12, 3.6)
    assert found["killed"]["hint"] == "minigpt-tui runs resume killed"


def test_a_damaged_run_is_listed_and_shown_with_what_is_wrong(cli):
    run = write_run("demo", "finished", 5)
    (run.path / "config.json").write_text("{")
    assert "config.json cannot be read" in cli("runs", "list").out
    assert "config.json cannot be read" in cli("runs", "show", "demo").out
    assert lines(cli("runs", "show", "demo", "--json"))[0]["config"] is None


def test_show_tells_everything_that_is_known(cli, tiny_model):
    run = write_run("demo", "stopped", 20, tokens=40960, tokens_per_second=1234.0)
    for step, loss in ((10, 2.0), (20, 2.5)):
        shutil.copytree(tiny_model, run.checkpoint(step))
        record = json.loads((tiny_model / "minigpt.json").read_text())
        (run.checkpoint(step) / "minigpt.json").write_text(
            json.dumps({**record, "step": step, "losses": {"val": loss}})
        )
    (run.checkpoint(20) / "training").mkdir()
    (run.checkpoint(20) / "training" / "state.safetensors").write_bytes(b"x" * 5000)
    [shown] = lines(cli("runs", "show", "demo", "--json"))
    expected = {"name": "demo", "state": "stopped", "step": 20, "steps": 50, "train_loss": 3.0, "best_val_loss": 3.2,
                "best_step": 20, "seconds": 40.0, "parameters": 3_200_000, "device": "cpu", "precision": "bf16",
                "path": str(run.path), "reason": ""}  # fmt: skip
    assert shown.items() >= expected.items()
    assert shown["pid"] > 0
    assert "val_loss" in shown
    assert [(c["name"], c["step"], c["val_loss"], c["whole"]) for c in shown["checkpoints"]] == [
        ("step-10", 10, 2.0, False),
        ("step-20", 20, 2.5, True),
    ]
    assert shown["checkpoints"][1]["size"] == shown["checkpoints"][0]["size"] + 5000
    assert shown["disk"] > sum(checkpoint["size"] for checkpoint in shown["checkpoints"])
    assert shown["config"]["training"]["dropout"] == 0.25
    out = cli("runs", "show", "demo").out
    for part in ("stopped at step 20 of 50", "3.2M parameters", "fables", "train 3.0000, best val 3.2000",
                 "0:40, 40,960 tokens, 1,234 a second", "step-10", "model alone, best", "whole",
                 "dropout"):  # fmt: skip
        assert part in out


@pytest.mark.parametrize("words", [["show"], ["watch"], ["pause"], ["resume"], ["stop"], ["save"], ["rename", "x"],
                                   ["remove", "--yes"], ["prune"], ["plot"], ["log"]])  # fmt: skip
def test_a_name_that_is_not_there_gets_the_nearest(words, cli):
    write_run("shakespeare")
    result = cli("runs", words[0], "shakespear", *words[1:])
    assert result.status == 1
    assert result.is_one_error_line
    assert "did you mean shakespeare?" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["show"], "missing argument"),
        (["dance"], "no such command"),
        (["plot"], "missing argument"),
        (["plot", "demo", "--out", "loss.gif"], "loss.png"),
        (["resume", "demo", "--set", "stepz=3"], "did you mean steps?"),
        (["resume", "demo", "--set", "steps=many"], "whole number"),
        (["resume", "demo", "--set", "n_layer=9"], "n_layer is fixed"),
        (["resume", "demo", "--set", "batch_size=0"], "batch_size is 0"),
        (["resume", "demo"], "--set steps=100"),
        (["resume", "demo", "--nproc", "0"], "--nproc"),
        (["log", "demo", "-n", "0"], "-n"),
        (["remove", "demo"], "--yes"),
    ],
)
def test_a_wrong_word_is_one_line_and_changes_nothing(words, part, cli, own_home):
    run = write_run("demo", "finished", 50)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "lock"}
    result = cli("runs", *words)
    assert result.status == 2
    assert result.is_one_error_line
    assert part in result.err.lower()
    assert {path: path.read_bytes() for path in before} == before


def test_the_shell_completes_the_names_of_runs(shell):
    write_run("tiny-fables")
    for words in ("minigpt-tui runs show ti", "minigpt-tui train --like ti"):
        env = {"_MINIGPT_TUI_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "3"}
        assert "plain,tiny-fables" in shell(env=env).out.splitlines()


# The log


def test_the_log_is_printed_whole_or_its_end_with_controls_visible(cli):
    run = write_run("demo")
    (run.path / "log.txt").write_bytes(b"one\ntwo \x1b[2J\n\xff three without an end")
    assert cli("runs", "log", "demo").out.splitlines() == ["one", "two ␛[2J", "\ufffd three without an end"]
    assert cli("runs", "log", "demo", "-n", 1).out.splitlines() == ["\ufffd three without an end"]
    (run.path / "log.txt").unlink()
    assert cli("runs", "log", "demo") == (0, "", "")


def test_a_followed_log_goes_on_until_the_run_ends(cli, monkeypatch):
    run = write_run("demo", "running")
    (run.path / "log.txt").write_text("old\none\nhal")
    coming = iter(
        [lambda: append(run, "f\ntwo\n"), lambda: append(run, "three\n"), lambda: set_status(run, "stopped", 9)]
    )
    monkeypatch.setattr("minigpt_tui.cli.runs.time.sleep", lambda _: next(coming)())
    with driven(run):
        result = cli("runs", "log", "demo", "-n", 1, "--follow")
    assert result.status == 0
    assert result.out.splitlines() == ["one", "half", "two", "three"]


def append(run, text):
    with (run.path / "log.txt").open("a") as file:
        file.write(text)


# Asking


class Trainer(threading.Thread):
    """Obeys the first thing that is asked of a run, as the real one does."""

    def __init__(self, run, obey):
        super().__init__(daemon=True)
        self.directory, self.obey, self.asked = run, obey, None
        self.before = control_of(run)

    def run(self):
        until = time.monotonic() + 10
        while self.asked is None and time.monotonic() < until:
            time.sleep(0.05)
            if (control := control_of(self.directory)) != self.before:
                self.asked = control
                self.obey()


@pytest.mark.parametrize(
    ("command", "before", "after", "wanted"),
    [
        ("pause", "running", "paused", {"wanted": "pause"}),
        ("resume", "paused", "running", {}),
        ("stop", "running", "stopped", {"wanted": "stop"}),
        ("stop", "paused", "stopped", {"wanted": "stop"}),
    ],
)
def test_what_is_asked_is_waited_for(command, before, after, wanted, cli):
    run = write_run("demo", before, 12)
    if before == "paused":
        control.request(run.path, "pause")
    with driven(run):
        trainer = Trainer(run, lambda: set_status(run, after, 14))
        trainer.start()
        result = cli("runs", command, "demo", "--json")
        trainer.join()
    [said] = lines(result)
    assert (said["state"], said["step"]) == (after, 14)
    assert result.err == f"demo is {after} at step 14 of 50\n"
    assert trainer.asked == wanted


def test_save_waits_for_the_checkpoint_and_prints_where_it_is(cli, tiny_model):
    run = write_run("demo", "running", 12)
    shutil.copytree(tiny_model, run.checkpoint(10))
    with driven(run):
        trainer = Trainer(run, lambda: shutil.copytree(tiny_model, run.checkpoint(13)))
        trainer.start()
        result = cli("runs", "save", "demo")
        trainer.join()
    assert result.status == 0
    assert result.out == f"{run.checkpoint(13)}\n"
    assert trainer.asked == {"saves": 1}


def test_nobody_waits_with_no_wait(cli):
    with driven(write_run("demo", "running", 12)) as run:
        for command, wanted in (("save", {"saves": 1}), ("pause", {"wanted": "pause", "saves": 1}),
                                ("stop", {"wanted": "stop", "saves": 1})):  # fmt: skip
            assert cli("runs", command, "demo", "--no-wait").status == 0
            assert control_of(run) == wanted


def test_a_run_that_does_not_obey_is_said_after_a_while_but_not_while_it_evaluates(cli, monkeypatch):
    monkeypatch.setattr(runs_asking, "PATIENCE_SECONDS", 0.2)
    run = write_run("demo", "running", 12)
    with driven(run):
        result = cli("runs", "stop", "demo")
        assert result.status == 1
        assert result.is_one_error_line
        assert "has not obeyed" in result.err
        set_status(run, "running", 12, activity="evaluating", done=0.5)
        timer = threading.Timer(0.6, set_status, [run, "stopped", 13])
        timer.start()
        assert cli("runs", "stop", "demo").status == 0
        timer.join()


@pytest.mark.parametrize("command", ["pause", "save"])
@pytest.mark.parametrize(("state", "part"), [("finished", "has finished"), ("stopped", "has been stopped")])
def test_a_run_that_has_ended_can_no_longer_be_asked(command, state, part, cli):
    run = write_run("demo", state, 12)
    result = cli("runs", command, "demo")
    assert result.status == 1
    assert result.is_one_error_line
    assert part in result.err
    assert "runs resume demo" in result.err
    assert control_of(run) == {}


def test_stopping_what_has_stopped_is_no_failure(cli):
    write_run("demo", "stopped", 12)
    assert cli("runs", "stop", "demo") == (0, "", "demo is stopped at step 12 of 50\n")


def test_a_run_that_ends_before_it_could_pause_is_said(cli):
    run = write_run("demo", "running", 12)
    with driven(run):
        trainer = Trainer(run, lambda: set_status(run, "finished", 50))
        trainer.start()
        result = cli("runs", "pause", "demo")
        trainer.join()
    assert result.status == 1
    assert "has finished before that" in result.err


def test_a_run_that_is_going_is_not_started_twice(cli):
    with driven(write_run("demo", "running", 12)):
        result = cli("runs", "resume", "demo")
    assert result.status == 1
    assert result.is_one_error_line
    assert "running already" in result.err


# Managing


def test_rename_and_remove_change_what_is_there(cli, own_home):
    write_run("old")
    write_run("taken")
    assert cli("runs", "rename", "old", "new").status == 0
    assert sorted(line["name"] for line in lines(cli("runs", "list", "--json"))) == ["new", "taken"]
    for name in ("taken", "../up", "a b"):
        result = cli("runs", "rename", "new", name)
        assert result.status == 1
        assert result.is_one_error_line
    assert cli("runs", "remove", "new", "--yes").status == 0
    assert [path.name for path in (own_home / "data" / "runs").iterdir()] == ["taken"]


def test_remove_asks_first_and_leaves_a_run_that_is_under_way(cli, monkeypatch):
    run = write_run("demo", "running", 3)
    with driven(run):
        result = cli("runs", "remove", "demo", "--yes")
    assert result.status == 1
    assert "runs stop demo" in result.err
    set_status(run, "stopped", 3)
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda question, **_: bool(asked.append(question)))
    assert cli("runs", "remove", "demo").status == 0
    assert run.path.exists()
    assert str(run.path) in asked[0]
    monkeypatch.setattr("click.confirm", lambda question, **_: True)
    assert cli("runs", "remove", "demo").status == 0
    assert not run.path.exists()


def test_prune_keeps_the_best_and_the_last_and_says_what_was_freed(cli, tiny_model):
    run = write_run("demo", "finished", 40)
    for step, loss in ((10, 2.0), (20, 1.0), (30, 1.5), (40, 1.2)):
        shutil.copytree(tiny_model, run.checkpoint(step))
        record = json.loads((tiny_model / "minigpt.json").read_text())
        (run.checkpoint(step) / "minigpt.json").write_text(json.dumps({**record, "losses": {"val": loss}}))
    result = cli("runs", "prune", "demo", "--json")
    [said] = lines(result)
    assert said["removed"] == 2
    assert said["bytes"] > 20_000
    assert "2 checkpoints are removed" in result.err
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == ["step-20", "step-40"]


@pytest.mark.parametrize("name", ["loss.png", "loss.svg"])
def test_plot_writes_the_picture_and_its_numbers_beside_it(name, cli, tmp_path):
    write_run("one", "finished", 30)
    write_run("two", "stopped", 20)
    out = tmp_path / "pictures" / name
    out.parent.mkdir()
    result = cli("runs", "plot", "one", "two", "one", "--out", out, "--log")
    assert result.status == 0, result.err
    data = out.with_name("loss_data.json")
    assert result.out.splitlines() == [str(out), str(data)]
    assert out.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert [run["name"] for run in json.loads(data.read_text())["runs"]] == ["one", "two"]


def test_a_run_without_a_step_has_nothing_to_plot(cli, tmp_path):
    write_run("demo", "stopped", 0)
    result = cli("runs", "plot", "demo", "--out", tmp_path / "loss.png")
    assert result.status == 1
    assert result.is_one_error_line
    assert list(tmp_path.glob("*.*")) == []


# Watching without a terminal


def test_watching_a_run_that_has_ended_says_how(cli):
    run = write_run("demo", "finished", 50, test_loss=2.25, best="step-50")
    run.checkpoint(50).mkdir()
    (run.checkpoint(50) / "config.json").write_text("{}")
    result = cli("runs", "watch", "demo")
    assert result.status == 0
    assert result.out == f"{run.checkpoint(50)}\n"
    *_, last, ending = result.err.splitlines()
    assert last.startswith("step 50 of 50   loss 1.9750   val 2.0000 (best, step 50)   1,234 tok/s   1:40 gone")
    assert ending == (
        "finished at step 50 after 1:40, validation loss 2.0000, test loss 2.2500; the best checkpoint is in"
    )
    crashed = write_run("broken", "crashed", 12, reason="the loss became nan", hint="try a lower learning_rate",
                        kind="TrainingDivergedError")  # fmt: skip
    result = cli("runs", "watch", "broken")
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[-1] == "error: the loss became nan: try a lower learning_rate"
    assert crashed.path.exists()


def test_each_evaluation_is_told_once_as_it_comes_also_after_a_resume(cli, monkeypatch):
    run = write_run("demo", "running", 25)
    monkeypatch.setattr("engine.training.run_reader.INFO_SECONDS", 0.0)

    def resumed():
        run.append_resumed(12)
        take_steps(run, 13, 24)

    coming = iter(
        [
            lambda: None,
            lambda: (take_steps(run, 26, 32), set_status(run, "paused", 32)),
            lambda: (resumed(), set_status(run, "running", 24)),
            lambda: (take_steps(run, 25, 50), set_status(run, "finished", 50)),
        ]
    )
    monkeypatch.setattr("minigpt_tui.cli.training_following.Interrupts.wait", lambda *_: next(coming)())
    with driven(run):
        result = cli("runs", "watch", "demo")
    said = [line.split("   ")[0] for line in result.err.splitlines() if not line.startswith("demo: ")]
    assert said[:-1] == ["step 20 of 50", "step 30 of 50", "demo is paused at step 32", "demo is running at step 24",
                         "step 30 of 50", "step 40 of 50", "step 50 of 50"]  # fmt: skip
    assert "1:00 gone · 0:40 left" in result.err


def test_json_lines_have_the_metrics_of_each_evaluation_and_the_end(cli, monkeypatch):
    run = write_run("demo", "running", 25)
    monkeypatch.setattr("engine.training.run_reader.INFO_SECONDS", 0.0)
    coming = iter(
        [
            lambda: take_steps(run, 26, 29),  # less than a second later: nothing is said
            lambda: (take_steps(run, 30, 41), set_status(run, "running", 41)),
            lambda: (take_steps(run, 42, 50), set_status(run, "finished", 50)),
        ]
    )
    monkeypatch.setattr("minigpt_tui.cli.training_following.Interrupts.wait", lambda *_: next(coming)())
    with driven(run):
        found = lines(cli("runs", "watch", "demo", "--json"))
    assert [(line["step"], line["state"], "val_loss" in line) for line in found] == [
        (20, "running", True),
        (30, "running", True),
        (40, "running", True),
        (50, "finished", True),
    ]
    assert found[0] == {
        "state": "running", "step": 20, "steps": 50, "time": 40.0, "tokens": 40960, "train_loss": 3.0, "lr": 0.001,
        "grad_norm": 0.3, "tokens_per_second": 1234.0, "val_loss": 3.2,
    }  # fmt: skip


def test_a_json_line_comes_each_second_between_evaluations(cli, monkeypatch):
    run = write_run("demo", "running", 3)
    monkeypatch.setattr("engine.training.run_reader.INFO_SECONDS", 0.0)
    monkeypatch.setattr("minigpt_tui.cli.training_lines.SECONDS_BETWEEN", 0.0)
    coming = iter([lambda: take_steps(run, 4, 5), lambda: None, lambda: set_status(run, "stopped", 5)])
    monkeypatch.setattr("minigpt_tui.cli.training_following.Interrupts.wait", lambda *_: next(coming)())
    with driven(run):
        found = lines(cli("runs", "watch", "demo", "--json"))
    assert [(line["step"], line["state"]) for line in found] == [(3, "running"), (5, "running"), (5, "stopped")]


def test_a_run_that_has_not_begun_is_a_line_too(cli):
    write_run("demo", "stopped", 0)
    assert lines(cli("runs", "watch", "demo", "--json")) == [{"state": "stopped", "step": 0, "steps": 50}]
    result = cli("runs", "watch", "demo")
    assert result.status == 0
    assert "before there was a checkpoint" in result.err
