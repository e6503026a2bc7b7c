"""TensorBoard and MLflow show each step of a run once, however often it was killed, and cannot end it. What was written
is read back with their own readers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from engine import folders
from engine.config import TrainConfig
from engine.errors import InvalidSettingError
from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, Status, TextSources
from engine.training.trackers import background, open_trackers, tensorboard
from engine.training.trackers.mlflow import MLflowRecorder, keeps_sample, tracking_uri
from engine.training.trackers.tensorboard import TensorBoardRecorder

CREATED = 1_700_000_000.0

EVERY_STEP = {"loss/train", "lr", "grad_norm", "tokens_per_second"}


def make_run(name: str, *trackers: str, **changes) -> tuple[RunDirectory, RunConfig]:
    config = RunConfig(
        name=name,
        created=CREATED,
        training=TrainConfig(trackers=trackers, steps=40, sample_prompt="|*`", seed=7),
        text=TextSources(train=("verses",)),
    )
    return RunDirectory.create(config), msgspec.structs.replace(config, **changes)


def line(step: int, shift: float = 0.0) -> Metrics:
    evaluated = {"val_loss": 2.0 + 1 / step, "train_split_loss": 1.5 + 1 / step} if step % 10 == 0 else {}
    return Metrics(
        step=step,
        time=step / 2,
        tokens=step * 10,
        train_loss=1.0 / step + shift,
        lr=0.25,
        grad_norm=0.5,
        tokens_per_second=100.0,
        **evaluated,
    )


def sample(step: int) -> Sample:
    return Sample(step=step, prompt="To ", text=f"<b>be</b>\nor not {step}\n", seed=7)


def status(step: int = 0, state="running") -> Status:
    return Status(state=state, step=step, steps=40, parameters=12_345, device="cpu")


def lines(first: int, last: int, shift: float = 0.0) -> list[Metrics | Sample]:
    """Steps with a sample behind every tenth."""
    found: list[Metrics | Sample] = []
    for step in range(first, last + 1):
        found += [line(step, shift), sample(step)] if step % 10 == 0 else [line(step, shift)]
    return found


def append(run: RunDirectory, told: list[Metrics | Sample]) -> None:
    for each in told:
        run.append_metrics(each) if isinstance(each, Metrics) else run.append_sample(each)
    run.close()


def drive(run: RunDirectory, config: RunConfig, first: int, last: int, shift: float = 0.0, state="finished") -> None:
    """Take steps as a trainer does, through what it sees of its trackers."""
    trackers = open_trackers(config.training, run)
    for tracker in trackers:
        tracker.begin(config, status(first - 1))
    for each in lines(first, last, shift):
        append(run, [each])
        for tracker in trackers:
            tracker.metrics(each) if isinstance(each, Metrics) else tracker.sample(each)
    for tracker in trackers:
        tracker.end(run, status(last, state))


def in_tensorboard(run: RunDirectory):
    """What the public reader finds: scalars, and texts as tensors."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run.path / "trackers" / "tensorboard"), {"scalars": 0, "tensors": 0}).Reload()


def on_tensorboards_page(run: RunDirectory):
    """What TensorBoard's own page is made from: all of it as tensors."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    return EventAccumulator(str(run.path / "trackers" / "tensorboard"), {"tensors": 0}).Reload()


def curve_in_tensorboard(run: RunDirectory, tag: str = "loss/train") -> list[tuple[int, float]]:
    from tensorboard.util.tensor_util import make_ndarray

    curve = [(event.step, event.value) for event in in_tensorboard(run).Scalars(tag)]
    page = on_tensorboards_page(run).Tensors(tag)
    assert curve == [(event.step, make_ndarray(event.tensor_proto).item()) for event in page]
    return [(step, pytest.approx(value)) for step, value in curve]


def samples_in_tensorboard(run: RunDirectory) -> list[int]:
    return [event.step for event in on_tensorboards_page(run).Tensors("samples/text_summary")]


def in_mlflow(run: RunDirectory):
    """The client, and the run as it stands there."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri())
    place = json.loads((run.path / "trackers" / "mlflow" / "run.json").read_text())
    return client, client.get_run(place["run_id"])


