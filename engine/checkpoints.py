"""Saving and loading models as Hugging Face directories, so that a crash at any byte loses nothing and a damaged
file is never taken for a model. Weights are safetensors alone: nothing is ever unpickled. How a directory appears whole
or not at all is the business of `engine.safe_writing`.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

import engine
from engine import catalog, folders, safe_writing
from engine.allocation import give_back_freed_memory
from engine.catalog import CONFIG, DRAFT, RECORD, TOKENIZER, TRAINING, WEIGHTS, Record
from engine.config import ModelConfig
from engine.devices import DTYPES, resolve_device, resolve_precision
from engine.errors import CheckpointError, InvalidSettingError, TokenizerError
from engine.formats import configuration, huggingface
from engine.formats.safetensors_header import read_weights_header
from engine.inference.choosing import choose_precision, choose_threads
from engine.inference.decoder import Decoder
from engine.inference.draft_table import DraftTable, find_table
from engine.inference.tempo import Tempo
from engine.inference.threads import most_threads, torch_threads
from engine.model.gpt import GPT
from engine.text.provenance import without_folders
from engine.text.tokenizers import Tokenizer
from engine.validation import to_dict

HF_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
SHAPE_BEYOND_HF = ("bias", "positions", "dropout")
"""What `config.json` cannot say of an architecture; `minigpt.json` does."""

GENERATION = "generation_config.json"
MODEL_FILES = {
    CONFIG, WEIGHTS, RECORD, GENERATION, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", TRAINING,
    DRAFT,
}  # fmt: skip
"""What may be in a directory that is replaced; with anything else in it, it is more than a model of ours."""


class LoadedModel:
    """A model in memory, ready to use.

    Attributes:
        name: What it was asked for by.
        sha256: Hash of its weights file; empty for a model that was never saved.
    """

    def __init__(
        self,
        name: str,
        path: Path | None,
        gpt: GPT,
        tokenizer: Tokenizer,
        record: Record,
        device: str,
        precision: str,
        sha256: str,
    ) -> None:
        self.name, self.path, self.tokenizer, self.record = name, path, tokenizer, record
        self.device, self.precision, self.sha256 = device, precision, sha256
        self.config, self.parameters = gpt.config, gpt.parameter_count()
        self._gpt: GPT | None = gpt

    @property
    def gpt(self) -> GPT:
        """The model as it is trained and evaluated; opened again where it was let go."""
        if self._gpt is None and self.path is not None:
            self._gpt = _placed(open_checkpoint(self.path)[0], self.device, self.precision)
        return self._gpt  # type: ignore[return-value]

    def prepare_to_write(self) -> None:
        """Lay out the weights for decoding, with as many threads as are quickest now, and let go of what is not needed.

        Texts are the same without; the first one then waits for it.
        """
        decoder = self.decoder
        if self.device == "cpu":
            choose_threads(decoder)
        if self.path is not None and self.sha256:
            self._gpt = None
        give_back_freed_memory()

    @functools.cached_property
    def decoder(self) -> Decoder:
        """The weights as decoding wants them, laid out when first asked for."""
        with torch_threads(most_threads()):
            return Decoder(self.gpt, self.precision)

    @functools.cached_property
    def draft_table(self) -> DraftTable | None:
        """What guesses at the model's texts are drawn from; None without one that fits."""
        table = find_table(self.path) if self.path is not None else None
        return table if table is not None and table.vocab_size <= self.config.vocab_size else None

    @functools.cached_property
    def tempo(self) -> Tempo:
        """What passes of this model cost, as far as it was seen."""
        return Tempo()

    def no_number(self) -> CheckpointError:
        """The error to raise when the model answers with NaN, which could be neither drawn from nor told."""
        who = self.name or "the model"
        return CheckpointError(f"{who} answers with what is no number", "its training diverged; use another one")


def load_model(name: str = "", device: str = "auto", precision: str = "auto") -> LoadedModel:
    """Load a model by name, path or RUN:CHECKPOINT; empty is the default model. Its hashes are checked.

    Raises:
        ModelNotFoundError: Nothing goes by that name.
        CheckpointError: It is damaged, incomplete, or of a kind that is not supported.
        DeviceError: The device or precision is not there.
    """
    path = catalog.find_checkpoint(name)
    device = resolve_device(device)
    resolved = resolve_precision(precision, device)
    gpt, tokenizer, record = open_checkpoint(path)
    sha256 = record.files.get(WEIGHTS) or catalog.hash_file(path / WEIGHTS)
    if precision == "auto" and device == "cpu":
        resolved = choose_precision(gpt, tokenizer, record, sha256)
    precision = resolved
    return LoadedModel(
        name or path.name, path, _placed(gpt, device, precision), tokenizer, record, device, precision, sha256
    )


