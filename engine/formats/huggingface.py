"""The mapping between our model's weights and Hugging Face's: names and transposes, both ways. Configurations are in
`configuration.py`. It knows nothing of files; `engine.checkpoints` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from engine.config import ModelConfig
from engine.errors import CheckpointError


def weight_names(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Pairs (our name, Hugging Face's name) of the weights that map one to one; gpt2's fused c_attn is apart.

    A tied head is not among them: it is the embedding.
    """
    gpt2 = config.family == "gpt2"
    root, norms = (
        ("transformer", ("ln_1", "ln_2")) if gpt2 else ("model", ("input_layernorm", "post_attention_layernorm"))
    )
    yield "embedding.weight", f"{root}.wte.weight" if gpt2 else f"{root}.embed_tokens.weight"
    if gpt2:
        yield "positions.weight", f"{root}.wpe.weight"
        matrices = {"attention.out": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
    else:
        up, down = ("fc1", "fc2") if config.family == "nanochat" else ("up_proj", "down_proj")
        matrices = {
            "attention.query": "self_attn.q_proj",
            "attention.key": "self_attn.k_proj",
            "attention.value": "self_attn.v_proj",
            "attention.out": "self_attn.o_proj",
            "mlp.up": f"mlp.{up}",
            "mlp.down": f"mlp.{down}",
        }
    if config.is_gated:
        matrices |= {"mlp.gate": "mlp.gate_proj"}
    if config.has_norm_weights and config.norms_heads:
        matrices |= {"attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm"}
    if config.has_norm_weights:
        matrices |= {"attention_norm": norms[0], "mlp_norm": norms[1]}
    for layer in range(config.n_layer):
        for ours, theirs in matrices.items():
            stem = f"{root}.h.{layer}" if gpt2 else f"{root}.layers.{layer}"
            yield f"blocks.{layer}.{ours}.weight", f"{stem}.{theirs}.weight"
            if gpt2:
                yield f"blocks.{layer}.{ours}.bias", f"{stem}.{theirs}.bias"
    if config.has_norm_weights:
        yield "final_norm.weight", f"{root}.ln_f.weight" if gpt2 else f"{root}.norm.weight"
    if gpt2:
        yield "final_norm.bias", f"{root}.ln_f.bias"
    if not config.tie_head:
        yield "head.weight", "lm_head.weight"


def to_hf_weights(config: ModelConfig, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under Hugging Face's names, with GPT-2's transposes and zeros for the biases that we lack."""
    theirs: dict[str, Tensor] = {}
    for our_name, their_name in weight_names(config):
        if our_name in ours:
            theirs[their_name] = _transposed(config, our_name, ours[our_name])
        elif their_name.endswith(".bias"):
            like = theirs[their_name.removesuffix("bias") + "weight"]
            theirs[their_name] = like.new_zeros(like.shape[-1])
    if config.family == "gpt2":
        for layer in range(config.n_layer):
            stem = f"blocks.{layer}.attention"
            weights = [ours[f"{stem}.{part}.weight"] for part in ("query", "key", "value")]
            fused = torch.cat(weights).T.contiguous()  # (C, 3C): Conv1D keeps in x out
            biases = [ours.get(f"{stem}.{part}.bias") for part in ("query", "key", "value")]
            theirs[f"transformer.h.{layer}.attn.c_attn.weight"] = fused
            theirs[f"transformer.h.{layer}.attn.c_attn.bias"] = (
                torch.cat([bias for bias in biases if bias is not None])
                if biases[0] is not None
                else fused.new_zeros(fused.shape[1])
            )
    return {name: tensor.contiguous() for name, tensor in theirs.items()}


def from_hf_weights(config: ModelConfig, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's weights under our names.

    Raises:
        CheckpointError: A weight is missing, or has not the axes to be taken apart.
    """
    if config.family == "gpt2" and not any(name.startswith("transformer.") for name in theirs):
        theirs = {f"transformer.{name}" if name != "lm_head.weight" else name: t for name, t in theirs.items()}
    ours: dict[str, Tensor] = {}
    for our_name, their_name in weight_names(config):
        if our_name.endswith(".bias") and not config.bias:
            continue
        ours[our_name] = _transposed(config, our_name, _take(theirs, their_name))
    if config.family == "gpt2":
        for layer in range(config.n_layer):
            stem = f"transformer.h.{layer}.attn.c_attn"
            thirds = {"weight": _in_thirds(stem, _turned(stem, _take(theirs, f"{stem}.weight")))}  # of (3C, C)
            if config.bias:
                thirds["bias"] = _in_thirds(stem, _take(theirs, f"{stem}.bias"))  # of (3C,)
            for kind, parts in thirds.items():
                for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                    ours[f"blocks.{layer}.attention.{part}.{kind}"] = tensor.contiguous()
    if config.tie_head:
        ours["head.weight"] = ours["embedding.weight"]
    return ours


def _transposed(config: ModelConfig, our_name: str, tensor: Tensor) -> Tensor:
    conv1d = config.family == "gpt2" and our_name.endswith(("out.weight", "up.weight", "down.weight"))
    return _turned(our_name, tensor).contiguous() if conv1d else tensor


def _turned(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim != 2:
        raise CheckpointError(f"{name} has {tensor.ndim} axes where a matrix belongs", "the weights file is damaged")
    return tensor.T


def _in_thirds(name: str, tensor: Tensor) -> tuple[Tensor, ...]:
    if not tensor.ndim or tensor.shape[0] % 3:
        raise CheckpointError(f"{name} cannot be taken apart into three", "the weights file is damaged")
    return tensor.tensor_split(3)


def _take(weights: Mapping[str, Tensor], name: str) -> Tensor:
    try:
        return weights[name]
    except KeyError:
        raise CheckpointError(f"the weights have no {name}", "config.json and model.safetensors do not fit") from None
