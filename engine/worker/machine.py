"""Answers what a client asks about this machine, beside the texts that are written: in threads of its own, which read
small files or wait for another process, so that no text waits for a list. Knows nothing of torch, nor of pipes.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from engine import catalog
from engine.errors import InvalidSettingError, MiniGPTError
from engine.text.library import list_texts
from engine.text.path_completion import complete
from engine.text.sent_texts import keep_text
from engine.training import control, launch, run_making, runs
from engine.training.estimate import Measurement, MeasureRequest
from engine.training.run import RunConfig, RunDirectory
from engine.training.run_names import free_run_name
from engine.training.run_reader import LOG_BYTES
from engine.training.survey import Survey
from engine.worker.answers import (
    Amount,
    CheckpointsListed,
    Fine,
    ModelsListed,
    Named,
    RunPart,
    RunsListed,
    TextsListed,
    encode_answer,
)
from engine.worker.errands import Errand
from engine.worker.protocol import Ask, Cancel, Error, Event, Told
from engine.worker.questions import (
    AnyQuestion,
    AwaitRun,
    CheckRunName,
    CompletePath,
    ControlRun,
    FreeRunName,
    KeepText,
    ListCheckpoints,
    ListModels,
    ListRuns,
    ListTexts,
    LookAtTexts,
    MakeConfig,
    MeasureRun,
    MeasureStep,
    NextCheckpoint,
    PruneRun,
    ReadBase,
    ReadRun,
    RemoveRun,
    RenameRun,
    ResumeRun,
    StartRun,
)

THREADS = 8
"""Those that wait for runs to begin, and for other processes, must not keep the lists waiting."""

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
        self._errands: dict[int, Errand] = {}

    def take(self, message: Ask | Cancel) -> bool:
        """Answer a question as soon as a thread is free, or give one up.

        Returns:
            Whether it was a question's.
        """
        if isinstance(message, Cancel):
            if errand := self._errands.get(message.id):
                errand.give_up()
            return errand is not None
        if isinstance(message.question, LookAtTexts | MeasureStep):
            self._errands[message.id] = Errand()  # before it has a thread: it may be given up while it waits for one
        self._threads.submit(self._answer, message)
        return True

    def _answer(self, ask: Ask) -> None:
        event: Event
        question = ask.question
        try:
            if isinstance(question, LookAtTexts | MeasureStep):
                told = _ask_aside(question, self._errands[ask.id])
            else:
                told = answer(question)
            event = Told(id=ask.id, answer=encode_answer(told))
            self._send(event)
        except MiniGPTError as error:
            self._send(Error(id=ask.id, kind=type(error).__name__, message=error.message, hint=error.hint))
        except Exception as error:
            traceback.print_exception(error)
            line = next(iter(str(error).splitlines()), type(error).__name__)
            message = f"the engine cannot say it ({line})"[:500]
            self._send(Error(id=ask.id, kind="InternalError", message=message, hint="its log has more"))
        finally:
            self._errands.pop(ask.id, None)


def _ask_aside(question: LookAtTexts | MeasureStep, errand: Errand) -> msgspec.Struct:
    """What a process of its own says to a question.

    Raises:
        MiniGPTError: It was given up, or cannot be answered.
    """
    if isinstance(question, MeasureStep):
        measured = MeasureRequest(training=question.training, model=question.model, device=question.device)
        return errand.ask("engine.training.measure", measured, Measurement)
    known = run_making.known_texts()
    request = run_making.survey_request(question.texts, known)
    if request is None:
        return run_making.Sight()
    found = errand.ask("engine.training.survey", request, Survey)
    return run_making.Sight(survey=found, free_name=run_making.free_name(question.texts, known))


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
        case NextCheckpoint():
            return Named(runs.next_checkpoint(question.model, question.direction))
        case ListTexts():
            return TextsListed(tuple(list_texts()))
        case CompletePath():
            return complete(question.begun)
        case FreeRunName():
            return Named(free_run_name(question.name))
        case ReadBase():
            return run_making.read_base(Path(question.path), question.name)
        case KeepText():
            return Named(keep_text(question.name, question.data))
        case MakeConfig():
            return run_making.make_config(question.wish, run_making.known_texts())
        case LookAtTexts() | MeasureStep():
            return _ask_aside(question, Errand())
        case _:
            _change(question)
            return Fine()


def _change(question: ControlRun | ResumeRun | AwaitRun | RenameRun | RemoveRun | CheckRunName | StartRun) -> None:
    match question:
        case CheckRunName():
            run_making.check_name(question.name)
        case StartRun():
            launch.start_run(_config(question.config))
        case ControlRun():
            control.request(runs.find_run(question.name), question.command)
        case ResumeRun():
            launch.resume_run(question.name, {} if question.steps is None else {"steps": question.steps})
        case AwaitRun():
            launch.wait_until_running(RunDirectory(runs.find_run(question.name)), discard=question.discard)
        case RenameRun():
            runs.rename_run(question.name, question.new_name)
        case RemoveRun():
            runs.remove_run(question.name)


def _config(raw: msgspec.Raw) -> RunConfig:
    try:
        return msgspec.json.decode(raw, type=RunConfig)
    except msgspec.DecodeError as error:
        raise InvalidSettingError("the settings of the run are not as they must be", str(error)) from None


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