def _placed(gpt: GPT, device: str, precision: str) -> GPT:
    """A model on its device, in the numbers that its precision wants, for all but training."""
    return gpt.to(device=device, dtype=DTYPES[precision]).eval().requires_grad_(False)


def open_checkpoint(path: Path) -> tuple[GPT, Tokenizer, Record]:
    """A model on the CPU, in the precision that it is stored in, with its tokenizer and record.

    Raises:
        CheckpointError: It is damaged, incomplete, or of a kind that is not supported.
        TokenizerError: So is its tokenizer.
    """
    config, weights, record = read_checkpoint(path)
    gpt, tokenizer = build(config, weights, path), Tokenizer.open(path)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{path.name} has {tokenizer.vocab_size} tokens in its tokenizer and {config.vocab_size} in its weights",
            "its files do not belong together; copy or train it again",
        )
    return gpt, tokenizer, record


def read_checkpoint(path: Path) -> tuple[ModelConfig, dict[str, Tensor], Record]:
    """Read and check a model's configuration, weights (under our names, on the CPU) and record.

    Raises:
        CheckpointError: Something is missing, damaged or does not fit; the one before it is named where there is one.
    """
    problems = catalog.verify_model(path)
    if problems:
        raise CheckpointError(f"the model {path.name} is damaged: {'; '.join(problems)}", _what_else(path))
    record = catalog.read_record(path)
    config = configuration.from_hf_config(catalog.read_config(path))
    try:
        config = config.replace(**{key: value for key, value in record.architecture.items() if key in SHAPE_BEYOND_HF})
    except InvalidSettingError as error:
        raise CheckpointError(f"{path / RECORD} cannot be used ({error.message})", _what_else(path)) from None
    try:
        weights = safetensors.torch.load_file(path / WEIGHTS)
        if safe_writing.OPEN_FILES_STAY:  # these are mapped, and the model could be neither replaced nor removed
            weights = {name: tensor.clone() for name, tensor in weights.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path / WEIGHTS} cannot be read ({error})", _what_else(path)) from None
    return config, huggingface.from_hf_weights(config, weights), record


