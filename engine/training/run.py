"""The directory of a training run: what the trainer writes and everyone else reads. Knows nothing of torch.

config.json     the settings, where the text is, and what it was
status.json     state, step, losses, pid, host and heartbeat, replaced in one step each time
metrics.jsonl   a line for each step, only ever appended to; {"resumed_from": n} takes back the later steps before it
samples.jsonl   what the model wrote along the way, in the same manner
control.json    what is asked of the trainer (`control.py`)
lock            held by whoever drives the run (`run_lock.py`)
log.txt         what the process said
checkpoints/    step-N/, models in the native format
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from engine import folders, safe_writing
from engine.config import TrainConfig
from engine.errors import RunError
from engine.training.run_names import check_run_name

State = Literal["starting", "running", "paused", "finished", "stopped", "crashed"]

UNDER_WAY: tuple[State, ...] = ("starting", "running", "paused")
"""The states of a run that a process drives; what is in one of them and has none has crashed."""

FLUSH_SECONDS = 0.25
"""A line of metrics reaches its readers within this time."""


class TextSources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the text of a run is.

    Attributes:
        train: Absolute paths, and names of the library.
        val: What was given for validation, or None for the last tenth of the text.
        test: What was given for a test at the end.
        column: Where the text is in CSV and JSONL files, where that was said.
    """

    train: tuple[str, ...]
    val: str | None = None
    test: str | None = None
    column: str | None = None


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`config.json` of a run.

    Attributes:
        created: Seconds since 1970.
        training: The settings.
        text: Where the text is.
        device: auto, cpu, cuda or mps, as it was asked for.
        nproc: Processes that train together, one for each GPU.
        base: The model that it was started from, by its path; empty for fresh weights.
        data: What the text was, as `engine.text.provenance.TextRecord`; the trainer fills it in when it has read it.
        threads: Of each process's arithmetic on the CPU, which its rounding depends on; 0 until the run has begun.
        precision: What `auto` chose; empty until the run has begun.
        changes: What was set when the run was resumed: (step, settings).
    """

    name: str
    created: float
    training: TrainConfig
    text: TextSources
    device: str = "auto"
    nproc: int = 1
    base: str = ""
    data: dict[str, Any] = {}
    threads: int = 0
    precision: str = ""
    changes: tuple[tuple[int, dict[str, Any]], ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`status.json` of a run; losses in nats per token, times in seconds.

    Attributes:
        activity: What it does beside taking steps, such as `evaluating`; empty while it takes steps.
        done: How much of that is done, from 0 to 1.
        heartbeat: When this was written, since 1970.
        seconds: Of training so far, without pauses and without what was lost to a kill.
        train_loss: Of the latest batch.
        val_loss: Of the latest evaluation.
        tokens_per_step: Of the global batch, which all processes share: batch_size x accumulation x block_size.
        train_tokens: Size of the training split.
        reason: Why it crashed.
        hint: What to do about that.
        kind: The name of the error's class.
        best: Once ended, the checkpoint of the lowest validation loss, or the last one without a split; `step-N`.
    """

    state: State
    step: int = 0
    steps: int = 0
    activity: str = ""
    done: float = 0.0
    pid: int = 0
    host: str = ""
    heartbeat: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    tokens_per_second: float = 0.0
    train_loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    test_loss: float | None = None
    parameters: int = 0
    vocab_size: int = 0
    tokens_per_step: int = 0
    train_tokens: int = 0
    val_tokens: int = 0
    device: str = ""
    precision: str = ""
    threads: int = 0
    reason: str = ""
    hint: str = ""
    kind: str = ""
    best: str = ""


class Metrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `metrics.jsonl`.

    Attributes:
        step: Steps taken, from 1.
        time: Seconds of training so far.
        tokens: Training tokens seen so far.
        train_loss: Of the batch, in nats per token.
        lr: AdamW's learning rate.
        grad_norm: Before clipping; 0 for a step that was left out, as its fp16 gradient overflowed.
        val_loss: After an evaluation, in nats per token.
        train_split_loss: Of the training split, evaluated in the same way.
    """

    step: int
    time: float
    tokens: int
    train_loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float
    val_loss: float | None = None
    train_split_loss: float | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `samples.jsonl`: what the model wrote after `step` steps."""

    step: int
    prompt: str
    text: str
    seed: int


