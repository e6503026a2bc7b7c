"""The settings of a new training run from what a user gives: a preset, a TOML file and KEY=VALUE words, each over the
one before it; and the help that lists them all. Knows nothing of torch.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from engine.config import Architecture, TrainConfig
from engine.errors import InvalidSettingError
from engine.presets import find_preset
from engine.validation import Field, fields, make, parse_assignments, to_dict
from minigpt_tui.cli.streams import check_text

OF_THE_MODEL = (*(name for name in Architecture.__struct_fields__ if name not in ("dropout", "block_size")),
                "logit_soft_cap", "tokenizer", "vocab_size")  # fmt: skip
"""What a run that starts from a model takes from it; its windows may be shorter than the model's context."""


class TrainCommand(click.Command):
    """A command whose help ends with every setting, as the settings themselves declare it."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write name, meaning, range and default of each setting."""
        with formatter.section("Settings, for --set and --config"):
            formatter.write_dl([(field.name, _meaning(field)) for field in fields(TrainConfig).values()])


def _meaning(field: Field) -> str:
    words = [field.setting.help if field.setting else ""]
    if field.choices:
        words.append(" | ".join(field.choices))
    elif field.setting and field.setting.low is not None and field.setting.high is not None and field.type is float:
        words.append(field.setting.range_text)
    default = {(): "none", "": "empty"}.get(field.default, field.default)
    shown = str(default).lower() if isinstance(default, bool) or default is None else str(default)
    return f"{'; '.join(words)}  [{shown}]"


def read_changes(file: Path | None, assignments: Iterable[str]) -> dict[str, Any]:
    """What a TOML file and, over it, KEY=VALUE words say.

    Raises:
        InvalidSettingError: The file cannot be read, or a word has no known key, or a value that cannot be read.
    """
    changes: dict[str, Any] = {}
    words = [check_text(word, "a setting") for word in assignments]
    for layer in (_read_toml(file) if file else {}, parse_assignments(TrainConfig, words)):
        if "steps" in layer and "epochs" not in layer:
            changes["epochs"] = None  # the length that was said last is the one that counts
        changes |= layer
    return changes


def settings_over(preset: str, changes: Mapping[str, Any]) -> TrainConfig:
    """The settings of a preset with changes over them.

    Raises:
        InvalidSettingError: The preset or a key is unknown, or a value is out of range.
    """
    return make(TrainConfig, to_dict(find_preset(preset)) | dict(changes))


def check_changes_to_model(changes: Mapping[str, Any]) -> None:
    """Raise InvalidSettingError when a run that starts from a model should change what the model is."""
    for name in changes:
        if name in OF_THE_MODEL:
            raise InvalidSettingError(
                f"{name} is the model's own", f"leave {name} out, or train a model from the beginning"
            )


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettingError(f"{file} cannot be read", error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or numbers and lists beyond all measure
        raise InvalidSettingError(f"{file} is not TOML", f"{error}") from None
