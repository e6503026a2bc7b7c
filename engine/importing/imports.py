"""Bringing a model from elsewhere into the user's folder of models: a Hugging Face directory, nanoGPT's `ckpt.pt`, or
the weights of a tutorial's GPT with its table of characters. It computes the logits that it computed before. What its
files do not tell is guessed, and every guess is said.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import folders
from engine.catalog import CONFIG, TOKENIZER, Record
from engine.checkpoints import HF_DTYPES, build, save_checkpoint
from engine.config import ModelConfig
from engine.errors import CheckpointError, TokenizerError
from engine.formats.torch_file import StoredTensor, TorchFile
from engine.importing.characters import META, from_table, read_characters
from engine.importing.classic import Untold, to_classic
from engine.importing.directory import check_known, only_tensors, read_directory, read_tensors
from engine.importing.end_of_text import with_end_of_text
from engine.importing.names import find_parts
from engine.own_models import check_model_name
from engine.text.chat import TEMPLATE_FILE, read_chat_template
from engine.text.tokenizers import Tokenizer

NANOGPT = "ckpt.pt"
STATE_DICTS = ("model", "model_state_dict", "state_dict", "model_state", "weights")
"""What a checkpoint calls the weights among other things."""

SETTINGS = ("model_args", "config", "model_config", "hyperparameters", "hparams", "args")
HEADS = ("n_head", "n_heads", "num_heads", "num_attention_heads", "nhead")
TABLES = ("stoi", "itos", "char_to_integer", "integer_to_char", "chars")
TABLE_FILES = (
    META, "meta.json", "chars.json", "characters.json", "vocab.json", "stoi.json", "itos.json", "char_to_integer.json",
    "integer_to_char.json",
)  # fmt: skip
TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "vocab.json", "merges.txt", "generation_config.json", CONFIG)
GPT2_ROWS = (50_257, 50_304)
PRECISIONS = {getattr(torch, theirs): ours for ours, theirs in HF_DTYPES.items()}


@dataclass(frozen=True)
class Wishes:
    """How a model is to be imported.

    Attributes:
        name: What it will be called; empty for its file's or folder's name.
        tokenizer: A `tokenizer.json`, or a folder with one; None for what lies beside the weights.
        characters: A table of characters, or a folder with a `meta.pkl`; None for what lies beside the weights.
        untold: What shapes cannot tell.
        replace: Whether a model of that name may be replaced.
    """

    name: str = ""
    tokenizer: Path | None = None
    characters: Path | None = None
    untold: Untold = field(default_factory=Untold)
    replace: bool = False


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        path: The model's directory.
        notes: What was guessed or changed, a sentence each.
    """

    path: Path
    notes: tuple[str, ...]


def import_model(path: Path, wishes: Wishes) -> Imported:
    """Import a model under a name of its own: all of it, or nothing.

    Args:
        path: A Hugging Face directory, a file of weights, or a folder with nanoGPT's `ckpt.pt`.
        wishes: How.

    Raises:
        CheckpointError: It is damaged, holds what is no plain data, is no model that is known, or its name is taken.
        TokenizerError: Its tokenizer is missing, damaged, or another model's.
        InvalidSettingError: What was told does not fit its shapes.
    """
    file = _weights_file(path)
    name = wishes.name or _name_of(path, file)
    check_model_name(name)
    target = folders.user_checkpoints() / name
    if target.exists() and not wishes.replace:
        raise CheckpointError(f"there is a model {name} already", "choose another name: --name NAME, or add --force")
    notes: list[str] = []
    if file is None:
        check_known(path)
        tokenizer = _open_tokenizer(wishes.tokenizer or path)
        config, weights, record = read_directory(path)
    else:
        config, weights, record, tokenizer, notes = _read_classic(file, wishes)
    _check_fits(tokenizer.vocab_size, config.vocab_size)
    weights, precision = _in_one_precision(weights, notes)
    gpt = build(config, weights, path)
    save_checkpoint(target, gpt, tokenizer, record, precision=precision, replace=wishes.replace)
    return Imported(target, tuple(notes))


