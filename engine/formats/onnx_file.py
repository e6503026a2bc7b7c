"""A model as an ONNX graph, which onnxruntime and what is built on it run: one step of decoding, from some tokens and
the keys and values of those before them to the logits and the keys and values of all. Beside it lie the tokenizer and
the configuration. Writing needs the `onnx` and `onnxscript` packages, an extra.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from engine import catalog, folders, safe_writing
from engine.catalog import CONFIG
from engine.checkpoints import GENERATION, open_checkpoint
from engine.config import ModelConfig
from engine.errors import CheckpointError, InvalidSettingError, TokenizerError
from engine.formats.configuration import to_hf_config
from engine.model.gpt import GPT
from engine.model.layers import Attention, rotate
from engine.text.tokenizers import Tokenizer

GRAPH = "model.onnx"
FILES = {GRAPH, CONFIG, GENERATION, "tokenizer.json", "tokenizer_config.json"}
LARGEST = 450_000_000
"""Weights of four bytes that one file of protobuf has room for, with all else."""

SOME_TOKENS, SOME_PAST = 3, 5
"""Lengths to write the step down with; any other will do, none of them 0 or 1, which torch takes for special."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        parameters: Number of weights.
    """

    parameters: int


class CachedStep(nn.Module):
    """One step of decoding with a model's own parts.

    Shapes: B texts, T tokens of each, P tokens before them; C = n_embd, H heads, G key-value heads, D = head_size.
    """

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt

    def forward(self, input_ids: Tensor, position_ids: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The logits behind each token, and the keys and values of all tokens.

        Args:
            input_ids: (B, T).
            position_ids: (B, T), the places of these tokens in the window.
            past: Keys and values of each block in turn, (B, G, P, D) each.

        Returns:
            (B, T, V), and keys and values of each block in turn, (B, G, P + T, D) each.
        """
        gpt, presents = self.gpt, []
        T, P = input_ids.shape[1], past[0].shape[2]
        future = torch.arange(P + T) > torch.arange(P, P + T)[:, None]  # (T, P + T)
        x = gpt.embedding(input_ids)  # (B, T, C)
        rotary = None
        if gpt.positions is not None:
            x = x + gpt.positions(position_ids)
        else:
            rotary = gpt.cos[position_ids][:, None], gpt.sin[position_ids][:, None]  # (B, 1, T, D) each
        if gpt.embedding_norm is not None:
            x = gpt.embedding_norm(x)
        for number, block in enumerate(gpt.blocks):
            read, key, value = _attend(
                block.attention,  # type: ignore[arg-type]
                block.attention_norm(x),  # type: ignore[operator]
                rotary,
                past[2 * number],
                past[2 * number + 1],
                future,
            )
            presents += [key, value]
            x = x + read
            x = x + block.mlp(block.mlp_norm(x))  # type: ignore[operator]
        return gpt.logits(gpt.final_norm(x)), *presents


