"""A model as one GGUF file, which llama.cpp and what is built on it run: the weights under llama.cpp's names, the
shape, and the tokenizer as `gguf_tokenizer.py` spells it. What llama.cpp cannot run is refused with the reason. Writing
needs the `gguf` package, an extra; who writes nothing does not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine import catalog, folders, safe_writing
from engine.catalog import WEIGHTS
from engine.checkpoints import open_checkpoint
from engine.config import ModelConfig
from engine.errors import CheckpointError, InvalidSettingError
from engine.formats.gguf_tokenizer import Vocabulary, to_vocabulary
from engine.formats.safetensors_header import read_weights_header
from engine.model.gpt import GPT
from engine.model.layers import in_pairs, rotary_slowing
from engine.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    from gguf import GGUFWriter

MAGIC = b"GGUF"
BLOCK = 32
"""Numbers that share a scale in q8_0."""

DTYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""What the matrices can be stored as, by the package's names. Vectors and positions are float32 always."""

FILE_TYPES = {"fp32": "ALL_F32", "fp16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}

BLOCK_NAMES = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "attention.out": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}
"""llama.cpp's names for the parts of a block."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        parameters: Number of weights.
        dtype: fp32, fp16, bf16 or q8_0.
        eot: The name of the token that an empty prompt begins with; empty where llama.cpp puts it there itself.
        remark: What llama.cpp does differently all the same; mostly empty.
    """

    parameters: int
    dtype: str
    eot: str
    remark: str


def export_gguf(name: str, path: Path, dtype: str = "", *, replace: bool = False) -> Exported:
    """Write a model as a GGUF file: all of it, or nothing.

    Args:
        name: The model, as `load_model` takes it.
        path: The file to make.
        dtype: fp32, fp16, bf16 or q8_0, of the matrices; empty keeps the stored one.
        replace: Whether a GGUF file that is there already may be replaced; what is none never is.

    Raises:
        ModelNotFoundError: Nothing goes by that name.
        InvalidSettingError: The `gguf` package is not installed.
        CheckpointError: The model is damaged, or none that llama.cpp can run, or the file is there already or cannot be
            written; what was there is there still.
        TokenizerError: llama.cpp would read a text differently.
    """
    source = catalog.find_checkpoint(name)
    gpt, tokenizer, _ = open_checkpoint(source)
    stored = read_weights_header(source / WEIGHTS)[1]
    wanted = dtype or (stored if stored in DTYPES else "fp32")
    return write_gguf(path, gpt, tokenizer, wanted, source.name, replace=replace)


def write_gguf(path: Path, gpt: GPT, tokenizer: Tokenizer, dtype: str, name: str, *, replace: bool = False) -> Exported:
    """`export_gguf`, of a model in memory; `name` is what the file calls it."""
    _check_runnable(gpt.config)
    vocabulary = to_vocabulary(tokenizer, gpt.config.vocab_size)
    _check_replaceable(path, replace)
    writer = _new_writer(gpt.config.family)
    _add_shape(writer, gpt.config, dtype, name)
    _add_vocabulary(writer, vocabulary)
    for tensor_name, tensor in to_gguf_weights(gpt):
        _add_weights(writer, tensor_name, tensor, dtype)
    try:
        folders.private(path.parent)
        with safe_writing.new_file(path.resolve()) as file:  # what a link points to, not the link
            writer.write_header_to_file(file)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error})", "free some space, or choose another place"
        ) from None
    remarks = [vocabulary.remark] if vocabulary.remark else []
    if gpt.config.activation_kind == "gelu_erf":
        remarks.append("llama.cpp computes GELU by tanh, which is up to 0.0005 from this model's")
    begin = "" if vocabulary.has_prefix else tokenizer.piece(tokenizer.eot_id)
    return Exported(gpt.parameter_count(), dtype, begin, "; ".join(remarks))


def _check_runnable(config: ModelConfig) -> None:
    if config.family == "nanochat":
        raise CheckpointError(
            "llama.cpp cannot run models of the nanochat family", "train one with family=qwen3, or use --to hf"
        )
    if config.family == "gpt2" and config.activation_kind not in ("gelu", "gelu_erf"):
        raise CheckpointError(
            f"llama.cpp runs the gpt2 family with GELU alone, and this model has {config.activation_kind}",
            "train one with activation=gelu, or use --to hf",
        )


