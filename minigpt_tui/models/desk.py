"""All that is known of one model, for the right side of the models' screen: its facts in words and its training curve.
It reads files, in a thread, and no weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from engine import catalog, folders
from engine.catalog import Record
from engine.errors import CheckpointError, DataError
from engine.formats.configuration import from_hf_config
from engine.remembered import recall
from engine.text.provenance import read_text_record
from engine.training.stopwatch import clock
from minigpt_tui.actions import by_id
from minigpt_tui.columns import count, size
from minigpt_tui.models.shelf import Model
from minigpt_tui.training.run_feed import RunCurves, RunFeed, Wish
from minigpt_tui.visible import visible_line

PRECISIONS = "inference-precision.json"
"""Where the engine remembers which arithmetic `auto` means for a model here."""

READ_SECONDS = 2.0
"""A model's files are looked at again after this time; the list says sooner when one has changed."""


class Remembered(msgspec.Struct, frozen=True):
    """What of that file is wanted here."""

    precision: str


@dataclass(frozen=True)
class Details:
    """A model in full.

    Attributes:
        facts: Names and values, in the order in which they are read; an empty name goes on with the one above.
        curves: Its training curve; none where nothing is known of it.
        axis: Where the curve begins and ends.
        is_whole: Whether all of the curve has been read.
    """

    model: Model
    facts: tuple[tuple[str, str], ...]
    curves: tuple[RunCurves, ...] = ()
    axis: tuple[float, float] = (0.0, 1.0)
    is_whole: bool = True


class Desk:
    """Reads what is known of the model that was chosen. Only one thread at a time may call it."""

    def __init__(self) -> None:
        self._feed = RunFeed()
        self._facts: tuple[Model | None, float, tuple[tuple[str, str], ...]] = None, 0.0, ()
        self._record = Record()
        self._told: Details | None = None

    def look(self, model: Model, points: int) -> Details | None:
        """Read for a while.

        Args:
            model: As the list has it.
            points: Into how many parts the curve's axis can be told apart.

        Returns:
            What is known, when it is not what was known at the last look; None otherwise.
        """
        known, read_at, facts = self._facts
        if known != model or time.monotonic() - read_at > READ_SECONDS:
            self._record = _record(model)
            facts = tuple((name, visible_line(value)) for name, value in _facts(model, self._record))
            self._facts = model, time.monotonic(), facts
        curves, axis = _own_curve(self._record)
        if model.run:
            wish = Wish(run=folders.runs_folder() / model.run, points=points)
            picture = self._feed.look(wish)
            told = self._told
            if picture is not None:
                curves, axis = picture.curves, picture.axis
            elif told is not None and told.model.run == model.run and told.curves:
                curves, axis = told.curves, told.axis
        found = Details(model, facts, curves, axis, not model.run or self._feed.is_whole)
        if found == self._told:
            return None
        self._told = found
        return found


def _record(model: Model) -> Record:
    try:
        return catalog.read_record(model.path)
    except CheckpointError:
        return Record()


def _own_curve(record: Record) -> tuple[tuple[RunCurves, ...], tuple[float, float]]:
    """The losses along the run that a model keeps in its own record."""
    train = tuple((float(step), loss) for step, loss, _ in record.history if loss is not None)
    val = tuple((float(step), loss) for step, _, loss in record.history if loss is not None)
    if not train and not val:
        return (), (0.0, 1.0)
    best = min(val, key=lambda point: point[1], default=None)
    spread = tuple((loss, loss) for _, loss in train)
    axis = 0.0, max(step for step, _ in train + val)
    return (RunCurves(record.run or "training", train, spread, val, best),), axis


def _facts(model: Model, record: Record) -> list[tuple[str, str]]:
    info = model.info
    if info is None:
        return []
    if info.problem:
        return [
            ("empty" if model.is_folder else "damaged", info.problem),
            ("what to do", _remedy(model)),
            ("path", str(model.path)),
        ]
    shape, refusal = _shape(model.path)
    return [
        ("name", f"{model.name}{_whence(model)}"),
        *([("unusable", refusal)] if refusal else []),
        ("family", f"{info.family}{shape}"),
        ("context", f"{info.block_size:,} tokens"),
        ("parameters", f"{info.parameters:,} ({count(info.parameters)}), stored as {info.dtype}"),
        ("tokenizer", f"{info.tokenizer or 'of its own'}, {info.vocab_size:,} tokens"),
        *_training_facts(record),
        ("size", f"{size(info.size)} on disk"),
        ("date", _date(record, info.modified)),
        *_precision_facts(record),
        ("sha256", record.files.get(catalog.WEIGHTS, "not known: it came without hashes")),
        ("path", str(model.path)),
    ]


def _whence(model: Model) -> str:
    if model.kind == "run":
        return f", a run with {model.checkpoints} checkpoints" if model.checkpoints > 1 else ", a run"
    return {"own": ", your own", "bundled": ", ships with minigpt-tui", "added": ", in a folder that you added"}.get(
        model.kind, f" ({model.tags})" if model.tags else ""
    )


def _remedy(model: Model) -> str:
    if model.is_folder:
        return f"{by_id('folder_forget').shown} takes the folder off the list, or put a model there"
    others = {"milestone": "its run's other checkpoints may be whole", "bundled": "install minigpt-tui again"}
    return others.get(model.kind, f"copy it again, or train it again; {by_id('model_remove').shown} removes it")


def _shape(path: Path) -> tuple[str, str]:
    """The shape of a model in words, and why it cannot be used here, or nothing."""
    try:
        config = from_hf_config(catalog.read_config(path))
    except CheckpointError as error:
        return "", str(error)
    heads = f"{config.n_head} heads"
    if config.kv_heads != config.n_head:
        heads += f" on {config.kv_heads} of keys and values"
    shape = f", {config.n_layer} layers, {heads}, width {config.n_embd}, {config.position_kind} positions"
    return shape, ""


def _training_facts(record: Record) -> list[tuple[str, str]]:
    facts = []
    try:
        data = read_text_record(record.data)
    except DataError:
        data = None
    if data is not None and data.name:
        tokens = f", {count(data.train_tokens)} tokens" if data.train_tokens else ""
        facts.append(("data", f"{data.name}{tokens}"))
        if data.sha256:
            facts.append(("", data.sha256))
    if record.written_by:
        seen = [f"{record.step:,}"]
        seen += [f"{count(record.tokens_seen)} tokens seen"] if record.tokens_seen else []
        seen += [clock(record.seconds)] if record.seconds else []
        seen += [f"of the run {record.run}"] if record.run else []
        facts.append(("steps", ", ".join(seen)))
    if record.losses:
        known = [split for split in ("val", "test", "train") if split in record.losses]
        facts.append(("losses", ", ".join(f"{split} {record.losses[split]:.4f}" for split in known)))
    return facts


def _date(record: Record, modified: float) -> str:
    try:
        when = datetime.fromisoformat(record.created).astimezone()
    except ValueError:
        when = datetime.fromtimestamp(modified).astimezone()
    where = [part for part in (f"on {record.device}" if record.device else "", record.written_by) if part]
    return ", ".join([f"{when:%Y-%m-%d %H:%M}", *where])


def _precision_facts(record: Record) -> list[tuple[str, str]]:
    """What `auto` was found to mean for these weights on this machine, as the latest measurement has it."""
    sha256 = record.files.get(catalog.WEIGHTS, "")
    found = [
        known.precision for key, known in recall(PRECISIONS, Remembered).items() if sha256 and key.endswith(sha256)
    ]
    return [("precision", f"auto takes {found[-1]} here")] if found else []
