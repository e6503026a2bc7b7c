"""What a client asks about the machine that the engine runs on: its runs, models and texts, what becomes of a run, and
how one is started. Each question names its answer, of `answers.py` where no other place is named; who answers is
`machine.py`. Knows nothing of torch.
"""

from __future__ import annotations

import msgspec

from engine.config import ModelConfig, TrainConfig
from engine.training.commands import Command
from engine.training.run_wish import RunWish, TypedTexts


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
    """Wait until a run takes its steps or has ended. Answered by `Fine`, or by what its process met.

    Attributes:
        discard: Whether nothing is left of a run that cannot begin.
    """

    name: str
    discard: bool = False


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


class NextCheckpoint(Question, frozen=True, kw_only=True, tag="next_checkpoint"):
    """Which checkpoint of the same run comes before or after a model? Answered by `Named`.

    Attributes:
        model: RUN:step-N, RUN:best, RUN:last or RUN.
        direction: -1 or 1.
    """

    model: str
    direction: int


# Starting a run. What is typed is read there: names of texts, paths and free names are that machine's.


class ListTexts(Question, frozen=True, kw_only=True, tag="texts"):
    """Which texts have a name? Answered by `TextsListed`."""


class CompletePath(Question, frozen=True, kw_only=True, tag="complete"):
    """What could the beginning of a path become? Answered by `Completions` of `engine.text.path_completion`."""

    begun: str


class LookAtTexts(Question, frozen=True, kw_only=True, tag="look"):
    """What are texts like? Answered by `Sight` of `engine.training.run_making`; `Cancel` gives it up."""

    texts: TypedTexts


class MeasureStep(Question, frozen=True, kw_only=True, tag="measure_step"):
    """How long does a step take? Answered by `Measurement` of `engine.training.estimate`; `Cancel` gives it up."""

    training: TrainConfig
    model: ModelConfig
    device: str = "auto"


class CheckRunName(Question, frozen=True, kw_only=True, tag="check_name"):
    """Can a new run be called so? Answered by `Fine`, or by why not."""

    name: str


class FreeRunName(Question, frozen=True, kw_only=True, tag="free_name"):
    """Which name like this one is free? Answered by `Named`."""

    name: str


class ReadBase(Question, frozen=True, kw_only=True, tag="base"):
    """What must be known of a model to go on from it? Answered by `BaseModel` of `engine.training.run_making`.

    Attributes:
        path: Its directory.
        name: What it goes by; empty for its folder's name.
    """

    path: str
    name: str = ""


class KeepText(Question, frozen=True, kw_only=True, tag="keep_text"):
    """Put a text among the user's own. Answered by `Named`, with its path there.

    Attributes:
        name: Of its file.
        data: What is in it; at most `MAX_TEXT_BYTES` of `engine.text.sent_texts`.
    """

    name: str
    data: bytes


class MakeConfig(Question, frozen=True, kw_only=True, tag="make_config"):
    """What is to be started for a wish? Answered by `RunConfig` of `engine.training.run`; nothing is begun yet."""

    wish: RunWish


class StartRun(Question, frozen=True, kw_only=True, tag="start"):
    """Start a run. Answered by `Fine` before it has begun.

    Attributes:
        config: A `RunConfig` of `engine.training.run`.
    """

    config: msgspec.Raw


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
    | NextCheckpoint
    | ListTexts
    | CompletePath
    | LookAtTexts
    | MeasureStep
    | CheckRunName
    | FreeRunName
    | ReadBase
    | KeepText
    | MakeConfig
    | StartRun
)