def _new_writer(family: str) -> GGUFWriter:
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise InvalidSettingError("gguf is not installed", "pip install 'minigpt-tui[gguf]'") from None
    return GGUFWriter(None, family)


def _check_replaceable(path: Path, replace: bool) -> None:
    if not path.exists():
        return
    if not replace:
        raise CheckpointError(f"{path} exists already", "choose another name, remove it, or add --force")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return
    raise CheckpointError(f"{path} is no GGUF file", "choose another name, or remove it first")


def _add_shape(writer: GGUFWriter, config: ModelConfig, dtype: str, name: str) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType[FILE_TYPES[dtype]])
    if dtype == "q8_0":
        writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.inner_size)
    writer.add_head_count(config.n_head)
    writer.add_vocab_size(config.vocab_size)
    if config.family == "gpt2":
        writer.add_layer_norm_eps(config.eps)
        return
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.eps)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.words)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges([f"{first} {second}" for first, second in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.bos_id)
    writer.add_eos_token_id(vocabulary.eot_id)
    # As with us, mostly nothing stands before a prompt; what begins an empty one is given to llama.cpp by its name.
    writer.add_add_bos_token(vocabulary.has_prefix)
    writer.add_add_eos_token(False)


def to_gguf_weights(gpt: GPT) -> Iterator[tuple[str, Tensor]]:
    """The weights under llama.cpp's names, with gpt2's three projections in one and zeros for the biases that we lack.

    llama.cpp turns neighbours in a llama's heads against each other, where we turn halves: their rows change places. A
    tied head is not among the weights: it is the embedding.
    """
    config, ours = gpt.config, gpt.state_dict()
    yield "token_embd.weight", ours["embedding.weight"]
    if "positions.weight" in ours:
        yield "position_embd.weight", ours["positions.weight"]
    if config.rope_factor != 1:
        yield "rope_freqs.weight", 1.0 / rotary_slowing(config)  # what frequencies are divided by
    for layer in range(config.n_layer):
        stem = f"blocks.{layer}."
        parts = {name.removeprefix(stem): tensor for name, tensor in ours.items() if name.startswith(stem)}
        if config.family == "gpt2":
            parts = _with_biases(parts)
            for kind in ("weight", "bias"):
                fused = [parts.pop(f"attention.{part}.{kind}") for part in ("query", "key", "value")]
                yield f"blk.{layer}.attn_qkv.{kind}", torch.cat(fused)  # (3C, C) or (3C,)
        if config.family == "llama":
            for part in ("query", "key"):
                parts[f"attention.{part}.weight"] = in_pairs(parts[f"attention.{part}.weight"], config.head_size)
        for name, tensor in parts.items():
            part, kind = name.rsplit(".", 1)
            yield f"blk.{layer}.{BLOCK_NAMES[part]}.{kind}", tensor
    final: dict[str, Tensor] = {name: ours[name] for name in ("final_norm.weight", "final_norm.bias") if name in ours}
    for name, tensor in (_with_biases(final) if config.family == "gpt2" else final).items():
        yield name.replace("final_norm", "output_norm"), tensor
    if not config.tie_head:
        yield "output.weight", ours["head.weight"]


def _with_biases(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights and biases by name, with zeros for a bias that is missing."""
    for name, weight in list(parts.items()):
        if name.endswith(".weight"):
            parts.setdefault(name.removesuffix("weight") + "bias", weight.new_zeros(weight.shape[0]))
    return parts


def _add_weights(writer: GGUFWriter, name: str, tensor: Tensor, dtype: str) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    if tensor.ndim < 2 or name == "position_embd.weight" or dtype == "fp32":
        writer.add_tensor(name, array)
        return
    if dtype == "q8_0" and array.shape[-1] % BLOCK:
        raise CheckpointError(
            f"q8_0 takes {BLOCK} numbers of a row at a time, and the rows of {name} have {array.shape[-1]}",
            "use --dtype fp16",
        )
    if dtype == "fp16" and tensor.abs().max() > torch.finfo(torch.float16).max:
        raise CheckpointError(
            f"{name} has a weight of {tensor.abs().max():g}, and fp16 holds 65504 at most", "store it as bf16 or fp32"
        )
    kind = GGMLQuantizationType[DTYPES[dtype]]
    writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)
