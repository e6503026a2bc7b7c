"""What is answered to a question about the machine that the engine runs on. Knows nothing of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.catalog import CheckpointInfo
from engine.text.library import LibraryText
from engine.training.runs import RunInfo

A = TypeVar("A")


class Fine(msgspec.Struct, frozen=True):
    """It was done."""


class Amount(msgspec.Struct, frozen=True):
    """So many checkpoints, and so many bytes."""

    count: int
    size: int


class Named(msgspec.Struct, frozen=True):
    """A name; None where there is none."""

    name: str | None


class TextsListed(msgspec.Struct, frozen=True):
    """The texts that have a name, in the order of the list; their paths are those of the other machine."""

    texts: tuple[LibraryText, ...]


class RunsListed(msgspec.Struct, frozen=True):
    """All runs in the order of the list; their paths are those of the other machine."""

    runs: tuple[RunInfo, ...]


class ModelsListed(msgspec.Struct, frozen=True):
    """All models in the order of the list."""

    models: tuple[CheckpointInfo, ...]


class CheckpointsListed(msgspec.Struct, frozen=True):
    """The checkpoints of the runs: the name that each goes by, and what is known of it in words."""

    checkpoints: tuple[tuple[str, str], ...]


class RunPart(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of a run.

    Attributes:
        info: Its state.
        metrics: Whole lines from the asked place on; all that there are when they are asked for often enough.
        samples: The same of the samples.
        log: The end of its log, where that is another than at the last look.
        log_size: How long the log is.
        checkpoints: The steps of its checkpoints.
        replaced: Whether the files are shorter than what is known of them: they are to be read anew.
        more: Whether there is more to read at once.
    """

    info: RunInfo
    metrics: bytes = b""
    samples: bytes = b""
    log: bytes | None = None
    log_size: int = -1
    checkpoints: tuple[int, ...] = ()
    replaced: bool = False
    more: bool = False


_encoder = msgspec.json.Encoder(enc_hook=str)  # of all that is told, only paths have no JSON of their own


def encode_answer(answer: msgspec.Struct) -> msgspec.Raw:
    """An answer as it travels."""
    return msgspec.Raw(_encoder.encode(answer))


def decode_answer(answer: msgspec.Raw, kind: type[A]) -> A:
    """Read an answer.

    Raises:
        msgspec.DecodeError: It is of another kind.
    """
    return msgspec.json.decode(answer, type=kind, dec_hook=_path)


def _path(kind: type, value: Any) -> Path:
    if kind is not Path or not isinstance(value, str):
        raise NotImplementedError(f"{kind} does not travel")
    return Path(value)
