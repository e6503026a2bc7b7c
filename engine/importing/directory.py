"""Hugging Face directories from elsewhere: their weights in one file or in several, as safetensors or as `torch.save`
wrote them, each of them used and none left over. What our own models look like is the business of
`engine.checkpoints`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from engine import catalog
from engine.catalog import RECORD, WEIGHTS, Record
from engine.checkpoints import read_checkpoint
from engine.config import ModelConfig
from engine.errors import CheckpointError
from engine.formats import configuration, huggingface
from engine.formats.torch_file import StoredTensor, TorchFile
from engine.text.provenance import without_folders

PICKLED = "pytorch_model.bin"
FILES = (WEIGHTS, f"{WEIGHTS}.index.json", PICKLED, f"{PICKLED}.index.json")
"""Where the weights may be, the first that is there."""

MAX_INDEX = 1 << 26
NOT_WEIGHTS = re.compile(r".*\.(?:attn\.bias|attn\.masked_bias|inv_freq)")
"""Masks and tables that older files have among the weights."""

NEEDED = "a Hugging Face directory has config.json and model.safetensors"


def read_directory(path: Path) -> tuple[ModelConfig, dict[str, Tensor], Record]:
    """A model's configuration, its weights under our names, and its record, which is empty where it has none.

    Raises:
        CheckpointError: It is of another family, something is missing or damaged, or a tensor is none of the model's.
    """
    if (path / RECORD).exists():
        config, weights, record = read_checkpoint(path)
        return config, weights, msgspec.structs.replace(record, data=without_folders(record.data))
    config = configuration.from_hf_config(catalog.read_config(path))
    theirs = _read_weights(path)
    _check_all_used(config, theirs)
    return config, huggingface.from_hf_weights(config, theirs), Record()


def check_known(path: Path) -> None:
    """Raise CheckpointError where a model's configuration is none of ours, before its large files are read."""
    configuration.from_hf_config(catalog.read_config(path))


def _read_weights(path: Path) -> dict[str, Tensor]:
    name = next((name for name in FILES if (path / name).is_file()), None)
    if name is None:
        raise CheckpointError(f"{path} has no weights", NEEDED)
    if not name.endswith(".json"):
        return read_tensors(path / name)
    theirs: dict[str, Tensor] = {}
    for file in _files_of(path / name):
        theirs |= read_tensors(path / file)
    return theirs


def _files_of(index: Path) -> Iterator[str]:
    """The files that an index names, each once."""
    try:
        with index.open("rb") as file:
            weight_map = json.loads(file.read(MAX_INDEX)).get("weight_map")
        names = dict.fromkeys(weight_map.values())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} cannot be read ({error})", "copy it again") from None
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.(?:safetensors|bin)", name):
            raise CheckpointError(f"{index} names {ascii(name)[:60]}, which is no file of weights", "copy it again")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent / name} is missing", "copy the whole directory")
        yield name


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU.

    Raises:
        CheckpointError: It cannot be read, or holds something else.
    """
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read ({error})", "copy it again") from None
    file = TorchFile(path)
    return file.tensors(only_tensors(file.value, path))


def only_tensors(value: object, path: Path) -> dict[str, StoredTensor]:
    """A dict of tensors by name.

    Raises:
        CheckpointError: It is none.
    """
    if not isinstance(value, dict) or not value or not all(isinstance(name, str) for name in value):
        raise CheckpointError(f"{path} holds no weights by name", "save the model's state_dict")
    if other := next((name for name, each in value.items() if not isinstance(each, StoredTensor)), None):
        raise CheckpointError(f"{path} has {other[:80]!r} among its weights, which is no tensor", "save the state_dict")
    return value


def _check_all_used(config: ModelConfig, theirs: Mapping[str, Tensor]) -> None:
    """Refuse a tensor that is none of the model's: with it the model would be another one."""
    used = {their_name for _, their_name in huggingface.weight_names(config)}
    root = "transformer." if config.family == "gpt2" else "model."
    if config.family == "gpt2":
        parts = [f"transformer.h.{layer}.attn.c_attn" for layer in range(config.n_layer)]
        used |= {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    for name, tensor in theirs.items():
        if name in used or f"{root}{name}" in used or NOT_WEIGHTS.fullmatch(name):
            continue
        if name == "lm_head.weight":  # it is saved beside the embedding that it is tied to
            embedding = next(each for each in theirs if each.endswith(("wte.weight", "embed_tokens.weight")))
            if torch.equal(tensor, theirs[embedding]):
                continue
        raise CheckpointError(
            f"the tensor {name[:80]} of shape {tuple(tensor.shape)} is none of a {config.family} model",
            "the model has something that is not supported here",
        )
