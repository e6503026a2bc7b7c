"""`minigpt-tui eval`: how well a model predicts a text, the same every time. Imports torch only after the text and
the options were checked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from engine.catalog import find_checkpoint, read_record
from minigpt_tui.cli.options import Common, engine_options, pass_common
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.cli.writing import open_model
from minigpt_tui.columns import columns


@click.command("eval")
@engine_options
@click.option("--data", metavar="FILE_OR_NAME", help="A text's file, folder or name.  [default: the model's own text]")
@click.option(
    "--split",
    type=click.Choice(("train", "val", "test")),
    help="Which part.  [default: val of the model's own text, else all]",
)
@click.option("--json", "as_line", is_flag=True, help="Print one JSON object.")
@pass_common
def evaluate(common: Common, /, data: str | None, split: str | None, as_line: bool) -> None:
    """Measure how well a model predicts a text: loss in nats per token, perplexity, bits per byte.

    The whole of it is used, in windows that do not overlap. Without --split it is the validation split when the
    text is the one that the model was trained on, the split that it was given for when it is one of the model's
    other files, and all of it otherwise.
    """
    from engine.text.provenance import read_text_record, select

    path = find_checkpoint(common.model)
    record = read_record(path)
    own = read_text_record(record.data)
    if data is None and not own.name:
        raise click.UsageError(f"{common.model or path.name} does not say what it was trained on: give --data")
    normalize = record.training.get("normalize")
    selection = select(own, data, split, normalize if isinstance(normalize, list) else ())
    if selection.remark:
        say(selection.remark)

    from engine.evaluation import evaluate as measure
    from engine.text.corpus import encode_documents

    model = open_model(common)
    tokens = encode_documents(model.tokenizer, selection.documents)
    with _progress() as progress:
        result = measure(model.gpt, model.tokenizer, tokens, progress=progress)
    measured = {"model": model.name, "data": data or own.name, "split": selection.split, **asdict(result)}
    if as_line:
        write_json(measured)
        return
    shown = {key: f"{value:.4f}" if isinstance(value, float) else f"{value}" for key, value in measured.items()}
    for line in columns(list(shown.items())):
        write_line(line)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr that goes away, where there is a terminal; else None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