class Resumed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of both: the run went on from here, and the later steps before this line never were."""

    resumed_from: int


class RunDirectory:
    """One run's directory. Writing is for the process alone that holds its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics: IO[bytes] | None = None
        self._flushed = 0.0

    @classmethod
    def create(cls, config: RunConfig) -> RunDirectory:
        """Make the directory of a new run under the user's runs folder.

        Raises:
            RunError: The name is taken, is no name for a folder, or the folder cannot be made.
        """
        check_run_name(config.name)
        path = folders.runs_folder() / config.name
        try:
            folders.private(path.parent)
            path.mkdir(mode=0o700)
        except FileExistsError:
            raise RunError(
                f"there is a run {config.name} already", "choose another --name, or remove that run"
            ) from None
        except OSError as error:
            raise _cannot_be_made(path, error) from None
        run = cls(path)
        try:
            (path / "checkpoints").mkdir(mode=0o700)
            run.write_config(config)
            run.write_status(Status(state="starting", steps=config.training.steps))
            safe_writing.sync(path.parent)
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            raise _cannot_be_made(path, error) from None
        return run

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return self.path.name

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.path / "checkpoints" / f"step-{step}"

    def write_config(self, config: RunConfig) -> None:
        """Replace `config.json`."""
        text = msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"
        safe_writing.write_file(self.path / "config.json", text)

    def read_config(self) -> RunConfig:
        """The run's settings.

        Raises:
            RunError: There are none, or they cannot be read.
        """
        config: RunConfig = _read(self.path / "config.json", RunConfig)
        return config

    def write_status(self, status: Status) -> None:
        """Replace `status.json`, with this process and this moment as its heartbeat."""
        _replace(self.path / "status.json", _signed(status))

    def overwrite_status(self, status: Status) -> None:
        """Write over `status.json` as it lies on the disk: the last words of a run whose disk is full."""
        with (self.path / "status.json").open("r+b") as file:
            file.write(_signed(status).ljust(os.fstat(file.fileno()).st_size))  # white space covers a longer one

    def read_status(self) -> Status:
        """The latest status, as it was written; `runs.read_run` says whether it can still be so. Raises as above."""
        status: Status = _read(self.path / "status.json", Status)
        return status

    def append_metrics(self, metrics: Metrics) -> None:
        """Add a line to `metrics.jsonl`; readers see it within `FLUSH_SECONDS`, or at the next step after that."""
        if self._metrics is None:
            self._metrics = (self.path / "metrics.jsonl").open("ab")
        self._metrics.write(msgspec.json.encode(metrics) + b"\n")
        if metrics.val_loss is not None or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._metrics.flush()
            self._flushed = time.monotonic()

    def append_sample(self, sample: Sample) -> None:
        """Add a line to `samples.jsonl`."""
        with (self.path / "samples.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(sample) + b"\n")

    def append_resumed(self, step: int) -> None:
        """Take back what was written of the steps after `step`, and a last line that was cut short."""
        self.close()
        line = msgspec.json.encode(Resumed(step)) + b"\n"
        for name in ("metrics.jsonl", "samples.jsonl"):
            path = self.path / name
            if path.exists():
                with path.open("r+b") as file:
                    file.truncate(end_of_lines(file))
                    file.seek(0, os.SEEK_END)
                    file.write(line)

    def sync_lines(self) -> None:
        """Wait until all lines of metrics and samples are on the disk, before a checkpoint that comes after them."""
        if self._metrics is not None:
            self._metrics.flush()
        for name in ("metrics.jsonl", "samples.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                safe_writing.sync(self.path / name)

    def log(self, line: str) -> None:
        """Add a line, with the time before it, to `log.txt`."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def read_metrics(self) -> list[Metrics]:
        """The run's steps in their order, each once; what is still being written is left out."""
        return _read_lines(self.path / "metrics.jsonl", Metrics)

    def read_samples(self) -> list[Sample]:
        """The run's samples in their order; what is still being written is left out."""
        return _read_lines(self.path / "samples.jsonl", Sample)

    def close(self) -> None:
        """Flush and close what is open."""
        if self._metrics is not None:
            file, self._metrics = self._metrics, None  # also when the last lines find no room
            file.close()


def _cannot_be_made(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be made ({error.strerror or error})", "free some space, or set MINIGPT_HOME")


def _signed(status: Status) -> bytes:
    """A status as it is written, by this process and at this moment."""
    status = msgspec.structs.replace(status, pid=os.getpid(), host=socket.gethostname(), heartbeat=time.time())
    return msgspec.json.encode(status) + b"\n"


def _replace(path: Path, data: bytes) -> None:
    """Replace a file in one step, without waiting for the disk: that may take longer than a step of training."""
    temporary = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        temporary.write_bytes(data)
        safe_writing.put(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(safe_writing.read(path), type=kind)
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors, and so are settings out of range
        raise RunError(f"{path} cannot be read ({error})", "the folder is not a training run, or is damaged") from None


def _read_lines(path: Path, kind: Any) -> list[Any]:
    lines: list[bytes] = path.read_bytes().split(b"\n") if path.exists() else []
    found: list[Any] = []
    decoder = msgspec.json.Decoder(kind)
    for line in lines[:-1]:  # behind the last line break there is nothing, or a line still being written
        if (step := resumed_from(line)) is None:
            found.append(decoder.decode(line))
        else:
            while found and found[-1].step > step:
                found.pop()
    return found


def resumed_from(line: bytes) -> int | None:
    """The step that a line of metrics or samples says the run was resumed from, or None for another line."""
    if not line.startswith(b'{"resumed_from"'):
        return None
    return msgspec.json.decode(line, type=Resumed).resumed_from


def end_of_lines(file: IO[bytes]) -> int:
    """Where the last whole line of a file ends, in bytes."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - 65_536)
        file.seek(begin)
        place = file.read(end - begin).rfind(b"\n")
        if place >= 0:
            return begin + place + 1
        end = begin
    return 0