def _weights_file(path: Path) -> Path | None:
    """The file of weights to read; None where the path is a Hugging Face directory."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"there is no {path}", "give a folder with a model, or a file with its weights")
    if (path / CONFIG).exists():
        return None
    if (path / NANOGPT).is_file():
        return path / NANOGPT
    raise CheckpointError(f"{path} has neither {CONFIG} nor {NANOGPT}", "give the file with its weights itself")


def _name_of(path: Path, file: Path | None) -> str:
    if file is None or file.name == NANOGPT:
        return (file.parent if file else path).resolve().name
    return file.stem


def _read_classic(file: Path, wishes: Wishes) -> tuple[ModelConfig, dict[str, Tensor], Record, Tokenizer, list[str]]:
    """A file of weights alone, or with what a training script has put beside them."""
    said: Mapping[str, Any] = {}
    if file.suffix == ".safetensors":
        theirs = read_tensors(file)
    else:
        saved = TorchFile(file)
        said = saved.value if isinstance(saved.value, dict) else {}
        weights = next((said[name] for name in STATE_DICTS if isinstance(said.get(name), dict)), saved.value)
        theirs = saved.tensors(only_tensors(weights, file))
        if isinstance(loss := said.get("best_val_loss"), StoredTensor):
            said = {**said, "best_val_loss": saved.tensors({"": loss})[""].reshape(-1)[:1].sum().item()}
    parts = find_parts({name: tuple(tensor.shape) for name, tensor in theirs.items()})
    classic = to_classic(parts, theirs, _with_what_is_said(wishes.untold, said))
    tokenizer, lacks_end = _find_tokenizer(file, said, wishes, classic.config.vocab_size)
    _check_fits(tokenizer.vocab_size - lacks_end, classic.config.vocab_size)
    newline = tokenizer.encode("\n")[0] if tokenizer.alphabet and "\n" in tokenizer.alphabet else 0
    classic = with_end_of_text(classic, tokenizer.eot_id if lacks_end else None, newline)
    return classic.config, classic.weights, _record(said), tokenizer, classic.notes


def _check_fits(tokens: int, rows: int) -> None:
    if tokens > rows:
        raise TokenizerError(
            f"the tokenizer has {tokens:,} tokens and the model {rows:,}",
            "give the one that it was trained with: --tokenizer PATH, or --chars FILE",
        )


def _with_what_is_said(untold: Untold, said: Mapping[str, Any]) -> Untold:
    """What shapes cannot tell, as far as what is saved beside the weights does."""
    if untold.attention_scale == "auto" and isinstance(said.get("model_args"), dict):
        untold = replace(untold, attention_scale="head")  # which is nanoGPT's
    return replace(untold, heads=untold.heads or _heads_said(said))


def _heads_said(said: Mapping[str, Any]) -> int:
    """The number of heads, where what is saved beside the weights says it."""
    for settings in (said.get(name) for name in SETTINGS):
        if isinstance(settings, dict):
            for heads in (settings.get(name) for name in HEADS):
                if type(heads) is int and 0 < heads <= 256:
                    return heads
    return 0


def _record(said: Mapping[str, Any]) -> Record:
    """What nanoGPT knows of the training."""
    step, loss = said.get("iter_num"), said.get("best_val_loss")
    return Record(
        step=step if type(step) is int and 0 <= step <= 2**53 else 0,
        losses={"val": loss} if isinstance(loss, float) and math.isfinite(loss) else {},
        data={"name": name} if (name := _dataset(said)) else {},
    )


def _dataset(said: Mapping[str, Any]) -> str:
    """The name of nanoGPT's folder of data; empty where it is none."""
    settings = said.get("config")
    name = settings.get("dataset") if isinstance(settings, dict) else None
    return name if isinstance(name, str) and re.fullmatch(r"\w[\w.-]{0,99}", name) else ""


def _find_tokenizer(file: Path, said: Mapping[str, Any], wishes: Wishes, rows: int) -> tuple[Tokenizer, bool]:
    """The tokenizer that was given or lies beside the weights, and whether the model lacks its `<|endoftext|>`.

    Args:
        file: The weights.
        said: What is saved with them.
        wishes: What was given.
        rows: Of the model's embedding.
    """
    if wishes.tokenizer is not None:
        tokenizer = _open_tokenizer(wishes.tokenizer)
        return tokenizer, tokenizer.eot_id == rows
    if wishes.characters is not None:
        return read_characters(wishes.characters)
    if any(name in said for name in TABLES):
        return from_table({name: said[name] for name in TABLES if name in said}, file)
    places = [file.with_name(name) for name in TABLE_FILES]
    if dataset := _dataset(said):  # nanoGPT's folders: out/ckpt.pt and data/NAME/meta.pkl
        places.append(file.resolve().parent.parent / "data" / dataset / META)
    if (file.parent / TOKENIZER).is_file():
        tokenizer = _open_tokenizer(file.parent)
        return tokenizer, tokenizer.eot_id == rows
    for place in places:
        if place.is_file():
            return read_characters(place)
    if rows in GPT2_ROWS:
        raise TokenizerError(
            f"the model has {rows:,} tokens, which are GPT-2's, and no tokenizer beside it",
            "give GPT-2's: --tokenizer FOLDER, one with its tokenizer.json",
        )
    raise TokenizerError(
        f"there is no table of the model's {rows:,} tokens beside {file.name}",
        "give it: --chars FILE.json (or nanoGPT's meta.pkl), or --tokenizer FOLDER",
    )


def _open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a folder, or in a file; a chat template that lies beside it comes with it.

    Raises:
        TokenizerError: It is missing, damaged or of an unknown kind.
        CheckpointError: So is its chat template.
    """
    if not path.exists():
        raise TokenizerError(f"there is no {path}", "give a tokenizer.json, or a folder with one")
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and not (folder / TEMPLATE_FILE).is_file():
        return Tokenizer.open(folder)
    with tempfile.TemporaryDirectory() as together:
        for name in TOKENIZER_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(together) / name)
        if path.is_file():
            shutil.copyfile(path, Path(together) / TOKENIZER)
        if template := read_chat_template(folder):
            Tokenizer.open(Path(together))  # says what is wrong with its files, by their names
            file = Path(together) / "tokenizer_config.json"
            config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            file.write_text(json.dumps({**config, "chat_template": template}), encoding="utf-8")
        return Tokenizer.open(Path(together))


def _in_one_precision(weights: Mapping[str, Tensor], notes: list[str]) -> tuple[dict[str, Tensor], str]:
    """The weights in the numbers that they came in, or in float32 where these are of several kinds or wider."""
    for name, tensor in weights.items():
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise CheckpointError(f"{name} has what is no number", "its training diverged, or the file is damaged")
    kinds = {tensor.dtype for tensor in weights.values()}
    if len(kinds) == 1 and (kind := next(iter(kinds))) in PRECISIONS:
        return dict(weights), PRECISIONS[kind]
    if torch.float64 in kinds:
        notes.append("its float64 weights are stored in float32")
    floats = {name: tensor.float() for name, tensor in weights.items()}
    if weights["head.weight"] is weights["embedding.weight"]:
        floats["head.weight"] = floats["embedding.weight"]
    return floats, "fp32"