def build(config: ModelConfig, weights: Mapping[str, Tensor], path: Path) -> GPT:
    """A model with these weights, in their dtype. Nothing of the configuration's sizes is made before they fit.

    Raises:
        CheckpointError: Names or shapes do not fit the configuration, or a weight is no floating-point number.
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
        if not weights[name].is_floating_point():
            kind = str(weights[name].dtype).removeprefix("torch.")
            raise CheckpointError(f"{path.name} has {name} in {kind}", "only floating-point weights can be used")
    gpt.load_state_dict(weights, assign=True)
    gpt.make_rotary_tables()
    if config.tie_head:
        gpt.head.weight = gpt.embedding.weight
    return gpt


def _what_else(path: Path) -> str:
    """What to do about a damaged model: take a whole one of its run, rather one before it, or copy it."""
    run = path.resolve().parent.parent
    if run.parent == folders.runs_folder().resolve():
        steps = catalog.run_checkpoints(run)
        here = next((place for place, step in enumerate(steps) if step.name == path.name), 0)
        near = [("before", step) for step in reversed(steps[:here])] + [("after", step) for step in steps[here + 1 :]]
        for side, step in near:
            if not catalog.verify_model(step):
                return f"the one {side} it is whole: --model {run.name}:{step.name}"
    return "copy it again, or train it again"


def save_checkpoint(
    path: Path,
    gpt: GPT,
    tokenizer: Tokenizer,
    record: Record,
    *,
    precision: str = "fp32",
    replace: bool = False,
    write_training: Callable[[Path], None] | None = None,
    draft_table: DraftTable | None = None,
) -> Record:
    """Write a model as a Hugging Face directory: all of it, or nothing.

    Args:
        path: The directory to make.
        gpt: The weights.
        tokenizer: Saved beside them.
        precision: fp32, fp16 or bf16, of the stored weights.
        record: Facts for `minigpt.json`; its hashes, architecture and version are filled in.
        replace: Whether a model that is there already may be replaced; what is no model of ours never is.
        write_training: Writes what a run needs to go on from here into the folder that it is given, `training/`.
        draft_table: What its texts are guessed with; in a run it lies beside all its checkpoints.

    Returns:
        The record as written.

    Raises:
        CheckpointError: The directory exists (and `replace` is false), or cannot be written, or a weight is too large
            for the precision; what was there is there still.
    """
    try:
        folders.private(path.parent)
        safe_writing.recover(path)
        if path.exists():
            _check_replaceable(path, replace)
        with safe_writing.new_directory(path, replace=replace) as folder:
            if write_training is not None:
                (folder / TRAINING).mkdir()
                write_training(folder / TRAINING)
            if draft_table is not None:
                draft_table.save(folder)
            return _write_files(folder, gpt, tokenizer, record, precision)
    except (OSError, safetensors.SafetensorError, TokenizerError) as error:
        raise CheckpointError(
            f"{path} cannot be written ({error})", "free some space, or choose another place"
        ) from None


def _check_replaceable(path: Path, replace: bool) -> None:
    if not replace:
        raise CheckpointError(f"{path} exists already", "choose another name, remove it, or add --force")
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    if others := sorted(names - MODEL_FILES):
        raise CheckpointError(f"{path} is more than a model: it has {others[0]}", "move that away, or the whole of it")
    if names and not names & {WEIGHTS, RECORD}:
        raise CheckpointError(f"{path} is no model", "choose another name, or remove it first")


def _write_files(folder: Path, gpt: GPT, tokenizer: Tokenizer, record: Record, precision: str) -> Record:
    config = gpt.config
    hf_config = configuration.to_hf_config(config, tokenizer.bos_id, tokenizer.eot_id, HF_DTYPES[precision])
    weights = huggingface.to_hf_weights(config, dict(_as_stored(gpt, precision)))
    safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    _write_json(folder / CONFIG, hf_config)
    generation = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eot_id, "do_sample": True}
    _write_json(folder / GENERATION, {**generation, "temperature": 0.8})
    tokenizer.save(folder, model_max_length=config.block_size)
    written = sorted(file for file in folder.rglob("*") if file.is_file())
    files = {file.relative_to(folder).as_posix(): catalog.hash_file(file) for file in written}
    record = msgspec.structs.replace(
        record,
        created=record.created or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        written_by=f"minigpt-tui {engine.__version__}",
        tokenizer=tokenizer.kind,
        torch=record.torch or str(torch.__version__),
        architecture={key: to_dict(config)[key] for key in SHAPE_BEYOND_HF},
        files=files,
    )
    _write_json(folder / RECORD, record)
    return record


def _write_json(path: Path, value: Any) -> None:
    path.write_bytes(_readable_json(value))


def _as_stored(gpt: GPT, precision: str) -> Iterator[tuple[str, Tensor]]:
    """The weights by name in the precision they are stored in, on the CPU."""
    for name, tensor in gpt.state_dict().items():
        stored = tensor.detach().to("cpu", DTYPES[precision])
        if stored.isinf().any() and not tensor.isinf().any():
            largest = torch.finfo(stored.dtype).max
            raise CheckpointError(
                f"{name} has a weight of {tensor.abs().max():g}, and {precision} holds {largest:g} at most",
                "store it as bf16 or fp32",
            )
        yield name, stored


def write_record(path: Path, record: Record) -> None:
    """Replace a checkpoint's `minigpt.json` in one step.

    Raises:
        CheckpointError: It cannot be written.
    """
    try:
        safe_writing.write_file(path / RECORD, _readable_json(record))
    except OSError as error:
        raise CheckpointError(f"{path / RECORD} cannot be written ({error})", "free some space") from None


def drop_training(path: Path) -> None:
    """Leave of a checkpoint the model alone. Its record lets go of the rest first, so that it is whole at any moment.

    Raises:
        CheckpointError: It cannot be changed.
    """
    record = catalog.read_record(path)
    left = {name: sha256 for name, sha256 in record.files.items() if not name.startswith(f"{TRAINING}/")}
    if left != record.files:
        write_record(path, msgspec.structs.replace(record, files=left))
    shutil.rmtree(path / TRAINING, ignore_errors=True)


def _readable_json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def export_model(name: str, path: Path, precision: str = "", *, replace: bool = False) -> Record:
    """Copy a model as a Hugging Face directory in another precision: how a run becomes a model to ship.

    What it says of its text no longer tells in which folders of this machine the files are.

    Args:
        name: The model, as `load_model` takes it.
        path: The directory to make.
        precision: fp32, fp16 or bf16; empty keeps the stored one.
        replace: As `save_checkpoint` takes it.

    Raises:
        ModelNotFoundError, CheckpointError: As `load_model` and `save_checkpoint`.
    """
    source = catalog.find_checkpoint(name)
    config, weights, record = read_checkpoint(source)
    stored = read_weights_header(source / WEIGHTS)[1]
    wanted = precision or (stored if stored in DTYPES else "fp32")
    record = msgspec.structs.replace(record, data=without_folders(record.data))
    gpt, tokenizer = build(config, weights, source), Tokenizer.open(source)
    return save_checkpoint(
        path, gpt, tokenizer, record, precision=wanted, replace=replace, draft_table=find_table(source)
    )
