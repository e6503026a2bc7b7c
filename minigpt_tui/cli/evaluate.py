"""`minigpt-tui eval`: how well a model predicts a text, the same every time. Imports torch only after the text and
the options were checked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from engine.catalog import Record, find_checkpoint, read_record
from engine.errors import DataError
from minigpt_tui.cli.columns import columns
from minigpt_tui.cli.options import Common, engine_options, pass_common
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.cli.writing import open_model

SPLITS = ("train", "val", "test")


@click.command("eval")
@engine_options
@click.option("--data", metavar="FILE_OR_NAME", help="A text's file, folder or name.  [default: the model's own text]")
@click.option(
    "--split", type=click.Choice(SPLITS), help="Which part.  [default: val of the model's own text, else all]"
)
@click.option("--json", "as_line", is_flag=True, help="Print one JSON object.")
@pass_common
def evaluate(common: Common, /, data: str | None, split: str | None, as_line: bool) -> None:
    """Measure how well a model predicts a text: loss in nats per token, perplexity, bits per byte.

    The whole of it is used, in windows that do not overlap. Without --split it is the validation split when the
    text is the one that the model was trained on, and all of it otherwise.
    """
    path = find_checkpoint(common.model)
    record = read_record(path)
    name = data or str(record.data.get("name", ""))
    if not name:
        raise click.UsageError(f"{common.model or path.name} does not say what it was trained on: give --data")
    documents, which = _documents(name, split, record, given=data is not None)

    from engine.evaluation import evaluate as measure
    from engine.text.corpus import encode_documents

    model = open_model(common)
    tokens = encode_documents(model.tokenizer, documents)
    with _progress() as progress:
        result = measure(model.gpt, model.tokenizer, tokens, progress=progress)
    measured = {"model": model.name, "data": name, "split": which, **asdict(result)}
    if as_line:
        write_json(measured)
        return
    shown = {key: f"{value:.4f}" if isinstance(value, float) else f"{value}" for key, value in measured.items()}
    for line in columns(list(shown.items())):
        write_line(line)


def _documents(name: str, split: str | None, record: Record, *, given: bool) -> tuple[tuple[str, ...], str]:
    """The documents to use, made uniform as the model's own text was, and what to call them.

    A choice that was not asked for is said on stderr.
    """
    from engine.text.corpus import read_documents
    from engine.text.library import find_text, open_corpus

    normalize = record.training.get("normalize", ())
    try:
        corpus = open_corpus([name], normalize=normalize)
    except DataError:
        if given:
            raise
        raise DataError(f"the text {name!r} that the model was trained on is not here", "give --data FILE") from None
    if split is None and corpus.sha256 != record.data.get("sha256"):
        say("all of the text is used: it is not the one that the model was trained on")
        return read_documents(find_text(name), normalize=normalize).texts, "all"
    if split is None:
        say("the validation split is used: the model was trained on this text")
    documents: tuple[str, ...] = getattr(corpus, split or "val")
    if not documents:
        raise DataError(f"{corpus.name} has no {split or 'val'} split", "choose another --split, or leave it out")
    return documents, split or "val"


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
