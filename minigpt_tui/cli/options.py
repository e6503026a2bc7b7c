"""Options that several commands share: which model and where it computes, and how the next token is drawn.
Knows nothing of torch; ranges and help come from the settings themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from engine.config import Device, Precision, SamplingParams
from engine.validation import fields, make, to_dict

MAX_NPROC = 64
"""More processes than one machine has GPUs."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Common:
    """What holds for every command; given before or after the command's name, the later one counts.

    Attributes:
        model: A name, a path or RUN:CHECKPOINT; empty for the default model.
        given: The names of those that the command line has said so far.
    """

    model: str = ""
    device: Device = "auto"
    precision: Precision = "auto"
    debug: bool = False
    given: frozenset[str] = frozenset()

    def begin_with(self, model: str, device: Device, precision: Precision) -> None:
        """Take what was decided once and for all where nothing was given; what is given later counts."""
        for name, value in (("model", model), ("device", device), ("precision", precision)):
            if name not in self.given:
                setattr(self, name, value)


pass_common = click.make_pass_decorator(Common, ensure=True)


class ModelName(click.types.StringParamType):
    """The name or path of a model; a shell completes the names."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The models whose name begins so, and the folders of the current one."""
        from engine.catalog import list_checkpoints

        names = [info.name for info in list_checkpoints() if info.name.startswith(incomplete)]
        return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="dir")]


class RunName(click.types.StringParamType):
    """The name of a training run; a shell completes it."""

    name = "run"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The runs whose name begins so, the latest first, with their state."""
        from engine.training.runs import list_runs

        return [CompletionItem(run.name, help=run.state) for run in list_runs() if run.name.startswith(incomplete)]


class PresetName(click.types.StringParamType):
    """The name of sampler settings; a shell completes it."""

    name = "preset"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The presets whose name begins so, with what they are for."""
        from minigpt_tui.library.presets import read_presets

        known = [preset for preset in read_presets() if preset.name.startswith(incomplete)]
        return [CompletionItem(preset.name, help=preset.about) for preset in known]


class Pace(click.FloatRange):
    """Tokens per second: 0 or more, and a number that one can count to."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Raises:
            click.BadParameter: It is none, less than 0, not a number or infinite.
        """
        pace = float(super().convert(value, param, ctx))
        if not math.isfinite(pace):
            self.fail(f"{pace} is no pace; 0 is full speed", param, ctx)
        return pace


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value not in (None, False) and param.name:
        common = ctx.ensure_object(Common)
        setattr(common, param.name, value)
        common.given |= {param.name}


debug_option = click.Option(
    ["--debug"], is_flag=True, expose_value=False, callback=_remember, help="Show the traceback of an error."
)


def model_option(function: F) -> F:
    """Add `--model` to a command; its value is found in `Common`."""
    return click.option(
        "--model",
        type=ModelName(),
        expose_value=False,
        callback=_remember,
        help="A model's name, its folder, or RUN, RUN:best, RUN:last, RUN:step-N.  [default: first of `models list`]",
    )(function)


def engine_device_option(function: F) -> F:
    """Add `--device` to a command; its value is found in `Common`."""
    return click.option(
        "--device",
        type=click.Choice(get_args(Device)),
        expose_value=False,
        callback=_remember,
        help="Where to compute; auto takes a GPU when there is one.",
    )(function)


def nproc_option(function: F) -> F:
    """Add `--nproc` to a command; None where it is not given."""
    return click.option(
        "--nproc",
        type=click.IntRange(1, MAX_NPROC),
        metavar="N",
        help="Processes that train together, one for each GPU.  [default: 1, or as many as before]",
    )(function)


def precision_option(function: F) -> F:
    """Add `--precision` to a command; its value is found in `Common`."""
    return click.option(
        "--precision",
        type=click.Choice(get_args(Precision)),
        expose_value=False,
        callback=_remember,
        help="Arithmetic; auto takes what the device is best at.",
    )(function)


def engine_options(function: F) -> F:
    """Add `--model`, `--device` and `--precision` to a command; their values are found in `Common`."""
    return model_option(engine_device_option(precision_option(function)))


_FLAGS = {
    "max_new_tokens": ("-n", "--max-new-tokens"),
    "temperature": ("-t", "--temperature"),
    "top_k": ("--top-k",),
    "top_p": ("--top-p",),
    "min_p": ("--min-p",),
    "repetition_penalty": ("--repetition-penalty",),
    "seed": ("--seed",),
    "stop": ("--stop",),
}


def sampling_options(function: F) -> F:
    """Add an option for every field of `SamplingParams` and `--preset`, None (or empty) where it is not given."""
    known = fields(SamplingParams)
    for name, flags in reversed(_FLAGS.items()):
        field = known[name]
        if field.setting is None:
            raise TypeError(f"SamplingParams.{name} says nothing about itself")
        repeated = get_origin(field.type) is tuple
        kind = str if repeated else float if field.type is float else int
        shown = "" if repeated or field.default is None else f"  [default: {field.default}]"
        sentence = field.setting.help[0].upper() + field.setting.help[1:]
        function = click.option(
            *flags,
            name,
            type=kind,
            multiple=repeated,
            metavar={str: "TEXT", float: "X", int: "N"}[kind],
            help=f"{sentence}.{shown}",
        )(function)
    return click.option(
        "--preset",
        type=PresetName(),
        metavar="NAME",
        help="Settings that have a name, such as creative or greedy; options beside it count before them.",
    )(function)


def sampling_params(given: Mapping[str, Any]) -> SamplingParams:
    """Settings from the options of `sampling_options`: those of the preset, or the defaults, where none was given.

    Raises:
        InvalidSettingError: A value is out of its range.
        LibraryError: There is no such preset, or it cannot be read.
    """
    values = {name: value for name, value in given.items() if value not in (None, ())}
    if preset := values.pop("preset", ""):
        from minigpt_tui.library.presets import find_preset

        values = {**to_dict(find_preset(preset).applied(SamplingParams())), **values}
    return make(SamplingParams, values)
