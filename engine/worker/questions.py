"""What a client asks about the machine that the engine runs on: its runs, its models, and what becomes of a run.
Each question names its answer, of `answers.py`; who answers is `machine.py`. Knows nothing of torch.
"""

from __future__ import annotations

import msgspec

from engine.training.control import Command


class Question(msgspec.Struct, frozen=True, kw_only=True, tag_field="about", omit_defaults=True):
    """The base of all questions; its JSON carries a tag as `about`."""


class ListRuns(Question, frozen=True, kw_only=True, tag="runs"):
    """Which runs are there? Answered by `RunsListed`."""


class ReadRun(Question, frozen=True, kw_only=True, tag="run"):
    """What is new in a run's directory? Answered by `RunPart`.

    Attributes:
        metrics: How many bytes of its `metrics.jsonl` are known.
        samples: How many of `samples.jsonl`.
        log: How long its log was at the last look; -1 for none so far.
    """

    name: str
    metrics: int = 0
    samples: int = 0
    log: int = -1


class ControlRun(Question, frozen=True, kw_only=True, tag="control"):
    """Ask something of a run, through its control file. Answered by `Fine`."""

    name: str
    command: Command


class ResumeRun(Question, frozen=True, kw_only=True, tag="resume"):
    """Let a run go on, where it is wanted to so many steps. Answered by `Fine` before it has begun."""

    name: str
    steps: int | None = None


class AwaitRun(Question, frozen=True, kw_only=True, tag="await"):
    """Wait until a run takes its steps or has ended. Answered by `Fine`, or by what its process met."""

    name: str


class RenameRun(Question, frozen=True, kw_only=True, tag="rename"):
    """Give a run another name. Answered by `Fine`."""

    name: str
    new_name: str


class RemoveRun(Question, frozen=True, kw_only=True, tag="remove"):
    """Delete a run. Answered by `Fine`."""

    name: str


class PruneRun(Question, frozen=True, kw_only=True, tag="prune"):
    """Delete its checkpoints but the best and the last. Answered by `Amount`, of what went."""

    name: str


class MeasureRun(Question, frozen=True, kw_only=True, tag="measure"):
    """How much does it take? Answered by `Amount`."""

    name: str


class ListModels(Question, frozen=True, kw_only=True, tag="models"):
    """Which models are there? Answered by `ModelsListed`."""


class ListCheckpoints(Question, frozen=True, kw_only=True, tag="checkpoints"):
    """Which checkpoints do the runs have? Answered by `CheckpointsListed`.

    Attributes:
        first: The run whose checkpoints come first.
    """

    first: str = ""


AnyQuestion = (
    ListRuns
    | ReadRun
    | ControlRun
    | ResumeRun
    | AwaitRun
    | RenameRun
    | RemoveRun
    | PruneRun
    | MeasureRun
    | ListModels
    | ListCheckpoints
)
