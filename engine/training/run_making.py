"""Makes of a wished run what can be started on this machine: paths, names of texts and free names are this machine's.
What is missing or wrong is said before anything is begun. Knows nothing of torch.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine import catalog
from engine.catalog import CheckpointInfo
from engine.config import ModelConfig
from engine.errors import DataError, RunError
from engine.formats.configuration import from_hf_config
from engine.text.library import findable, list_texts, text_name
from engine.training.run import RunConfig, TextSources
from engine.training.run_names import check_run_name, free_run_name
from engine.training.run_wish import RunWish, TypedTexts
from engine.training.survey import Survey, SurveyRequest
from engine.validation import nearest_hint


class BaseModel(msgspec.Struct, frozen=True):
    """A model to go on from.

    Attributes:
        info: What a list of models shows of it.
        model: Its configuration.
    """

    info: CheckpointInfo
    model: ModelConfig


class Sight(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What there is to see of texts that were typed.

    Attributes:
        survey: What they are like, or what is wrong with them; None while none was chosen.
        free_name: The name that a run on them gets when none is typed.
    """

    survey: Survey | None = None
    free_name: str = ""


def read_base(path: Path, name: str = "") -> BaseModel:
    """What a run that goes on from a model needs to know of it.

    Args:
        path: The model's directory.
        name: What it goes by; its folder's name when that is empty.

    Raises:
        CheckpointError: It is damaged, or of a kind that is not known here.
    """
    model = from_hf_config(catalog.read_config(path))
    beyond = {key: value for key, value in catalog.read_record(path).architecture.items() if hasattr(model, key)}
    return BaseModel(catalog.read_info(path, name), model.replace(**beyond))


def known_texts() -> dict[str, str]:
    """The texts that have a name: whether each can be read now, or is yet to be downloaded."""
    return {text.name: text.state for text in list_texts()}


def survey_request(texts: TypedTexts, known: Mapping[str, str]) -> SurveyRequest | None:
    """What to ask about texts; None while none was chosen."""
    sources = parse_sources(texts.train, known)
    if not sources:
        return None
    val, test = (_absolute(text.strip()) if text.strip() else None for text in (texts.val, texts.test))
    return SurveyRequest(names=tuple(map(_absolute, sources)), val=val, test=test)


def free_name(texts: TypedTexts, known: Mapping[str, str]) -> str:
    """The name that a run gets when none is typed."""
    return free_run_name("-".join(map(text_name, parse_sources(texts.train, known)[:3])) or "run")


def check_name(name: str) -> None:
    """Raise RunError when a name that was typed cannot be a run's, or is taken; an empty one is free."""
    if not name:
        return
    check_run_name(name)
    if (free := free_run_name(name)) != name:
        raise RunError(f"there is a run {name} already", f"{free} is free")


def make_config(wish: RunWish, known: Mapping[str, str]) -> RunConfig:
    """What to start.

    Args:
        wish: What was chosen and typed.
        known: The texts that have a name.

    Raises:
        MiniGPTError: Something is missing or wrong; the first of it is said.
    """
    sources = parse_sources(wish.texts.train, known)
    if not sources:
        raise DataError("no text was chosen yet", "type a path, or choose one of the list")
    val, test = wish.texts.val.strip(), wish.texts.test.strip()
    for name in (*sources, *filter(None, (val, test))):
        _check_text(name, known)
    check_name(wish.name.strip())
    return RunConfig(
        name=wish.name.strip() or free_name(wish.texts, known),
        created=time.time(),
        training=wish.training,
        text=TextSources(
            train=tuple(map(_absolute, sources)),
            val=_absolute(val) if val else None,
            test=_absolute(test) if test else None,
            column=wish.column.strip() or None,
        ),
        device=wish.device,
        nproc=wish.nproc,
        base=str(Path(wish.base).absolute()) if wish.base else "",
    )


def _check_text(name: str, known: Mapping[str, str]) -> None:
    """Raise DataError unless there is something by that name; what it holds is not asked."""
    if _exists(name):
        return
    if name not in known:
        raise DataError(f"there is no text {name}", nearest_hint(name, known))
    if known[name] == "to download":
        raise DataError(f"{name} is not downloaded yet", f"minigpt-tui data get {name}")


def parse_sources(text: str, known: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Texts from a line: parted by commas; or as a shell writes them, with quotes, where that finds what is there.

    Args:
        text: The line.
        known: The texts that have a name.
    """

    def is_there(name: str) -> bool:
        return name in (known or {}) or _exists(name)

    text = text.strip()
    if not text or is_there(text):
        return (text,) if text else ()
    found: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        words = _shell_words(part)
        found += words if not is_there(part) and all(map(is_there, words)) else [part]
    return tuple(found)


def _shell_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is not closed yet
        return [text]


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, ~somebody, a zero byte
        return False


def _absolute(name: str) -> str:
    """A text as another process finds it: by its name, or its absolute path."""
    return findable(Path(name).expanduser() if name.startswith("~") and _exists(name) else name)
