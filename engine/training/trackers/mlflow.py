"""A run as one of MLflow's: settings as parameters, facts as tags, metrics, and samples, files and the picture as
artifacts. They go into a SQLite file under the user's data folder, or where MLFLOW_TRACKING_URI says; MLflow's own
telemetry is off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from engine import folders, safe_writing
from engine.errors import InvalidSettingError
from engine.training import plots
from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, State, Status
from engine.training.trackers import contents
from engine.training.trackers.background import Line

EXPERIMENT = "minigpt-tui"
"""What the runs belong to, unless MLFLOW_EXPERIMENT_NAME says otherwise."""

LOGGED_TAG = "minigpt.step"
"""A tag: up to which step all is there."""

LINES_AT_ONCE = 100
"""MLflow takes 1,000 numbers in one call; a line has fewer than ten."""

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""MLflow's switches in the environment, set before it is imported where the user has not set them."""

STATES: dict[State, str] = {"finished": "FINISHED", "stopped": "KILLED", "crashed": "FAILED"}
"""How MLflow calls the ends of a run."""

FILES = ("config.json", "metrics.jsonl", "samples.jsonl")
"""Files of the run that become artifacts when it ends."""


class Place(msgspec.Struct, frozen=True):
    """Which of MLflow's runs a run is, as `trackers/mlflow/run.json` keeps it."""

    tracking_uri: str
    run_id: str


class MLflowRecorder:
    """Logs to MLflow in batches.

    A run that is resumed goes on in the same run of MLflow's. There nothing can be taken back: steps that a killed
    process had logged after the checkpoint are not logged again, and what it had not come to log is filled in from
    the run's own files.
    """

    seconds = 5.0

    def __init__(self, run: RunDirectory) -> None:
        """Import MLflow, which takes a second or two.

        Raises:
            InvalidSettingError: It is not installed, or not the part of it that writes to SQLite.
        """
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import alembic  # noqa: F401  (for SQLite; the smaller of MLflow's packages comes without it)
            import sqlalchemy  # noqa: F401
            from mlflow import MlflowClient, entities, exceptions
        except ImportError as error:
            raise InvalidSettingError(
                f"mlflow is not installed, or not all of it ({error})", "pip install 'minigpt-tui[track]'"
            ) from None
        self._client_class: Any = MlflowClient
        self._entities: Any = entities
        self._error: Any = exceptions.MlflowException
        self._run = run
        self.folder = run.path / "trackers" / "mlflow"

    def begin(self, config: RunConfig, status: Status) -> None:
        """Make the run, or find the one that it goes on in."""
        self._config = config
        uri = tracking_uri()
        self._client = self._client_class(tracking_uri=uri)
        folders.private(self.folder)
        found = self._find(uri)
        if found is None:
            self._id = self._create(config, uri)
            self._logged = 0
            self._evaluations: dict[str, set[int]] = {}
        else:
            self._id = found.info.run_id
            self._logged = int(found.data.tags.get(LOGGED_TAG, 0))
            self._evaluations = {
                name: {metric.step for metric in self._client.get_metric_history(self._id, name)}
                for name in contents.EVALUATED
            }
            self._client.update_run(self._id, status="RUNNING", name=config.name)
        entities = self._entities
        tags = [entities.RunTag(name, value) for name, value in contents.facts(config, status).items()]
        self._client.log_batch(self._id, tags=tags, synchronous=True)
        first = min(self._logged, status.step)
        self._samples = sum(sample.step < first for sample in self._run.read_samples())
        self.write(contents.missed(self._run, first, status.step))

    def write(self, lines: Sequence[Line]) -> None:
        """Log lines, but for what is logged already."""
        for sample in lines:  # before the tag that says that all is there up to a step
            if isinstance(sample, Sample):
                self._samples += 1
                if keeps_sample(self._samples):
                    text = contents.sample_text(sample)
                    self._client.log_text(self._id, text, f"samples/step-{sample.step:08d}.txt")
        curve = [line for line in lines if isinstance(line, Metrics)]
        for start in range(0, len(curve), LINES_AT_ONCE):
            piece = curve[start : start + LINES_AT_ONCE]
            if numbers := [number for line in piece for number in self._numbers(line)]:
                self._logged = max(self._logged, piece[-1].step)
                tag = self._entities.RunTag(LOGGED_TAG, str(self._logged))
                self._client.log_batch(self._id, metrics=numbers, tags=[tag], synchronous=True)

    def end(self, run: RunDirectory, status: Status) -> None:
        """Add the run's files and its picture, and say how it ended."""
        for name in FILES:
            if (run.path / name).exists():
                self._client.log_artifact(self._id, str(run.path / name))
        if curve := run.read_metrics():
            self._add_plots([(run.name, curve)])
        self._client.set_terminated(self._id, STATES.get(status.state, "FINISHED"))

    def _find(self, uri: str) -> Any:
        """MLflow's run that this one is, or None when it has none there, or no longer."""
        try:
            place = msgspec.json.decode((self.folder / "run.json").read_bytes(), type=Place)
        except (OSError, ValueError):
            return None
        if place.tracking_uri != uri:
            return None
        try:
            return self._client.get_run(place.run_id)
        except self._error as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _create(self, config: RunConfig, uri: str) -> str:
        created = self._client.create_run(
            self._experiment(uri), start_time=round(config.created * 1000), run_name=config.name
        )
        run_id: str = created.info.run_id
        params = [self._entities.Param(name, value) for name, value in contents.settings(config).items()]
        self._client.log_batch(run_id, params=params, synchronous=True)
        place = msgspec.json.encode(Place(uri, run_id)) + b"\n"
        safe_writing.write_file(self.folder / "run.json", place)
        return run_id

    def _experiment(self, uri: str) -> str:
        """The id of the experiment, which is made where there is none."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is None:
            is_local = uri.startswith(("sqlite:", "file:", "/"))  # a server knows best where its artifacts lie
            artifacts = (folders.mlflow_folder() / "artifacts").as_uri() if is_local else None
            try:
                new: str = self._client.create_experiment(name, artifact_location=artifacts)
                return new
            except self._error as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was faster
                    raise
                found = self._client.get_experiment_by_name(name)
        known: str = found.experiment_id
        return known

    def _numbers(self, line: Metrics) -> Iterator[Any]:
        """What MLflow does not have of a line."""
        when = round(contents.wall_time(self._config, line) * 1000)
        for name, value in contents.scalars(line).items():
            if line.step > self._logged or line.step not in self._evaluations.get(name, {line.step}):
                yield self._entities.Metric(name, value, when, line.step)

    def _add_plots(self, runs: plots.Runs) -> None:
        plots.write_loss_data(self.folder / "loss_data.json", runs)
        self._client.log_artifact(self._id, str(self.folder / "loss_data.json"))
        try:
            plots.write_plot(self.folder / "loss.png", runs)
        except InvalidSettingError as error:  # matplotlib is not there
            self._run.log(f"MLflow gets no picture of the loss: {error}")
            return
        self._client.log_artifact(self._id, str(self.folder / "loss.png"))


def tracking_uri() -> str:
    """Where MLflow's runs are: what MLFLOW_TRACKING_URI says, or a SQLite file under the user's data folder."""
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    return f"sqlite:///{folders.private(folders.mlflow_folder()) / 'mlflow.db'}"


def keeps_sample(number: int) -> bool:
    """Whether the sample of this number, counted from 1, becomes an artifact.

    All of the first hundred do, then each tenth, from a thousand on each hundredth: 90 for each power of ten.
    """
    stride: int = 10 ** max(0, len(str(number)) - 2)
    return number % stride == 0
