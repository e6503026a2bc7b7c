"""Answers what a client asks about this machine, beside the texts that are written: in threads of its own, which read
small files, so that no text waits for a list. Knows nothing of torch, nor of pipes.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from engine import catalog
from engine.errors import MiniGPTError
from engine.training import control, launch, runs
from engine.training.run import RunDirectory
from engine.training.run_reader import LOG_BYTES
from engine.worker.answers import (
    Amount,
    CheckpointsListed,
    Fine,
    ModelsListed,
    RunPart,
    RunsListed,
    encode_answer,
)
from engine.worker.protocol import Ask, Error, Event, Told
from engine.worker.questions import (
    AnyQuestion,
    AwaitRun,
    ControlRun,
    ListCheckpoints,
    ListModels,
    ListRuns,
    MeasureRun,
    PruneRun,
    ReadRun,
    RemoveRun,
    RenameRun,
    ResumeRun,
)

THREADS = 4
"""One that waits for a run to begin must not keep the lists waiting."""

PART_BYTES = 512 * 1024
"""Of each file at most so much is told in one answer."""


class Machine:
    """Who answers.

    Args:
        send: Takes the answers, from any thread.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="answers")

    def take(self, ask: Ask) -> None:
        """Answer a question as soon as a thread is free."""
        self._threads.submit(self._answer, ask)

    def _answer(self, ask: Ask) -> None:
        event: Event
        try:
            event = Told(id=ask.id, answer=encode_answer(answer(ask.question)))
            self._send(event)
        except MiniGPTError as error:
            self._send(Error(id=ask.id, kind=type(error).__name__, message=error.message, hint=error.hint))
        except Exception as error:
            traceback.print_exception(error)
            line = next(iter(str(error).splitlines()), type(error).__name__)
            message = f"the engine cannot say it ({line})"[:500]
            self._send(Error(id=ask.id, kind="InternalError", message=message, hint="its log has more"))


def answer(question: AnyQuestion) -> msgspec.Struct:
    """The answer to a question.

    Raises:
        MiniGPTError: There is no such run, or what was asked for cannot be done.
    """
    match question:
        case ListRuns():
            return RunsListed(tuple(runs.list_runs()))
        case ReadRun():
            return _part(runs.find_run(question.name), question)
        case ListModels():
            return ModelsListed(tuple(catalog.list_checkpoints()))
        case ListCheckpoints():
            return CheckpointsListed(tuple(runs.list_run_checkpoints(question.first)))
        case MeasureRun():
            path = runs.find_run(question.name)
            return Amount(len(runs.checkpoint_steps(path)), runs.disk_use(path))
        case PruneRun():
            return Amount(*runs.prune_run(runs.find_run(question.name)))
        case _:
            _change(question)
            return Fine()


def _change(question: ControlRun | ResumeRun | AwaitRun | RenameRun | RemoveRun) -> None:
    match question:
        case ControlRun():
            control.request(runs.find_run(question.name), question.command)
        case ResumeRun():
            launch.resume_run(question.name, {} if question.steps is None else {"steps": question.steps})
        case AwaitRun():
            launch.wait_until_running(RunDirectory(runs.find_run(question.name)))
        case RenameRun():
            runs.rename_run(question.name, question.new_name)
        case RemoveRun():
            runs.remove_run(question.name)


def _part(path: Path, question: ReadRun) -> RunPart:
    metrics, more_metrics = _lines(path / "metrics.jsonl", question.metrics)
    samples, more_samples = _lines(path / "samples.jsonl", question.samples)
    log, size = _log(path / "log.txt", question.log)
    return RunPart(
        info=runs.read_run(path),
        metrics=metrics or b"",
        samples=samples or b"",
        log=log,
        log_size=size,
        checkpoints=runs.checkpoint_steps(path),
        replaced=metrics is None or samples is None,
        more=more_metrics or more_samples,
    )


def _lines(path: Path, start: int) -> tuple[bytes | None, bool]:
    """The whole lines from a place on, and whether there are more; None where the file ends before that place.

    A line that is being written is left for later: it may be taken back.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) < start:
                return None, False
            file.seek(start)
            data = file.read(PART_BYTES)
    except OSError:
        return (None if start else b""), False
    return data[: data.rfind(b"\n") + 1], len(data) == PART_BYTES


def _log(path: Path, known: int) -> tuple[bytes | None, int]:
    """The end of a log that is not as long as it was, and how long it is."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == known:
                return None, size
            file.seek(max(0, size - LOG_BYTES))
            return file.read(), size
    except OSError:
        return None, known