def _attend(
    attention: Attention,
    x: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    past_key: Tensor,
    past_value: Tensor,
    future: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a block's heads read, (B, T, C), and its keys and values, (B, G, P + T, D) each."""
    config = attention.config
    (B, T, _), H, G, D = x.shape, config.n_head, config.kv_heads, config.head_size
    q = attention.query(x).view(B, T, H, D).transpose(1, 2)  # (B, H, T, D)
    k = attention.key(x).view(B, T, G, D).transpose(1, 2)  # (B, G, T, D)
    v = attention.value(x).view(B, T, G, D).transpose(1, 2)  # (B, G, T, D)
    if attention.query_norm is not None and attention.key_norm is not None:
        q, k = attention.query_norm(q), attention.key_norm(k)
    if rotary is not None:
        q, k = rotate(q, *rotary), rotate(k, *rotary)
    key, value = torch.cat((past_key, k), dim=2), torch.cat((past_value, v), dim=2)  # (B, G, P + T, D)
    all_keys, all_values = (each.repeat_interleave(H // G, dim=1) if G != H else each for each in (key, value))
    scores = (q * D**-0.5) @ all_keys.transpose(-1, -2)  # (B, H, T, P + T)
    y = scores.masked_fill(future, float("-inf")).softmax(dim=-1) @ all_values
    return attention.out(y.transpose(1, 2).reshape(B, T, H * D)), key, value


def export_onnx(name: str, path: Path, *, replace: bool = False) -> Exported:
    """Write a model as a folder with `model.onnx`, its tokenizer and its configuration: all of it, or nothing.

    Its inputs are `input_ids`, `position_ids` and `past_key_values.N.key` and `.value` of each block N, its outputs
    `logits` and `present.N.key` and `.value`; the numbers are float32.

    Args:
        name: The model, as `load_model` takes it.
        path: The folder to make.
        replace: Whether such a folder that is there already may be replaced; what is none never is.

    Raises:
        ModelNotFoundError: Nothing goes by that name.
        InvalidSettingError: The packages that it takes are not installed.
        CheckpointError: The model is damaged or too large, or the folder is there already or cannot be written; what
            was there is there still.
    """
    gpt, tokenizer, _ = open_checkpoint(catalog.find_checkpoint(name))
    if gpt.parameter_count() > LARGEST:
        raise CheckpointError("an ONNX file holds 2 GB at most", "use --to hf, or --to gguf")
    gpt = gpt.float().eval().requires_grad_(False)
    _check_packages()
    folders.private(path.parent)
    safe_writing.recover(path)
    _check_replaceable(path, replace)
    program = _program(gpt)
    try:
        with safe_writing.new_directory(path, replace=replace) as folder:
            program.save(folder / GRAPH)
            _write_beside(folder, gpt.config, tokenizer)
    except (OSError, TokenizerError) as error:
        raise CheckpointError(
            f"{path} cannot be written ({error})", "free some space, or choose another place"
        ) from None
    return Exported(gpt.parameter_count())


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise InvalidSettingError("onnx is not installed", "pip install 'minigpt-tui[onnx]'") from None


def _check_replaceable(path: Path, replace: bool) -> None:
    if not path.exists():
        return
    if not replace:
        raise CheckpointError(f"{path} exists already", "choose another name, remove it, or add --force")
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    if names and GRAPH not in names:
        raise CheckpointError(f"{path} has no {GRAPH}", "choose another name, or remove it first")
    if others := sorted(names - FILES):
        raise CheckpointError(f"{path} is more than a model: it has {others[0]}", "move that away, or the whole of it")


def _program(gpt: GPT) -> Any:
    """The step as a graph whose texts, tokens and tokens before them may be as many as one likes."""
    config = gpt.config
    B, T, P = 2, SOME_TOKENS, SOME_PAST
    ids = torch.zeros(B, T, dtype=torch.long)
    places = torch.zeros(B, T, dtype=torch.long)
    past = tuple(torch.zeros(B, config.kv_heads, P, config.head_size) for _ in range(2 * config.n_layer))
    any_length = torch.export.Dim.DYNAMIC
    tokens = {0: any_length, 1: any_length}
    names = [f"{number}.{kind}" for number in range(config.n_layer) for kind in ("key", "value")]
    with _quiet():
        return torch.onnx.export(
            CachedStep(gpt),
            (ids, places, past),
            dynamo=True,
            verbose=False,
            optimize=False,
            input_names=["input_ids", "position_ids", *(f"past_key_values.{name}" for name in names)],
            output_names=["logits", *(f"present.{name}" for name in names)],
            dynamic_shapes=(tokens, tokens, tuple({0: any_length, 2: any_length} for _ in past)),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what torch says of packages that nobody needs here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_beside(folder: Path, config: ModelConfig, tokenizer: Tokenizer) -> None:
    bos, eos = tokenizer.bos_id, tokenizer.eot_id
    generation = {"bos_token_id": bos, "eos_token_id": eos}
    for name, value in ((CONFIG, to_hf_config(config, bos, eos, "float32")), (GENERATION, generation)):
        (folder / name).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    tokenizer.save(folder, model_max_length=config.block_size)
