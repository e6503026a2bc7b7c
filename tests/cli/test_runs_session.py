"""A run from its start in a terminal that is lost to its removal, all from the shell and with the real trainer."""

from __future__ import annotations

import json
import signal
import time

import pytest

from engine.training.run import RunDirectory

SETTINGS = ("n_layer=1", "n_embd=16", "n_head=2", "block_size=16", "batch_size=2", "optimizer=adamw", "precision=fp32",
            "sample_tokens=5", "eval_interval=50", "steps=1000000")  # fmt: skip


@pytest.mark.posix
def test_a_run_survives_its_terminal_and_obeys_from_elsewhere(shell, cli, own_home, tmp_path):
    text = tmp_path / "river.txt"
    text.write_text("The fox went to the river, and the river said: who goes there?\n" * 40)
    run = RunDirectory(own_home / "data" / "runs" / "demo")
    words = [part for setting in SETTINGS for part in ("--set", setting)]

    def ask(*words):
        result = cli("runs", *words)
        assert result.status == 0, result.err
        return result

    def show():
        return json.loads(ask("show", "demo", "--json").out)

    # its terminal closes, and it goes on
    lost = shell(
        "train", text, "--name", "demo", *words,
        interrupt_when=(run.path / "metrics.jsonl").exists, signal_number=signal.SIGHUP,
    )  # fmt: skip
    assert lost.status == -signal.SIGHUP
    began = show()
    assert began["state"] == "running"
    assert "demo  running" in ask("list").out

    try:
        # it waits, and saves where it waits
        paused = json.loads(ask("pause", "demo", "--json").out)
        assert paused["state"] == "paused"
        assert paused["pid"] == began["pid"]
        time.sleep(0.3)
        assert len(run.read_metrics()) == show()["step"] == paused["step"]
        saved = ask("save", "demo").out.strip()
        assert saved == str(run.checkpoint(paused["step"]))
        assert ask("save", "demo").out.strip() == saved
        assert cli("models", "verify", saved).status == 0
        assert cli("runs", "rename", "demo", "other").status == 1
        assert cli("runs", "remove", "demo", "--yes").status == 1

        # it goes on, and its next checkpoint is a later one
        assert json.loads(ask("resume", "demo", "--json").out)["state"] == "running"
        later = ask("save", "demo").out.strip()
        assert int(later.rpartition("-")[2]) > paused["step"]
    finally:
        stopped = json.loads(ask("stop", "demo", "--json").out)
    assert stopped["state"] == "stopped"
    assert {c["name"] for c in show()["checkpoints"] if c["whole"]} >= {f"step-{stopped['step']}"}

    # it goes on in another process, to an end that is set now
    end = stopped["step"] + 20
    resumed = json.loads(ask("resume", "demo", "--set", f"steps={end}", "--json").out)
    assert resumed["pid"] != began["pid"]
    watched = [json.loads(line) for line in ask("watch", "demo", "--json").out.splitlines()]
    assert (watched[-1]["step"], watched[-1]["state"]) == (end, "finished")
    assert "val_loss" in watched[-1]
    assert [metrics.step for metrics in run.read_metrics()] == list(range(1, end + 1))
    assert "goes on from step" in ask("log", "demo").out

    # what is left of it
    before = len(show()["checkpoints"])
    removed = json.loads(ask("prune", "demo", "--json").out)["removed"]
    assert len(show()["checkpoints"]) == before - removed <= 2
    ask("rename", "demo", "other")
    assert cli("models", "show", "other:last").status == 0
    ask("plot", "other", "--out", tmp_path / "loss.svg")
    assert (tmp_path / "loss.svg").stat().st_size > 1000
    ask("remove", "other", "--yes")
    assert list((own_home / "data" / "runs").iterdir()) == []
