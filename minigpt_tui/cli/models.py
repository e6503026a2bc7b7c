"""`minigpt-tui models`: what models there are, what is in one, whether it is whole, and taking one elsewhere. Imports
torch for `export` and `import` alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.catalog import (
    CheckpointInfo,
    find_checkpoint,
    list_checkpoints,
    read_config,
    read_info,
    read_record,
    verify_checkpoint,
)
from engine.errors import CheckpointError, ModelNotFoundError
from engine.folders import expanded
from engine.own_models import check_own, remove_model
from minigpt_tui.cli.models_import import import_
from minigpt_tui.cli.options import ModelName
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.columns import columns, count, size

HISTORY_ROWS = 12
"""Losses along the run that `show` prints, evenly spaced."""

EXPORT_DTYPES = {"hf": ("fp32", "fp16", "bf16"), "gguf": ("fp32", "fp16", "bf16", "q8_0"), "onnx": ("fp32",)}
"""What the weights can be stored as, by format."""


@click.group()
def models() -> None:
    """List, show, verify, import, export and remove models."""


models.add_command(import_)


@models.command("list")
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per model.")
def list_(as_lines: bool) -> None:
    """List every model that has a name, the default first; a damaged one says what is wrong."""
    infos = list_checkpoints()
    if as_lines:
        for info in infos:
            write_json(_summary(info))
        return
    if not infos:
        say("there is no model yet; train one: minigpt-tui train fables --preset nano")
        return
    rows: list[tuple[str, ...]] = [("name", "family", "parameters", "tokenizer", "val_loss", "step")]
    rows += [_row(info) for info in infos if not info.problem]
    lines = iter(columns(rows, right=(2, 4, 5)))
    write_line(next(lines))
    for info in infos:
        write_line(f"{info.name}  damaged: {info.problem}" if info.problem else next(lines))


def _row(info: CheckpointInfo) -> tuple[str, ...]:
    return (
        info.name,
        info.family,
        count(info.parameters),
        f"{info.tokenizer or 'bpe'} {info.vocab_size}",
        "-" if info.val_loss is None else f"{info.val_loss:.4f}",
        "-" if info.step is None else str(info.step),
    )


def _summary(info: CheckpointInfo) -> dict[str, Any]:
    names = ("name", "path", "family", "parameters", "tokenizer", "val_loss", "step")
    summary = {name: getattr(info, name) for name in names}
    return {**summary, "problem": info.problem} if info.problem else summary


@models.command()
@click.argument("model", type=ModelName())
@click.option("--json", "as_lines", is_flag=True, help="Print it all as one JSON object.")
def show(model: str, as_lines: bool) -> None:
    """Show all that is known of MODEL: its shape, its text, its training and its losses.

    MODEL is a name, a folder, or RUN, RUN:best, RUN:last, RUN:step-N.
    """
    path = find_checkpoint(model)
    info, record, config = read_info(path, model), msgspec.to_builtins(read_record(path)), read_config(path)
    if as_lines:
        write_json({**_summary(info), "dtype": info.dtype, "size": info.size, "config": config, "record": record})
        return
    if info.problem:
        raise CheckpointError(f"the model {info.name} is damaged", info.problem)
    history = record.pop("history", [])
    sections: dict[str, dict[str, Any]] = {
        info.name: {
            "path": info.path,
            "family": info.family,
            "parameters": f"{info.parameters:,}",
            "stored as": f"{info.dtype}, {size(info.size)}",
            "tokenizer": f"{info.tokenizer or 'of its own'}, {info.vocab_size:,} tokens",
            "block_size": info.block_size,
        }
    }
    plain = {key: value for key, value in record.items() if not isinstance(value, dict) and key != "tokenizer"}
    sections |= {"record": plain} if plain.keys() - {"format"} else {}
    sections |= {key: value for key, value in record.items() if isinstance(value, dict) and value}
    for number, (title, values) in enumerate(sections.items()):
        write_line(("\n" if number else "") + title)
        for line in columns([(f"  {key}", _shown(value)) for key, value in values.items()]):
            write_line(line)
    if history:
        write_line("\nhistory")
        for line in columns([("  step", "train", "val"), *map(_losses, _thinned(history))], right=(0, 1, 2)):
            write_line(line)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _losses(entry: list[Any]) -> tuple[str, ...]:
    step, *losses = entry
    return (f"  {step}", *("" if loss is None else f"{loss:.4f}" for loss in losses))


def _thinned(history: list[list[Any]]) -> list[list[Any]]:
    """Evenly spaced entries of a history, those with a validation loss where there are any, and the last."""
    measured = [entry for entry in history if entry[2] is not None] or history
    if len(measured) <= HISTORY_ROWS:
        return measured
    last = len(measured) - 1
    return [measured[round(row * last / (HISTORY_ROWS - 1))] for row in range(HISTORY_ROWS)]


@models.command()
@click.argument("model", nargs=-1, type=ModelName())
def verify(model: tuple[str, ...]) -> None:
    """Check every file of MODEL against the hash that was written with it; without MODEL, of all models."""
    names = model or tuple(info.name for info in list_checkpoints())
    if not names:
        raise ModelNotFoundError("there is no model to verify", "train one: minigpt-tui train fables --preset nano")
    damaged = []
    for name in names:
        path = find_checkpoint(name)
        if problems := verify_checkpoint(path):
            damaged.append(name)
            write_line(f"{name}  damaged: {'; '.join(problems)}")
        elif hashes := len(read_record(path).files):
            write_line(f"{name}  ok, all {hashes} files are as they were written")
        else:
            write_line(f"{name}  readable; it comes without hashes, so nothing more can be told")
    if damaged:
        which = ", ".join(damaged)
        raise CheckpointError(f"damaged: {which}", "copy it again, or train it again; `models remove` clears it away")


@models.command()
@click.argument("model", type=ModelName())
@click.option(
    "--to",
    "target",
    type=click.Choice(list(EXPORT_DTYPES)),
    required=True,
    help="hf: a Hugging Face model directory; gguf: a file for llama.cpp; onnx: a folder for onnxruntime.",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "fp16", "bf16", "q8_0"]),
    help="Of the weights; q8_0 is gguf's alone, and onnx has fp32 alone.  [default: as stored]",
)
@click.option("--force", is_flag=True, help="Replace a model that is at PATH already.")
def export(model: str, target: str, path: Path, dtype: str | None, force: bool) -> None:
    """Write MODEL anew at PATH: a folder that transformers and vLLM open (hf), a file that llama.cpp opens (gguf), or a
    folder with a graph that onnxruntime opens (onnx).

    PATH appears whole or not at all. With --force it may be there already, if it holds a model and nothing else.
    """
    path = expanded(path)
    if dtype and dtype not in EXPORT_DTYPES[target]:
        raise click.UsageError(f"--to {target} has no {dtype}, choose {', '.join(EXPORT_DTYPES[target])}")
    if target == "gguf":
        _export_gguf(model, path, dtype or "", force)
        return
    if target == "onnx":
        _export_onnx(model, path, force)
        return
    from engine.checkpoints import export_model

    export_model(model, path.absolute(), dtype or "", replace=force)
    info = read_info(path)
    say(f"{model} is now in {path} too: {count(info.parameters)} parameters, {info.dtype}, {size(info.size)}")
    say(f"try it: minigpt-tui generate --model {path}")


def _export_gguf(model: str, path: Path, dtype: str, force: bool) -> None:
    from engine.formats.gguf_file import export_gguf

    written = export_gguf(model, path.absolute(), dtype, replace=force)
    stored = f"{count(written.parameters)} parameters, {written.dtype}, {size(path.stat().st_size)}"
    say(f"{model} is now in {path} too: {stored}")
    if written.remark:
        say(f"note: {written.remark}")
    say(f"try it: llama-completion -no-cnv -m {path} -p '{written.eot}'")


def _export_onnx(model: str, path: Path, force: bool) -> None:
    from engine.formats.onnx_file import GRAPH, export_onnx

    written = export_onnx(model, path.absolute(), replace=force)
    graph = path / GRAPH
    say(f"{model} is now in {graph} too: {count(written.parameters)} parameters, fp32, {size(graph.stat().st_size)}")
    say("its tokenizer lies beside it; docs/carry.md has the twenty lines that write a text with it")


@models.command()
@click.argument("model", type=ModelName())
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(model: str, yes: bool) -> None:
    """Delete MODEL, one of your own, for good."""
    path = find_checkpoint(model).absolute()
    check_own(path)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"removing {model} needs a yes, add --yes")
        if not click.confirm(f"delete {path} for good?", err=True):
            say("nothing was removed")
            return
    remove_model(path)
    say(f"{model} is removed")
