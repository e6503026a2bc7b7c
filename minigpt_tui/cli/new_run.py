"""What a new training run shall be, from what a user gives in the shell. A text, a model or a run that is not there is
said here, before anything is written. Knows nothing of torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.catalog import find_checkpoint
from engine.presets import DEFAULT_PRESET, FINETUNE_PRESET
from engine.text.library import findable, text_name
from engine.training.launch import another_like
from engine.training.run import RunConfig, RunDirectory, TextSources
from engine.training.run_names import check_run_name, free_run_name
from engine.training.runs import find_run
from engine.training.survey import SurveyRequest, survey
from minigpt_tui.cli.streams import check_text
from minigpt_tui.cli.training_settings import check_changes_to_model, read_changes, settings_over


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The options of `train`, None or empty where they were not given.

    Attributes:
        base: The model to go on from, as `find_checkpoint` takes it.
        like: The run whose text and settings to begin with.
        device: auto where nothing was said.
    """

    texts: tuple[str, ...] = ()
    preset: str | None = None
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    name: str | None = None
    val: str | None = None
    test: str | None = None
    column: str | None = None
    base: str | None = None
    like: str | None = None
    nproc: int | None = None
    device: str = "auto"


def new_run(wishes: Wishes) -> RunConfig:
    """The configuration of the run that is wished for.

    Raises:
        InvalidSettingError: A setting is unknown or out of its range, or is the model's own.
        DataError: A text is not there, or is none.
        ModelNotFoundError, CheckpointError: The model to go on from is not there.
        RunError: The name is none for a run, or the run to begin with is not there.
    """
    changes = read_changes(wishes.file, wishes.assignments)
    if wishes.base is not None:
        check_changes_to_model(changes)
    if wishes.name is not None:
        check_run_name(wishes.name)
    config = _new(wishes, changes) if wishes.like is None else _another(wishes, changes, wishes.like)
    given: dict[str, Any] = {}
    if wishes.base is not None:
        given["base"] = str(find_checkpoint(wishes.base).absolute())
    if wishes.nproc is not None:
        given["nproc"] = wishes.nproc
    if wishes.device != "auto":
        given["device"] = wishes.device
    return msgspec.structs.replace(config, **given)


def _new(wishes: Wishes, changes: Mapping[str, Any]) -> RunConfig:
    if not wishes.texts:
        raise click.UsageError("Missing argument 'FILE_OR_FOLDER_OR_NAME...'")
    preset = wishes.preset or (DEFAULT_PRESET if wishes.base is None else FINETUNE_PRESET)
    training = settings_over(preset, changes)
    text = _sources(wishes.texts, wishes.val, wishes.test, wishes.column)
    name = wishes.name or free_run_name("-".join(map(text_name, wishes.texts[:3])))
    return RunConfig(name=name, created=time.time(), training=training, text=text)


def _another(wishes: Wishes, changes: Mapping[str, Any], like: str) -> RunConfig:
    """A run with the settings and, unless there is another one, the text of the run `like`."""
    if wishes.preset is not None:
        raise click.UsageError("--like has the settings of that run: leave out --preset")
    other = RunDirectory(find_run(like)).read_config()
    if other.base:
        check_changes_to_model(changes)
    config = another_like(other, wishes.name or "", changes)
    before = config.text
    if wishes.texts:
        text = _sources(wishes.texts, wishes.val, wishes.test, wishes.column)
    else:
        text = _sources(
            before.train, wishes.val or before.val, wishes.test or before.test, wishes.column or before.column
        )
    return msgspec.structs.replace(config, text=text)


def _sources(texts: tuple[str, ...], val: str | None, test: str | None, column: str | None) -> TextSources:
    """Where the text is, by absolute paths and names of the library, all of which are there.

    Raises:
        DataError: A text is not there, is none, or is empty, as far as its beginning tells.
        InvalidSettingError: A path is not UTF-8, so that no file of settings can hold it.
    """
    for text in (*texts, val, test):
        if text is not None:
            check_text(text, "the path of a text")
    survey(SurveyRequest(names=texts, val=val, test=test))
    return TextSources(
        train=tuple(map(findable, texts)),
        val=None if val is None else findable(val),
        test=None if test is None else findable(test),
        column=None if column is None else check_text(column, "the name of a column"),
    )
