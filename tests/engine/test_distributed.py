"""Several processes that train one model: they do what one does, go on where it left off, and end with their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from team_cases import BYTES, CASES, EVALUATED, FIRST, LAST, MIDDLE, TEXT_TOKENS, stepper_for, text

from engine import processes
from engine.config import TrainConfig
from engine.errors import DeviceError
from engine.evaluation import evaluate
from engine.training import control, ranks, run_lock
from engine.training.distributed import ALONE, Team, join
from engine.training.driving import drive
from engine.training.launch import resume_run, start_run, wait_until_running
from engine.training.orders import Orders
from engine.training.ranks import MEETING_VARIABLE, Fault, Onlooker
from engine.training.run import RunConfig, RunDirectory, Status, TextSources
from engine.training.runs import read_run
from engine.training.status_writer import StatusWriter

STORY = "The fox went to the river, and the river said: who goes there?\n\n" * 60


# What two processes compute


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What one process found in all steps of each case, and what two found in the middle ones, from the same state."""
    folder = tmp_path_factory.mktemp("team")
    alone = {}
    for name, case in CASES.items():
        stepper = stepper_for(case)
        results = [stepper.take(step) for step in FIRST]
        weights = {key: weight.clone() for key, weight in stepper.gpt.state_dict().items()}
        torch.save((weights, stepper.state()), folder / f"{name}.before.pt")
        results += [stepper.take(step) for step in MIDDLE]
        loss = evaluate(stepper.gpt, BYTES, text()).loss if name in EVALUATED else None
        alone[name] = results + [stepper.take(step) for step in LAST], loss
    script = Path(__file__).with_name("rank_of_two.py")
    environment = processes.environment() | {MEETING_VARIABLE: str(folder), "WORLD_SIZE": "2"}
    environment["PYTHONPATH"] = os.pathsep.join([environment.get("PYTHONPATH", ""), str(script.parent)])
    started = [
        subprocess.Popen([sys.executable, script, folder], env=environment | {"RANK": str(rank)}) for rank in range(2)
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    return folder, alone, [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_steps_of_one(two, name):
    folder, alone, found = two
    results, _ = alone[name]
    close = 5e-3 if "muon" in name or "fp16" in name else 2e-5  # Muon computes in bf16 within
    assert found[0][name]["results"] == found[1][name]["results"]
    for result, expected in zip(found[0][name]["results"], results[2:4], strict=True):
        assert result[:2] == pytest.approx(expected[:2], abs=close)
        assert result[2:] == list(expected[2:])
    # and one process goes on from where they are
    stepper = stepper_for(CASES[name], *torch.load(folder / f"{name}.after.pt"))
    for step in LAST:
        assert stepper.take(step)[:2] == pytest.approx(results[step][:2], abs=2 * close)


@pytest.mark.parametrize("name", EVALUATED)
def test_two_processes_share_an_evaluation(two, name):
    _, alone, found = two
    for rank in found:
        assert rank[name]["loss"] == pytest.approx(alone[name][1], abs=1e-5)
        assert len(rank[name]["progress"]) == 2  # as often in each, so that they can agree to stop
        assert rank[name]["progress"][-1] == [TEXT_TOKENS - 1, TEXT_TOKENS - 1]


def test_each_process_holds_the_whole_model_or_about_its_share(two):
    _, _, found = two
    for rank in found:
        assert rank["ddp"]["share"] == 1
        assert 0.45 < rank["fsdp"]["share"] < 0.55


def test_out_of_memory_in_one_process_makes_the_passes_of_all_smaller(two):
    _, _, found = two
    for rank in found:
        assert rank["ddp-crowded"]["micro_batch"] == 2
        assert len(rank["ddp-crowded"]["said"]) == 1
        assert "2 passes of 2 sequences" in rank["ddp-crowded"]["said"][0]


@pytest.mark.parametrize(("rows", "size"), [(6, 2), (7, 3), (5, 5), (64, 3)])
def test_every_row_is_of_one_process_alone(rows, size):
    shares = [list(range(rows))[Team(rank, size).rows(rows)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv(MEETING_VARIABLE, "/nowhere")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match=r"4 processes need as many GPUs, and there is 1: use --nproc 1"):
        join("cuda")
    with pytest.raises(DeviceError, match="one Mac has one GPU"):
        join("mps")
    monkeypatch.delenv(MEETING_VARIABLE)
    assert join("cpu") == ALONE


# Runs


def config_of(name: str, folder: Path, *, nproc: int, device: str = "cpu", **settings) -> RunConfig:
    path = folder / "story.txt"
    path.write_text(STORY)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 6, "sample_tokens": 5}
    steady = {"constant_until": 1.0, "warmup_steps": 0, "eval_interval": 5}  # a step knows nothing of the run's length
    training = TrainConfig(**(shape | steady | {"optimizer": "adamw", "compile": "off"} | settings))
    sources = TextSources(train=(str(path),))
    return RunConfig(name=name, created=time.time(), training=training, text=sources, device=device, nproc=nproc)


def drive_here(run: RunDirectory) -> None:
    """Train in this process."""
    with StatusWriter(run, Status(state="starting")) as writer:
        assert drive(run, Orders(run.path), writer)


def wait_for(run: RunDirectory, state: str, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while (info := read_run(run.path)).state != state:
        assert time.monotonic() < until, (info.state, info.reason, (run.path / "log.txt").read_text())
        time.sleep(0.02)


def parent_of(run: RunDirectory) -> psutil.Process:
    lead = psutil.Process(run.read_status().pid)
    parent = lead.parent()
    assert parent is not None
    assert str(run.path) in parent.cmdline()
    return parent


def wait_until_free(run: RunDirectory) -> None:
    until = time.monotonic() + 10
    while run_lock.is_held(run.path):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.posix
def test_a_run_of_two_obeys_goes_on_with_one_and_does_not_outlive_its_parent(tmp_path):
    run = start_run(config_of("pair", tmp_path, nproc=2, steps=1_000_000))
    control.request(run.path, "pause")
    wait_for(run, "paused")
    assert "OMP_NUM_THREADS" in os.environ or run.read_config().threads == max(1, len(os.sched_getaffinity(0)) // 2)
    control.request(run.path, "save")
    control.request(run.path, "resume")
    while read_run(run.path).status.step < 12:
        time.sleep(0.02)
    parent_of(run).send_signal(signal.SIGHUP)
    parent_of(run).send_signal(signal.SIGTERM)
    wait_for(run, "stopped")
    wait_until_free(run)
    stopped = run.read_status().step
    assert run.checkpoint(stopped).is_dir()
    assert not (run.path / ranks.FOLDER).exists()

    resume_run("pair", {"parallel": "fsdp"})
    wait_until_running(run)
    while read_run(run.path).status.step < stopped + 11:
        time.sleep(0.02)
    parent = parent_of(run)
    team = parent.children()
    assert len(team) == 2
    parent.kill()
    assert not psutil.wait_procs(team, timeout=5)[1]
    assert read_run(run.path).state == "crashed"

    last = max(int(path.name.removeprefix("step-")) for path in (run.path / "checkpoints").glob("step-*"))
    assert last > stopped
    config = run.read_config()
    settings = {"training": config.training.replace(steps=last + 5, parallel="ddp"), "nproc": 1, "threads": 0}
    run.write_config(type(config)(**{name: getattr(config, name) for name in config.__struct_fields__} | settings))
    drive_here(run)
    alone = RunDirectory.create(config_of("single", tmp_path, nproc=1, steps=last + 5))
    drive_here(alone)
    expected, found = alone.read_metrics(), run.read_metrics()
    assert [line.step for line in found] == list(range(1, last + 6))
    assert [line.tokens for line in found] == [line.tokens for line in expected]
    assert [line.train_loss for line in found] == pytest.approx([line.train_loss for line in expected], abs=2e-3)
    assert found[-1].val_loss == pytest.approx(expected[-1].val_loss, abs=2e-3)


@pytest.fixture
def crashed(monkeypatch, tmp_path):
    """A run of two whose lead said that the other one was gone."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    run = RunDirectory.create(config_of("crashed", tmp_path, nproc=2))
    run.write_status(Status(state="crashed", reason="RuntimeError: Connection closed by peer", kind="RunError"))
    return run


LATER = Fault(rank=0, time=2.0, reason="RuntimeError: Connection closed by peer", hint="", kind="RunError")
FIRST_FAULT = Fault(
    rank=1, time=1.0, reason="the device is out of memory", hint="use less", kind="DeviceError", log="Tr"
)


@pytest.mark.posix
def test_a_run_tells_which_of_its_processes_was_killed(crashed):
    ranks._say_why(crashed, {1: -signal.SIGKILL, 0: 1}, [LATER], 2)
    status = crashed.read_status()
    assert (status.state, status.reason) == ("crashed", "its process 2 of 2 was killed (SIGKILL)")
    assert status.hint == f"minigpt-tui runs resume {crashed.name}"


def test_a_run_tells_the_first_fault_not_the_one_that_followed(crashed):
    ranks._say_why(crashed, {1: 1}, sorted([LATER, FIRST_FAULT], key=lambda fault: fault.time), 2)
    status = crashed.read_status()
    assert (status.reason, status.hint, status.kind) == ("the device is out of memory", "use less", "DeviceError")
    assert "process 2 of 2: Tr" in (crashed.path / "log.txt").read_text()


@pytest.mark.parametrize(
    "ended", [Status(state="crashed", kind="TrainingDivergedError", reason="diverged"), Status(state="stopped")]
)
def test_what_the_lead_knows_better_is_left(crashed, ended):
    crashed.write_status(ended)
    ranks._say_why(crashed, {1: 1}, [FIRST_FAULT], 2)
    assert (crashed.read_status().state, crashed.read_status().reason) == (ended.state, ended.reason)


def test_an_onlooker_writes_nothing(crashed):
    before = {path: path.stat().st_mtime_ns for path in crashed.path.rglob("*")}
    onlooker = Onlooker(crashed.path)
    onlooker.write_config(onlooker.read_config())
    onlooker.write_status(Status(state="running"))
    onlooker.append_resumed(0)
    onlooker.sync_lines()
    onlooker.log("said")
    onlooker.close()
    assert onlooker.said == ["said"]
    assert before == {path: path.stat().st_mtime_ns for path in crashed.path.rglob("*")}


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two CUDA devices")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_gpus_take_the_steps_of_one(tmp_path, parallel):
    losses = []
    for nproc in (1, 2):
        settings = {"steps": 20, "parallel": parallel, "precision": "fp32"}
        run = start_run(config_of(f"{parallel}-{nproc}", tmp_path, nproc=nproc, device="cuda", **settings))
        wait_for(run, "finished", 90)
        losses.append([line.train_loss for line in run.read_metrics()])
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
