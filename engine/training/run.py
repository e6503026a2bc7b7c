"""The directory of a training run: what the trainer writes and everyone else reads. Knows nothing of torch.

config.json     the settings (TrainConfig) and the text
status.json     state, step, pid, host and heartbeat, replaced in one step each time
metrics.jsonl   a line for each step, only ever appended to
samples.jsonl   what the model wrote along the way
log.txt         what the process said
checkpoints/    step-N/, models in the native format
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from engine import folders, safe_writing
from engine.config import TrainConfig
from engine.errors import RunError

State = Literal["starting", "running", "paused", "finished", "stopped", "crashed"]

NAME_CHARACTERS, NAME_BYTES = 100, 200
"""The longest name of a run; file systems count bytes, and take 255 of them."""


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`config.json` of a run.

    Attributes:
        text: Where the text came from: the paths or names given, and those for validation and test.
        data: What the text was, as `engine.text.provenance.TextRecord`.
        training: The settings.
    """

    name: str
    created: float
    training: TrainConfig
    text: dict[str, Any] = {}
    data: dict[str, Any] = {}


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`status.json` of a run; losses in nats per token, times in seconds since 1970."""

    state: State
    step: int = 0
    steps: int = 0
    pid: int = 0
    host: str = ""
    heartbeat: float = 0.0
    started: float = 0.0
    train_loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    parameters: int = 0
    device: str = ""
    precision: str = ""
    reason: str = ""


class Metrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `metrics.jsonl`.

    Attributes:
        step: Steps taken, from 1.
        time: Seconds of training so far.
        tokens: Training tokens seen so far.
        train_loss: Of the batch, in nats per token.
        lr: AdamW's learning rate.
        val_loss: After an evaluation, in nats per token.
    """

    step: int
    time: float
    tokens: int
    train_loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float
    val_loss: float | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `samples.jsonl`: what the model wrote after `step` steps."""

    step: int
    prompt: str
    text: str
    seed: int


class RunDirectory:
    """One run's directory, opened for reading or writing. Writing is for one process alone."""

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
        if not re.match(r"\w", config.name) or not all(map(_fits_a_name, config.name)):
            raise RunError(f"{config.name!r} cannot name a run", "use letters, digits, '-', '_' and '.'")
        if _cut(config.name, NAME_CHARACTERS, NAME_BYTES) != config.name:
            raise RunError(f"the name {config.name} is too long for a run", f"use at most {NAME_BYTES} bytes of UTF-8")
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
            configuration = msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"
            safe_writing.write_file(path / "config.json", configuration)
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

    def write_status(self, status: Status) -> None:
        """Replace `status.json`, with this process and this moment as its heartbeat."""
        status = msgspec.structs.replace(status, pid=os.getpid(), host=socket.gethostname(), heartbeat=time.time())
        _replace(self.path / "status.json", msgspec.json.encode(status) + b"\n")

    def read_status(self) -> Status:
        """The latest status.

        Raises:
            RunError: There is none, or it cannot be read.
        """
        status: Status = _read(self.path / "status.json", Status)
        return status

    def read_config(self) -> RunConfig:
        """The run's settings; raises as `read_status`."""
        config: RunConfig = _read(self.path / "config.json", RunConfig)
        return config

    def append_metrics(self, metrics: Metrics) -> None:
        """Add a line to `metrics.jsonl`; it reaches the disk within half a second."""
        if self._metrics is None:
            self._metrics = (self.path / "metrics.jsonl").open("ab")
        self._metrics.write(msgspec.json.encode(metrics) + b"\n")
        if metrics.val_loss is not None or time.monotonic() - self._flushed > 0.5:
            self._metrics.flush()
            self._flushed = time.monotonic()

    def append_sample(self, sample: Sample) -> None:
        """Add a line to `samples.jsonl`."""
        with (self.path / "samples.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(sample) + b"\n")

    def log(self, line: str) -> None:
        """Add a line, with the time before it, to `log.txt`."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def read_metrics(self) -> list[Metrics]:
        """All whole lines of `metrics.jsonl`; a torn last line is left out."""
        return list(_read_lines(self.path / "metrics.jsonl", Metrics))

    def read_samples(self) -> list[Sample]:
        """All whole lines of `samples.jsonl`; a torn last line is left out."""
        return list(_read_lines(self.path / "samples.jsonl", Sample))

    def close(self) -> None:
        """Flush and close what is open."""
        if self._metrics is not None:
            file, self._metrics = self._metrics, None  # also when the last lines find no room
            file.close()


def _cannot_be_made(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be made ({error.strerror or error})", "free some space, or set MINIGPT_HOME")


def free_run_name(stem: str) -> str:
    """`stem` made fit to name a run, with a number behind it where the name is taken."""
    fitting = "".join(character if _fits_a_name(character) else " " for character in stem)
    stem = re.sub(r"^\W+", "", "-".join(fitting.split()))
    stem = _cut(stem, NAME_CHARACTERS - 20, NAME_BYTES - 20).rstrip("-.+") or "run"
    taken, name, number = folders.runs_folder(), stem, 1
    while (taken / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def _fits_a_name(character: str) -> bool:
    """Letters, digits, the marks that many scripts write their vowels with, and a few signs."""
    return bool(re.match(r"[\w.+-]", character)) or unicodedata.category(character).startswith("M")


def _cut(name: str, characters: int, size: int) -> str:
    """The beginning of a name, at most so many characters and bytes of it."""
    return name[:characters].encode()[:size].decode(errors="ignore")


def _replace(path: Path, data: bytes) -> None:
    """Replace a file in one step, without waiting for the disk: that may take longer than a step of training."""
    temporary = path.with_name(f".{path.name}.writing-{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path} cannot be read ({error})", "the folder is not a training run, or is damaged") from None


def _read_lines(path: Path, kind: Any) -> Iterator[Any]:
    lines: Sequence[bytes] = path.read_bytes().split(b"\n") if path.exists() else []
    for line in lines[:-1]:  # behind the last line break there is nothing, or a line still being written
        yield msgspec.json.decode(line, type=kind)
