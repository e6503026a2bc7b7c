"""`minigpt-tui data`: the texts to train on. Knows how to print; what texts there are, `engine.text.library` knows.

Imports of the engine are inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from minigpt_tui.cli.streams import say, write_json, write_line

if TYPE_CHECKING:
    from engine.text.library import TextFacts


@click.group()
def data() -> None:
    """List, get and show texts to train on."""


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def list_(as_json: bool) -> None:
    """List the texts that have a name."""
    from engine import folders
    from engine.text.library import list_texts

    texts = list_texts()
    if as_json:
        for text in texts:
            write_json(
                {
                    "name": text.name,
                    "path": str(text.path),
                    "bytes": text.bytes,
                    "state": text.state,
                    "about": text.about,
                }
            )
        return
    width = max(len(text.name) for text in texts)
    for text in texts:
        write_line(f"{text.name:<{width}}  {_size(text.bytes):>9}  {text.state:<11}  {text.about}")
        write_line(f"{'':<{width}}  {'':>9}  {'':<11}  {text.path}")
    say(f"texts that you put into {folders.user_texts()} are listed as well")


@data.command()
@click.argument("name")
@click.option(
    "--from-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take a copy that is on this machine.",
)
@click.option("--url", hidden=True, help="Fetch it from somewhere else.")
def get(name: str, from_file: Path | None, url: str | None) -> None:
    """Download the text NAME, check it, and print where it is."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from engine.text.library import download

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name.replace("[", r"\["), total=None)
        path = download(
            name,
            from_file=from_file,
            url=url,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    say(f"{name} is here and its sha256 is right: minigpt-tui data show {name}")
    write_line(str(path))


@data.command()
@click.argument("file_or_name")
@click.option("--column", help="Where the text is in CSV and JSONL files; found when it is not named.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(file_or_name: str, column: str | None, as_json: bool) -> None:
    """Show what there is to know of FILE_OR_NAME, and how it begins."""
    from msgspec import to_builtins

    from engine.text.library import describe

    facts = describe(file_or_name, column=column)
    if as_json:
        write_json(to_builtins(facts))
        return
    _write_facts(facts)


def _write_facts(facts: TextFacts) -> None:
    common = "  ".join(f"{_name(character)} {count / facts.characters:.1%}" for character, count in facts.most_common)
    rows = {
        "name": facts.name,
        "size": f"{facts.bytes:,} bytes, {_count(facts.files, 'file')}, {_count(facts.documents, 'document')}",
        "text": f"{_count(facts.lines, 'line')}, {_count(facts.characters, 'character')}, "
        f"{facts.distinct_characters:,} of them distinct",
        "split": f"{facts.train_characters:,} characters to train, {facts.val_characters:,} to validate",
        "most common": common,
        "sha256": facts.sha256,
    }
    for label, value in rows.items():
        write_line(f"{label:<12} {value}")
    write_line()
    write_line(facts.beginning)


def _name(character: str) -> str:
    """A character as a reader can see it."""
    return {" ": "space", "\n": "newline", "\t": "tab"}.get(character, character)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _size(count: int) -> str:
    """Bytes in words, such as 1.1 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
