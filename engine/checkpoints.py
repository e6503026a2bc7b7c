"""Saving and loading models as Hugging Face directories, so that a crash at any byte loses nothing and a damaged
file is never taken for a model. Weights are safetensors alone: nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

import engine
from engine import catalog
from engine.catalog import CONFIG, RECORD, WEIGHTS, Record
from engine.config import ModelConfig
from engine.devices import DTYPES, resolve_device, resolve_precision
from engine.errors import CheckpointError
from engine.formats import huggingface
from engine.inference.decoder import Decoder
from engine.model.gpt import GPT
from engine.text.tokenizers import Tokenizer
from engine.validation import to_dict

HF_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
SHAPE_BEYOND_HF = ("bias", "positions", "dropout")
"""What `config.json` cannot say of an architecture; `minigpt.json` does."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, ready to use.

    Attributes:
        name: What it was asked for by.
        sha256: Hash of its weights file; empty for a model that was never saved.
    """

    name: str
    path: Path | None
    gpt: GPT
    tokenizer: Tokenizer
    record: Record
    device: str
    precision: str
    sha256: str

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self.gpt.config

    @functools.cached_property
    def decoder(self) -> Decoder:
        """The weights as decoding wants them, laid out when first asked for."""
        return Decoder(self.gpt)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.gpt.parameter_count()


def load_model(name: str = "", device: str = "auto", precision: str = "auto") -> LoadedModel:
    """Load a model by name, path or RUN:CHECKPOINT; empty is the default model. Its hashes are checked.

    Raises:
        ModelNotFoundError: Nothing goes by that name.
        CheckpointError: It is damaged, incomplete, or of a kind that is not supported.
        DeviceError: The device or precision is not there.
    """
    path = catalog.find_checkpoint(name)
    device = resolve_device(device)
    precision = resolve_precision(precision, device)
    config, weights, record = read_checkpoint(path)
    gpt = build(config, weights, path)
    gpt = gpt.to(device=device, dtype=DTYPES[precision]).eval().requires_grad_(False)
    tokenizer = Tokenizer.open(path)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{path.name} has {tokenizer.vocab_size} tokens in its tokenizer and {config.vocab_size} in its weights",
            "its files do not belong together; copy or train it again",
        )
    sha256 = record.files.get(WEIGHTS) or catalog.hash_file(path / WEIGHTS)
    return LoadedModel(name or path.name, path, gpt, tokenizer, record, device, precision, sha256)


def read_checkpoint(path: Path) -> tuple[ModelConfig, dict[str, Tensor], Record]:
    """Read and check a model's configuration, weights (under our names, on the CPU) and record.

    Raises:
        CheckpointError: Something is missing, damaged or does not fit; the one before it is named where there is one.
    """
    problems = catalog.verify_checkpoint(path)
    if problems:
        raise CheckpointError(f"the model {path.name} is damaged: {'; '.join(problems)}", _what_else(path))
    record = catalog.read_record(path)
    config = huggingface.from_hf_config(catalog.read_config(path))
    config = config.replace(**{key: value for key, value in record.architecture.items() if key in SHAPE_BEYOND_HF})
    try:
        weights = safetensors.torch.load_file(path / WEIGHTS)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path / WEIGHTS} cannot be read ({error})", _what_else(path)) from None
    return config, huggingface.from_hf_weights(config, weights), record


def build(config: ModelConfig, weights: Mapping[str, Tensor], path: Path) -> GPT:
    """A model with these weights, in their dtype.

    Raises:
        CheckpointError: Names or shapes do not fit the configuration.
    """
    with torch.device("meta"):
        gpt = GPT(config)
    for name, parameter in gpt.state_dict().items():
        if name not in weights:
            raise CheckpointError(f"{path.name} has no weights {name}", f"its {CONFIG} does not fit its {WEIGHTS}")
        if weights[name].shape != parameter.shape:
            wanted, found = tuple(parameter.shape), tuple(weights[name].shape)
            raise CheckpointError(
                f"{path.name} has {name} of shape {found} where {CONFIG} asks for {wanted}",
                "the files do not belong together; copy or train it again",
            )
    gpt.load_state_dict(weights, assign=True)
    if config.tie_head:
        gpt.head.weight = gpt.embedding.weight
    return gpt


def _what_else(path: Path) -> str:
    """What to do about a damaged model: the one before it in its run, or copy it again."""
    earlier = [other for other in catalog.run_checkpoints(path.parent.parent) if other.name != path.name]
    whole = [other for other in earlier if not catalog.verify_checkpoint(other)]
    if path.parent.name == "checkpoints" and whole:
        return f"the one before it is whole: --model {path.parent.parent.name}:{whole[-1].name}"
    return "copy it again, or train it again"


def save_checkpoint(
    path: Path, gpt: GPT, tokenizer: Tokenizer, record: Record, *, precision: str = "fp32", replace: bool = False
) -> Record:
    """Write a model as a Hugging Face directory: all of it, or nothing.

    Args:
        path: The directory to make.
        gpt: The weights.
        tokenizer: Saved beside them.
        precision: fp32, fp16 or bf16, of the stored weights.
        record: Facts for `minigpt.json`; its hashes, architecture and version are filled in.
        replace: Whether a model that is there already may be replaced.

    Returns:
        The record as written.

    Raises:
        CheckpointError: The directory exists (and `replace` is false), or cannot be written.
    """
    if path.exists() and not replace:
        raise CheckpointError(f"{path} exists already", "choose another name, or remove it first")
    temporary = path.parent / f".{path.name}.writing-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        record = _write_files(temporary, gpt, tokenizer, record, precision)
        _publish(temporary, path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error})", "free some space, or choose another place"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _write_files(folder: Path, gpt: GPT, tokenizer: Tokenizer, record: Record, precision: str) -> Record:
    config = gpt.config
    hf_config = huggingface.to_hf_config(config, tokenizer.eot_id, HF_DTYPES[precision])
    state = {name: tensor.detach().to("cpu", DTYPES[precision]) for name, tensor in gpt.state_dict().items()}
    weights = huggingface.to_hf_weights(config, state)
    safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / CONFIG, hf_config)
    generation = {"bos_token_id": tokenizer.eot_id, "eos_token_id": tokenizer.eot_id, "do_sample": True}
    write_json(folder / "generation_config.json", {**generation, "temperature": 0.8})
    tokenizer.save(folder, model_max_length=config.block_size)
    files = {file.name: catalog.hash_file(file) for file in sorted(folder.iterdir())}
    for file in folder.iterdir():
        _fsync(file)
    record = msgspec.structs.replace(
        record,
        created=record.created or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        written_by=f"minigpt-tui {engine.__version__}",
        tokenizer=tokenizer.kind,
        torch=record.torch or str(torch.__version__),
        architecture={key: to_dict(config)[key] for key in SHAPE_BEYOND_HF},
        files=files,
    )
    write_json(folder / RECORD, record)
    _fsync(folder / RECORD)
    _fsync(folder)
    return record


def _publish(temporary: Path, path: Path) -> None:
    """Move a finished directory to its name; what was there is set aside first and removed last."""
    old = path.parent / f".{path.name}.old-{os.getpid()}"
    if path.exists():
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    _fsync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_record(path: Path, record: Record) -> None:
    """Replace a checkpoint's `minigpt.json` in one step."""
    temporary = path / f".{RECORD}.writing-{os.getpid()}"
    write_json(temporary, record)
    _fsync(temporary)
    temporary.replace(path / RECORD)
    _fsync(path)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def _fsync(path: Path) -> None:
    if os.name != "posix" and path.is_dir():  # only POSIX opens directories
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def export_model(name: str, path: Path, precision: str = "") -> Record:
    """Copy a model as a Hugging Face directory in another precision: how a run becomes a model to ship.

    Args:
        name: The model, as `load_model` takes it.
        path: The directory to make.
        precision: fp32, fp16 or bf16; empty keeps the stored one.

    Raises:
        ModelNotFoundError, CheckpointError: As `load_model` and `save_checkpoint`.
    """
    source = catalog.find_checkpoint(name)
    config, weights, record = read_checkpoint(source)
    stored = catalog.read_weights_header(source / WEIGHTS)[1]
    wanted = precision or (stored if stored in DTYPES else "fp32")
    return save_checkpoint(path, build(config, weights, source), Tokenizer.open(source), record, precision=wanted)
