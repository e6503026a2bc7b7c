"""Follows a training run from outside: reads what is new in its directory, and its past from the end backwards, in
pieces so small that a screen can do it between two frames. It only reads, so it can never hold a run up. Knows nothing
of torch.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.training.run import Metrics, Sample, end_of_lines, resumed_from
from engine.training.runs import RunInfo, read_run

BLOCK = 64 * 1024
LOG_BYTES = 64 * 1024
"""So much of the end of a log is kept."""

INFO_SECONDS = 0.25
"""The status is read again after this time."""

Record = TypeVar("Record", Metrics, Sample)


class GrowingLines:
    """A file of lines that another process appends to, read from its end on, and backwards to its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: int | None = None  # where the lines begin that were read; None before the first look
        self._end = 0  # where they end
        self._torn = b""  # the end of the line at whose middle the last block backwards began

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known of that has not been read."""
        return not self._first

    @property
    def was_replaced(self) -> bool:
        """Whether the file is shorter than what was read of it: another one, to be read anew."""
        try:
            return self._path.stat().st_size < self._end
        except OSError:
            return self._end > 0

    def newer(self, limit: int = 16 * BLOCK) -> list[bytes]:
        """The whole lines that were appended since the last look, at most about `limit` bytes of them."""
        try:
            with self._path.open("rb") as file:
                if self._first is None:
                    self._first = self._end = end_of_lines(file)
                file.seek(self._end)
                data = file.read(limit)
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        self._end += end
        return data[:end].splitlines()

    def older(self, size: int = BLOCK) -> list[bytes]:
        """The whole lines of the block of `size` bytes before those that were read; none at the beginning."""
        if not self._first:
            return []
        begin = max(0, self._first - size)
        try:
            with self._path.open("rb") as file:
                file.seek(begin)
                data = file.read(self._first - begin) + self._torn
        except OSError:
            return []
        self._first = begin
        self._torn = b""
        if begin > 0:
            first, found, data = data.partition(b"\n")
            self._torn = first + found
        return data.splitlines()


class Curves:
    """What the metrics of a run say, by step: columns of the same length, and the evaluations.

    Attributes:
        steps: Steps taken, increasing; 64-bit integers, all other columns are doubles.
        evaluations: (step, validation loss, loss of the training split or None).
    """

    COLUMNS = ("time", "tokens", "train_loss", "lr", "grad_norm", "tokens_per_second")

    def __init__(self) -> None:
        self.steps = array("q")
        self.columns: dict[str, array[float]] = {name: array("d") for name in self.COLUMNS}
        self.evaluations: list[tuple[int, float, float | None]] = []

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, name: str) -> array[float]:
        return self.columns[name]

    def append(self, metrics: Metrics) -> None:
        """Add a step behind the others."""
        self.steps.append(metrics.step)
        for name, column in self.columns.items():
            column.append(getattr(metrics, name))
        if metrics.val_loss is not None:
            self.evaluations.append((metrics.step, metrics.val_loss, metrics.train_split_loss))

    def drop_after(self, step: int) -> None:
        """Forget the steps after one."""
        left = len(self.steps)
        while left and self.steps[left - 1] > step:
            left -= 1
        del self.steps[left:]
        for column in self.columns.values():
            del column[left:]
        while self.evaluations and self.evaluations[-1][0] > step:
            self.evaluations.pop()

    def extend(self, later: Curves) -> None:
        """Add the steps behind those that are here."""
        self.steps += later.steps
        for name, column in self.columns.items():
            column += later.columns[name]
        self.evaluations += later.evaluations


class RunReader:
    """One run, as far as it has been read.

    Attributes:
        info: The run's state, as of the latest look.
        curves: Its metrics, the latest first read, the earlier ones as time allows.
        samples: What the model wrote, by step.
        log: The end of its log, as lines.
        damaged: How many lines made no sense and were left out.
        version: Grows when curves, samples or log have changed.

    Args:
        path: The run's directory.
        info_of: Tells its state from that; of a copy, what is driven elsewhere.
    """

    def __init__(self, path: Path, info_of: Callable[[Path], RunInfo] = read_run) -> None:
        self.path = path
        self._info_of = info_of
        self.info: RunInfo = info_of(path)
        self.version = 0
        self._info_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self.curves = Curves()
        self.samples: list[Sample] = []
        self.log: list[str] = []
        self.damaged = 0
        self._metrics_lines = GrowingLines(self.path / "metrics.jsonl")
        self._sample_lines = GrowingLines(self.path / "samples.jsonl")
        self._log_end = 0
        self._metrics_before = self._samples_before = 1 << 62  # earlier lines of later steps were taken back
        self._metrics_of: Callable[[bytes], Metrics] = msgspec.json.Decoder(Metrics).decode
        self._sample_of: Callable[[bytes], Sample] = msgspec.json.Decoder(Sample).decode

    @property
    def is_whole(self) -> bool:
        """Whether the whole past of the run has been read."""
        return self._metrics_lines.is_whole and self._sample_lines.is_whole

    def poll(self, seconds: float = 0.004) -> bool:
        """Read what is new, and as much of the past as there is time for.

        Args:
            seconds: About how long it may take; what is left is read by the next calls.

        Returns:
            Whether anything was found that was not known before.
        """
        until = time.monotonic() + seconds
        before, created = self.version, _created(self.info)
        changed = self._read_info()
        was_replaced = self._metrics_lines.was_replaced or self._sample_lines.was_replaced
        if was_replaced or _created(self.info) != created:  # another run has taken the name
            self._begin()
            self.version += 1
        self._read_newer()
        self._read_log()
        self._read_older(until)
        return changed or self.version != before

    def read_all(self) -> None:
        """Read the whole of it, however long it takes."""
        self.poll()
        while not self.is_whole and self.poll(1.0):
            pass

    def _read_info(self) -> bool:
        if time.monotonic() - self._info_at < INFO_SECONDS:
            return False
        before, self.info = self.info, self._info_of(self.path)
        self._info_at = time.monotonic()
        return before != self.info

    def _read_newer(self) -> None:
        for line in self._metrics_lines.newer():
            found = self._decode(line, self._metrics_of)
            if isinstance(found, Metrics):
                self.curves.append(found)
            elif found is not None:
                self.curves.drop_after(found)
                self._metrics_before = min(self._metrics_before, found)
            self.version += 1
        for line in self._sample_lines.newer():
            sample = self._decode(line, self._sample_of)
            if isinstance(sample, Sample):
                self.samples.append(sample)
            elif sample is not None:
                while self.samples and self.samples[-1].step > sample:
                    self.samples.pop()
                self._samples_before = min(self._samples_before, sample)
            self.version += 1

    def _decode(self, line: bytes, record_of: Callable[[bytes], Record]) -> Record | int | None:
        """What a line says: a record, or the step that the run was resumed from; None when it makes no sense."""
        try:
            step = resumed_from(line)
            return record_of(line) if step is None else step
        except ValueError:  # msgspec's errors are ValueErrors
            self.damaged += 1
            return None

    def _read_older(self, until: float) -> None:
        parts: list[Curves] = []
        while not self._metrics_lines.is_whole and time.monotonic() < until:
            if lines := self._metrics_lines.older():
                parts.append(self._earlier_curves(lines))
            elif not self._metrics_lines.is_whole:
                break  # there is no file yet
        if parts:
            curves = parts.pop()
            for part in (*reversed(parts), self.curves):
                curves.extend(part)
            self.curves = curves
            self.version += 1
        while not self._sample_lines.is_whole and time.monotonic() < until:
            lines = self._sample_lines.older()
            if not lines and not self._sample_lines.is_whole:
                break
            self.samples[:0] = self._earlier_samples(lines)
            self.version += 1

    def _earlier_curves(self, lines: list[bytes]) -> Curves:
        """The curves of lines that come before all that were read."""
        found: list[Metrics] = []
        for line in reversed(lines):
            metrics = self._decode(line, self._metrics_of)
            if isinstance(metrics, int):
                self._metrics_before = min(self._metrics_before, metrics)
            elif metrics is not None and metrics.step <= self._metrics_before:
                found.append(metrics)
        curves = Curves()
        for metrics in reversed(found):
            curves.append(metrics)
        return curves

    def _earlier_samples(self, lines: list[bytes]) -> list[Sample]:
        found: list[Sample] = []
        for line in reversed(lines):
            sample = self._decode(line, self._sample_of)
            if isinstance(sample, int):
                self._samples_before = min(self._samples_before, sample)
            elif sample is not None and sample.step <= self._samples_before:
                found.append(sample)
        return found[::-1]

    def _read_log(self) -> None:
        path = self.path / "log.txt"
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            if size == self._log_end:
                return
            with path.open("rb") as file:
                file.seek(max(0, size - LOG_BYTES))
                self.log = file.read().decode(errors="replace").splitlines()
            self._log_end = size
            self.version += 1


def _created(info: RunInfo) -> float:
    return info.config.created if info.config else 0.0
