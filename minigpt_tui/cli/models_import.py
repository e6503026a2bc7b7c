"""`minigpt-tui models import`: a model that was made elsewhere, under a name here. What it says beside that is what the
engine guessed or changed. Imports torch when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.catalog import read_info
from engine.folders import expanded
from minigpt_tui.cli.streams import say
from minigpt_tui.columns import count, size

FILE_OR_FOLDER = click.Path(path_type=Path)


@click.command("import")
@click.argument("path", type=FILE_OR_FOLDER)
@click.option("--name", metavar="NAME", default="", help="What to call it.  [default: its folder's or file's name]")
@click.option("--tokenizer", type=FILE_OR_FOLDER, help="A tokenizer.json, or a folder with one.")
@click.option(
    "--chars",
    type=FILE_OR_FOLDER,
    help="A table of characters by id: JSON, or nanoGPT's meta.pkl.  [default: what lies beside the weights]",
)
@click.option(
    "--attention-scale",
    type=click.Choice(["head", "embd"]),
    help="What attention is divided by, the root of: a head's size, or n_embd.  [default: head]",
)
@click.option(
    "--activation",
    type=click.Choice(["gelu", "gelu-tanh", "relu"]),
    help="Of the MLP; gelu is torch's own, gelu-tanh is GPT-2's.  [default: relu for a tutorial's, gelu for nanoGPT's]",
)
@click.option("--heads", type=click.IntRange(1, 256), metavar="N", help="Attention heads, if the file does not tell.")
@click.option("--force", is_flag=True, help="Replace a model of that name.")
def import_(path: Path, name: str, force: bool, **told: Any) -> None:
    """Bring a model from elsewhere under a name here; it computes what it computed there.

    PATH is a Hugging Face directory (GPT-2, Llama, Qwen3, nanochat), nanoGPT's ckpt.pt or the folder with it, or the
    weights of a tutorial's GPT (.pt or .safetensors). Nothing in it is run: what is no plain data is refused.
    """
    from engine.importing.classic import Untold
    from engine.importing.imports import Wishes, import_model

    untold = Untold(told["attention_scale"] or "auto", told["activation"] or "auto", told["heads"] or 0)
    given = {key: told[key] and expanded(told[key]) for key in ("tokenizer", "chars")}
    wishes = Wishes(name, given["tokenizer"], given["chars"], untold, force)
    imported = import_model(expanded(path), wishes)
    info = read_info(imported.path)
    say(f"{path} is now the model {info.name}: {count(info.parameters)} parameters, {info.dtype}, {size(info.size)}")
    for note in imported.notes:
        say(f"note: {note}")
    say(f"try it: minigpt-tui generate --model {info.name}")