def curve_in_mlflow(run: RunDirectory, key: str = "loss/train") -> list[tuple[int, float]]:
    client, found = in_mlflow(run)
    return [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, key)]


def expected(first: int, last: int, shift: float = 0.0) -> list[tuple[int, float]]:
    return [(step, 1.0 / step + shift) for step in range(first, last + 1)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A current directory that stays empty, and no wishes of the developer's own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield
    assert list(folder.iterdir()) == []


# TensorBoard


def test_tensorboard_shows_each_number_of_each_step():
    run, config = make_run("board", "tensorboard")
    drive(run, config, 1, 20)
    found = in_tensorboard(run)
    assert set(found.Tags()["scalars"]) == {*EVERY_STEP, "loss/val", "loss/train_split"}
    assert curve_in_tensorboard(run) == expected(1, 20)
    assert curve_in_tensorboard(run, "loss/val") == [(10, 2.1), (20, 2.05)]
    assert curve_in_tensorboard(run, "loss/train_split") == [(10, 1.6), (20, 1.55)]
    assert [event.wall_time - CREATED for event in found.Scalars("lr")] == [step / 2 for step in range(1, 21)]


def test_tensorboard_shows_samples_settings_and_facts_as_text():
    run, config = make_run("board-text", "tensorboard")
    drive(run, config, 1, 20)
    found = in_tensorboard(run)
    assert set(found.Tags()["tensors"]) == {
        f"{tag}/text_summary" for tag in ("samples", "config/settings", "config/facts")
    }

    def text(tag: str, number: int = 0) -> str:
        return found.Tensors(f"{tag}/text_summary")[number].tensor_proto.string_val[0].decode()

    assert text("samples", 1) == "    To <b>be</b>\n    or not 20"  # a block of code: what a model writes is no markup
    assert samples_in_tensorboard(run) == [10, 20]
    assert "| learning_rate | `0.003` |" in text("config/settings")
    assert "| sample_prompt | `¦*'` |" in text("config/settings")
    assert "| parameters | `12345` |" in text("config/facts")
    assert "| text | `verses` |" in text("config/facts")


def test_a_killed_run_that_is_resumed_shows_no_step_twice_in_tensorboard():
    run, config = make_run("board-killed")
    killed = TensorBoardRecorder(run)
    killed.begin(config, status())
    append(run, lines(1, 33))
    killed.write(lines(1, 33))
    with next(killed.folder.glob("events*")).open("ab") as file:
        file.write(b"\x20\0\0\0\0\0\0\0torn")
    run.append_resumed(25)
    drive(run, msgspec.structs.replace(config, training=TrainConfig(trackers=("tensorboard",))), 26, 40, 0.5)
    assert curve_in_tensorboard(run) == expected(1, 25) + expected(26, 40, 0.5)
    assert samples_in_tensorboard(run) == [10, 20, 30, 40]


def test_what_tensorboard_missed_before_a_kill_is_filled_in_from_the_runs_own_files():
    run, config = make_run("board-gap")
    killed = TensorBoardRecorder(run)
    killed.begin(config, status())
    killed.write(lines(1, 10)[:-1])  # not the sample of step 10
    append(run, lines(1, 30))
    for number in range(3):  # killed again and again, with nothing written
        TensorBoardRecorder(run).begin(config, status(25 + number))
    assert curve_in_tensorboard(run) == expected(1, 27)
    assert samples_in_tensorboard(run) == [10, 20]
    names = [path.name for path in sorted(killed.folder.glob("events*"))]
    assert len(names) == 4
    assert all(one[:30] < other[:30] for one, other in pairwise(names))


def test_a_kill_between_taking_steps_back_and_writing_them_again_leaves_no_gap_in_tensorboard(monkeypatch):
    run, config = make_run("board-between")
    append(run, lines(1, 40))
    killed = TensorBoardRecorder(run)
    killed.begin(config, status())
    killed.write(lines(1, 33))
    with monkeypatch.context() as patch:
        patch.setattr(tensorboard.contents, "missed", lambda *of: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            (between := TensorBoardRecorder(run)).begin(config, status(25))
    between.end(run, status(25))
    assert curve_in_tensorboard(run) == expected(1, 24)
    TensorBoardRecorder(run).begin(config, status(40))
    assert curve_in_tensorboard(run) == expected(1, 40)


# MLflow


def test_mlflow_has_the_settings_the_facts_and_each_number_of_each_step():
    run, config = make_run("flow", "mlflow")
    drive(run, config, 1, 20)
    client, found = in_mlflow(run)
    assert client.get_experiment(found.info.experiment_id).name == "minigpt-tui"
    assert (found.info.run_name, found.info.status) == ("flow", "FINISHED")
    assert found.data.params["learning_rate"] == "0.003"
    assert found.data.params["sample_prompt"] == "|*`"
    assert set(found.data.params) == set(TrainConfig.__struct_fields__)
    assert found.data.tags["parameters"] == "12345"
    assert found.data.tags["text"] == "verses"
    assert set(found.data.metrics) == {*EVERY_STEP, "loss/val", "loss/train_split"}
    assert curve_in_mlflow(run) == expected(1, 20)
    assert curve_in_mlflow(run, "loss/val") == [(10, 2.1), (20, 2.05)]
    times = [metric.timestamp for metric in client.get_metric_history(found.info.run_id, "lr")]
    assert times == [round((CREATED + step / 2) * 1000) for step in range(1, 21)]


def test_mlflow_keeps_samples_files_and_the_picture_under_the_users_data_folder(tmp_path):
    run, config = make_run("flow-files", "mlflow")
    drive(run, config, 1, 20, state="stopped")
    client, found = in_mlflow(run)
    assert found.info.status == "KILLED"
    names = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert names == {"config.json", "metrics.jsonl", "samples.jsonl", "samples", "loss.png", "loss_data.json"}
    samples = [file.path for file in client.list_artifacts(found.info.run_id, "samples")]
    assert samples == ["samples/step-00000010.txt", "samples/step-00000020.txt"]

    def artifact(name: str) -> bytes:
        return Path(client.download_artifacts(found.info.run_id, name, str(tmp_path))).read_bytes()

    assert artifact(samples[1]).decode() == "To <b>be</b>\nor not 20\n"
    assert artifact("loss.png").startswith(b"\x89PNG")
    assert json.loads(artifact("loss_data.json"))["runs"][0]["val_steps"] == [10, 20]
    assert artifact("metrics.jsonl") == (run.path / "metrics.jsonl").read_bytes()
    home = folders.mlflow_folder()
    assert found.info.artifact_uri.startswith(home.as_uri())
    assert sorted(path.name for path in home.iterdir()) == ["artifacts", "mlflow.db"]


def test_a_killed_run_goes_on_in_the_same_run_of_mlflow_and_logs_no_step_twice():
    run, config = make_run("flow-killed")
    killed = MLflowRecorder(run)
    killed.begin(config, status())
    append(run, lines(1, 33))
    killed.write(lines(1, 10)[:-1])  # not the sample of step 10
    before = in_mlflow(run)[1].info
    assert before.status == "RUNNING"
    run.append_resumed(25)
    changes = (25, {"steps": 50, "trackers": ["mlflow"]})
    training = TrainConfig(trackers=("mlflow",), steps=50)
    config = msgspec.structs.replace(config, name="flow-renamed", training=training, changes=(changes,))
    drive(run, config, 26, 40, state="stopped")
    client, found = in_mlflow(run)
    assert (found.info.run_id, found.info.run_name) == (before.run_id, "flow-renamed")
    assert curve_in_mlflow(run) == expected(1, 40)
    assert found.data.params["steps"] == "40"  # what it began with
    assert found.data.tags["set at step 25"] == "steps=50, trackers=mlflow"
    assert len(client.list_artifacts(found.info.run_id, "samples")) == 4

    run.append_resumed(35)  # back to where MLflow, which takes nothing back, knows five steps more
    drive(run, config, 36, 45, 0.5)
    assert curve_in_mlflow(run) == expected(1, 40) + expected(41, 45, 0.5)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_an_evaluation_that_was_made_up_for_after_a_stop_is_shown(tracker):
    run, config = make_run(f"made-up-for-{tracker}", tracker)
    stopped = TensorBoardRecorder(run) if tracker == "tensorboard" else MLflowRecorder(run)
    stopped.begin(config, status())
    unevaluated = msgspec.structs.replace(line(20), val_loss=None, train_split_loss=None)
    for each in (*lines(1, 19), unevaluated):
        stopped.write([each])
        append(run, [each])
    run.append_resumed(19)
    drive(run, config, 20, 30)
    curve = curve_in_tensorboard if tracker == "tensorboard" else curve_in_mlflow
    assert curve(run) == expected(1, 30)
    for name, loss in (("loss/val", 2.0), ("loss/train_split", 1.5)):
        assert curve(run, name) == [(step, pytest.approx(loss + 1 / step)) for step in (10, 20, 30)]


def test_a_run_that_mlflow_no_longer_knows_is_logged_there_from_its_beginning(tmp_path, monkeypatch):
    run, config = make_run("flow-moved", "mlflow")
    drive(run, config, 1, 10, state="stopped")
    first = in_mlflow(run)[1].info.run_id
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    drive(run, config, 11, 20, state="stopped")
    second = in_mlflow(run)[1].info.run_id
    assert second != first
    assert curve_in_mlflow(run) == expected(1, 20)
    shutil.rmtree(next((tmp_path / "store").glob(f"*/{second}")))
    drive(run, config, 21, 30)
    assert in_mlflow(run)[1].info.run_id not in (first, second)
    assert curve_in_mlflow(run) == expected(1, 30)


def test_several_runs_are_logged_to_mlflow_at_once():
    runs = [make_run(f"flow-{number}", "mlflow") for number in range(3)]
    threads = [threading.Thread(target=drive, args=(*run, 1, 20)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run, _ in runs:
        assert curve_in_mlflow(run) == expected(1, 20)


def test_however_many_samples_there_are_mlflow_keeps_few_of_them_evenly():
    assert all(map(keeps_sample, range(1, 101)))
    assert sum(map(keeps_sample, range(1, 100_001))) == 99 + 90 * 3 + 1
    assert [number for number in range(1000, 1301) if keeps_sample(number)] == [1000, 1100, 1200, 1300]


# Both


TRAINS = """
import sys, time
from test_trackers import append, lines, status
from engine import folders
from engine.training.run import RunDirectory
from engine.training.trackers import open_trackers

run = RunDirectory(folders.runs_folder() / "both")
config = run.read_config()
begins = int(sys.argv[1])
trackers = open_trackers(config.training, run)
for tracker in trackers:
    tracker._recorder.seconds = 0.05
    tracker.begin(config, status(begins))
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
for told in lines(begins + 1, begins + 10_000):
    append(run, [told])
    for tracker in trackers:
        (tracker.metrics if hasattr(told, "lr") else tracker.sample)(told)
    print(told.step, flush=True)
    time.sleep(0.003)
"""


@pytest.mark.posix
def test_a_run_that_was_killed_twice_has_each_step_once_and_leaves_nothing_outside(tmp_path):
    run, config = make_run("both", "tensorboard", "mlflow")
    at_home = tmp_path / "user"
    at_home.mkdir()
    telling = ("CI", "PYTEST_CURRENT_TEST", "MLFLOW_DISABLE_TELEMETRY")  # each would keep MLflow from it by itself
    known = {name: value for name, value in os.environ.items() if name not in telling}
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    step = 0
    for _ in range(2):
        resumed = step
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINS, str(step)],
            env={**known, "HOME": str(at_home), "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for text in process.stdout:
            step = int(text)
            if logged(run) > resumed + 30:
                break
        process.kill()
        process.wait()
        process.stdout.close()
        reached = run.read_metrics()[-1].step
        step = reached - 15  # where the last checkpoint was
        run.append_resumed(step)
    assert list(at_home.iterdir()) == []
    drive(run, config, step + 1, reached + 5)
    assert curve_in_tensorboard(run) == expected(1, reached + 5)
    assert curve_in_mlflow(run) == expected(1, reached + 5)


def logged(run: RunDirectory) -> int:
    """A step up to which both have written."""
    tag = 0
    if (run.path / "trackers" / "mlflow" / "run.json").exists():
        tag = int(in_mlflow(run)[1].data.tags.get("minigpt.step", 0))
    return min(tag, tensorboard._written(run.path / "trackers" / "tensorboard"))


def test_a_tracker_that_is_switched_on_later_shows_the_run_from_its_beginning():
    run, config = make_run("late", "tensorboard", "mlflow")
    append(run, lines(1, 30))
    drive(run, config, 31, 40)
    assert curve_in_tensorboard(run) == expected(1, 40)
    assert curve_in_mlflow(run) == expected(1, 40)
    assert len(run.read_metrics()) == 40


@pytest.mark.parametrize(
    ("tracker", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("mlflow", "alembic")]
)
def test_a_tracker_that_is_not_installed_is_said_before_the_run_begins(tracker, package, monkeypatch):
    run, config = make_run(f"without-{tracker}-{package}", tracker)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        InvalidSettingError, match=rf"^{tracker} is not installed, .*{package}.*'minigpt-tui\[track\]'$"
    ):
        open_trackers(config.training, run)


def test_a_run_without_trackers_has_none_and_no_folder_for_them():
    run, config = make_run("plain")
    drive(run, config, 1, 3)
    assert open_trackers(config.training, run) == []
    assert not (run.path / "trackers").exists()


@pytest.mark.posix
def test_a_full_disk_leaves_out_the_tracker_and_not_the_run(monkeypatch):
    run, config = make_run("full", "tensorboard")
    monkeypatch.setattr(tensorboard, "_next_name", lambda earlier: "/dev/full")
    monkeypatch.setattr(TensorBoardRecorder, "seconds", 0.01)
    (tracker,) = open_trackers(config.training, run)
    tracker.begin(config, status())
    until = time.monotonic() + 20
    while not (run.path / "log.txt").exists() and time.monotonic() < until:
        tracker.metrics(line(1))
        time.sleep(0.01)
    for step in range(2, 10):
        tracker.metrics(line(step))
        tracker.sample(sample(step))
    tracker.end(run, status(9, "finished"))
    (said,) = (run.path / "log.txt").read_text().splitlines()
    assert "tensorboard failed and is left out: [Errno 28] No space left on device" in said


def test_a_store_that_goes_away_in_the_middle_leaves_out_mlflow_and_not_the_run(tmp_path, monkeypatch):
    run, config = make_run("gone", "mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    (tracker,) = open_trackers(config.training, run)
    tracker.begin(config, status())
    until = time.monotonic() + 20
    while not (run.path / "trackers" / "mlflow" / "run.json").exists() and time.monotonic() < until:
        time.sleep(0.01)
    (tmp_path / "store").rename(tmp_path / "gone")  # in one step: it is being written to
    for step in range(1, 30):
        tracker.metrics(line(step))
    tracker.end(run, status(29, "finished"))
    (said,) = (run.path / "log.txt").read_text().splitlines()
    assert "mlflow failed and is left out: " in said


def test_a_tracker_that_never_answers_holds_up_the_end_of_a_run_for_a_bounded_time(monkeypatch):
    run, config = make_run("stuck")
    released = threading.Event()

    class Stuck:
        seconds = 0.01

        def begin(self, config, status):
            released.wait()

    monkeypatch.setattr(background, "END_SECONDS", 0.1)
    tracker = background.Background("stuck", Stuck(), run)
    tracker.begin(config, status())
    began = time.monotonic()
    for step in range(1, 1001):
        tracker.metrics(line(step))
    tracker.end(run, status(1000, "finished"))
    assert time.monotonic() - began < 5
    assert "stuck did not take the end of the run within 0 seconds" in (run.path / "log.txt").read_text()
    released.set()
