"""`minigpt-tui train`: a text becomes a model, in the foreground. Settings and texts are checked before torch is
imported and before anything is written.
"""

from __future__ import annotations

import shutil
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from engine.config import TrainConfig
from engine.errors import InvalidSettingError
from engine.presets import DEFAULT_PRESET, PRESETS, find_preset
from engine.validation import Field, fields, make, parse_assignments, to_dict
from minigpt_tui.cli.failures import INTERRUPTED
from minigpt_tui.cli.options import Common, engine_device_option, pass_common
from minigpt_tui.cli.streams import say, write_line
from minigpt_tui.cli.training_view import TrainingView, clock, open_view


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


@click.command(cls=TrainCommand)
@click.argument("texts", nargs=-1, required=True, metavar="FILE_OR_FOLDER_OR_NAME...")
@click.option(
    "--preset", default=DEFAULT_PRESET, show_default=True, help=f"Settings to begin with: {', '.join(PRESETS)}."
)
@click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE.toml", help="Settings over the preset's."
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting over all others.")
@click.option("--name", help="The run's name, by which the model goes.  [default: the text's]")
@click.option("--val", metavar="FILE", help="Text for validation.  [default: the last 10% of the text]")
@click.option("--test", metavar="FILE", help="Text for a test at the end, which has no say in what is kept.")
@click.option("--column", help="Where the text is in .csv and .jsonl files.  [default: found]")
@engine_device_option
@pass_common
def train(
    common: Common,
    /,
    texts: tuple[str, ...],
    preset: str,
    file: Path | None,
    assignments: tuple[str, ...],
    name: str | None,
    val: str | None,
    test: str | None,
    column: str | None,
) -> None:
    """Train a GPT on your own text: files, folders (.txt, .md, .csv, .jsonl, .py), or names from `data list`.

    ctrl+c saves and stops after the step that is under way. The model then goes by the run's name, and the path of
    its checkpoint is printed on stdout.
    """
    config = read_settings(preset, file, assignments)

    from engine.text.library import open_corpus
    from engine.text.provenance import text_record
    from engine.training.run import RunConfig, RunDirectory, free_run_name

    corpus = open_corpus(texts, val=val, test=test, column=column, normalize=config.normalize)
    run_config = RunConfig(
        name=free_run_name(corpus.name) if name is None else name,
        created=time.time(),
        training=config,
        text={"sources": corpus.sources, "val": val, "test": test, "column": column},
        data=text_record(corpus),
    )
    with open_view(run_config.name) as view:
        from engine.training.trainer import Trainer

        run = RunDirectory.create(run_config)
        try:
            trainer = Trainer(config, corpus, run, view.observe, device=common.device)
        except BaseException:  # nothing was trained, so nothing is left behind
            shutil.rmtree(run.path, ignore_errors=True)
            raise
        with _stopped_by_interrupt(trainer.stop, view):
            ended = trainer.train()
    losses = (("validation", ended.val_loss), ("test", ended.test_loss))
    said = "".join(f", {split} loss {loss:.4f}" for split, loss in losses if loss is not None)
    say(f"{ended.state} at step {ended.step} after {clock(ended.seconds)}{said}; the best checkpoint is in")
    write_line(str(ended.best))
    say(f"try it: minigpt-tui generate --model {run.name}")
    if ended.state == "stopped":
        raise click.exceptions.Exit(INTERRUPTED)


def read_settings(preset: str, file: Path | None, assignments: tuple[str, ...]) -> TrainConfig:
    """The settings of a run: a preset's, over them those of a TOML file, over them KEY=VALUE words.

    Raises:
        InvalidSettingError: The preset or a key is unknown, the file cannot be read, or a value is out of range.
    """
    values = to_dict(find_preset(preset))
    for layer in (_read_toml(file) if file else {}, parse_assignments(TrainConfig, assignments)):
        if "steps" in layer and "epochs" not in layer:
            values["epochs"] = None  # the length that was said last is the one that counts
        values |= layer
    return make(TrainConfig, values)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettingError(f"{file} cannot be read", error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or numbers and lists beyond all measure
        raise InvalidSettingError(f"{file} is not TOML", f"{error}") from None


@contextmanager
def _stopped_by_interrupt(stop: Callable[[], None], view: TrainingView) -> Iterator[None]:
    """While it is entered, the first ctrl+c (or SIGTERM) calls `stop`; a second ctrl+c ends at once."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()
        view.remark("saving and stopping; ctrl+c again ends at once and loses what is not saved")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
