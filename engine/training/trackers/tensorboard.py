"""A run as TensorBoard's event files, under `trackers/tensorboard/` of its directory.

They are written with TensorBoard's own records and protocol buffers and nothing else of it, so that neither torch's
writer nor an installed TensorFlow is imported for them.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from engine import folders, safe_writing
from engine.errors import InvalidSettingError
from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, Status
from engine.training.trackers import contents
from engine.training.trackers.background import Line

WRITTEN = "written.json"
"""Beside the event files: up to which step they are complete."""


class Written(msgspec.Struct, frozen=True):
    """What `written.json` holds."""

    step: int = 0


class TensorBoardRecorder:
    """Writes scalars for each step, samples as text, and the settings as a table.

    A run that is resumed goes on in another file of the same folder. Its first event takes back what a killed process
    wrote after the checkpoint, and what that process did not come to write is filled in from the run's own files.
    """

    seconds = 2.0

    def __init__(self, run: RunDirectory) -> None:
        """Find TensorBoard's modules.

        Raises:
            InvalidSettingError: The package is not installed.
        """
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.plugins.text import metadata
            from tensorboard.summary.writer.record_writer import RecordWriter
            from tensorboard.util import tensor_util
        except ImportError as error:
            raise InvalidSettingError(
                f"tensorboard is not installed, or not all of it ({error})", "pip install 'minigpt-tui[track]'"
            ) from None
        self._events: Any = event_pb2
        self._summaries: Any = summary_pb2
        self._text_metadata: Any = metadata.create_summary_metadata("", "")
        self._make_tensor: Any = tensor_util.make_tensor_proto
        self._record_writer: Any = RecordWriter
        self._run = run
        self.folder = run.path / "trackers" / "tensorboard"

    def begin(self, config: RunConfig, status: Status) -> None:
        """Open the next event file, and take up where the one before it is of use."""
        self._config = config
        folders.private(self.folder)
        earlier = sorted(self.folder.glob("events.out.tfevents.*"))
        first = min(_written(self.folder), status.step)
        self._remember(first)  # the later steps are about to be taken back
        self._file: IO[bytes] = (self.folder / _next_name(earlier)).open("wb")
        self._writer = self._record_writer(self._file)
        self._write(self._events.Event(wall_time=config.created, file_version="brain.Event:2"))
        start = self._events.SessionLog(status=self._events.SessionLog.START)  # TensorBoard obeys all but the first
        self._write(self._events.Event(wall_time=config.created, step=first, session_log=start))
        now = time.time()
        self._write_text("config/settings", status.step, now, _table(contents.settings(config)))
        self._write_text("config/facts", status.step, now, _table(contents.facts(config, status)))
        self.write(contents.missed(self._run, first, status.step))

    def write(self, lines: Sequence[Line]) -> None:
        """Write lines, and remember that they are written."""
        for line in lines:
            if isinstance(line, Metrics):
                when = contents.wall_time(self._config, line)
                values = [
                    self._summaries.Summary.Value(tag=name, simple_value=value)
                    for name, value in contents.scalars(line).items()
                ]
                self._write_values(line.step, when, values)
            else:
                self._write_text("samples", line.step, time.time(), _quoted(line))
        self._file.flush()
        if lines:
            self._remember(lines[-1].step)

    def end(self, run: RunDirectory, status: Status) -> None:
        """Close the event file."""
        self._file.close()

    def _remember(self, step: int) -> None:
        safe_writing.write_file(self.folder / WRITTEN, msgspec.json.encode(Written(step)) + b"\n")

    def _write_text(self, tag: str, step: int, when: float, markdown: str) -> None:
        value = self._summaries.Summary.Value(
            tag=f"{tag}/text_summary", metadata=self._text_metadata, tensor=self._make_tensor([markdown.encode()])
        )
        self._write_values(step, when, [value])

    def _write_values(self, step: int, when: float, values: list[Any]) -> None:
        summary = self._summaries.Summary(value=values)
        self._write(self._events.Event(wall_time=when, step=step, summary=summary))

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())


def _written(folder: Path) -> int:
    """Up to which step the event files are complete; 0 when that is not known."""
    try:
        return msgspec.json.decode((folder / WRITTEN).read_bytes(), type=Written).step
    except (OSError, ValueError):
        return 0


def _next_name(earlier: Sequence[Path]) -> str:
    """A name that sorts behind the earlier ones, as TensorBoard reads files in that order: the seconds come first."""
    seconds = int(time.time())
    for path in earlier:
        if match := re.match(r"events\.out\.tfevents\.(\d+)", path.name):
            seconds = max(seconds, int(match[1]) + 1)
    return f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.0"


def _table(values: Mapping[str, str]) -> str:
    """Names and values as a table of Markdown, in which the values are not Markdown."""
    rows = [f"| {name} | {_code(value)} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "| --- | --- |", *rows])


def _code(value: str) -> str:
    plain = " ".join(value.split()).replace("`", "'").replace("|", "¦")
    return f"`{plain}`" if plain else ""


def _quoted(sample: Sample) -> str:
    """A sample as a block of code, as what a model writes is no Markdown."""
    return "\n".join(f"    {line}" for line in contents.sample_text(sample).splitlines())
