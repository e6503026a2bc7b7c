"""The mapping between our model and Hugging Face's: configurations, names of weights and transposes, both ways.
It knows nothing of files; `engine.checkpoints` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.config import ModelConfig
from engine.errors import CheckpointError, InvalidSettingError
from engine.validation import make

ARCHITECTURES = {"gpt2": "GPT2LMHeadModel", "nanochat": "NanoChatForCausalLM", "qwen3": "Qwen3ForCausalLM"}
GPT2_ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu"}


def to_hf_config(config: ModelConfig, eot_id: int, dtype: str) -> dict[str, Any]:
    """The `config.json` of a model.

    Args:
        config: Our configuration.
        eot_id: The id of `<|endoftext|>`, both bos and eos.
        dtype: float32, float16 or bfloat16.
    """
    common = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "bos_token_id": eot_id,
        "eos_token_id": eot_id,
        "pad_token_id": None,
        "tie_word_embeddings": config.tie_head,
        "dtype": dtype,
        "use_cache": True,
    }
    if config.family == "gpt2":
        return {
            **common,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_embd": config.n_embd,
            "n_inner": config.inner_size,
            "n_positions": config.block_size,
            "n_ctx": config.block_size,  # the older name, which llama.cpp's converter reads
            "activation_function": GPT2_ACTIVATIONS[config.activation_kind],
            "layer_norm_epsilon": config.eps,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "scale_attn_weights": True,
        }
    rotary = {
        **common,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads,
        "hidden_size": config.n_embd,
        "head_dim": config.head_size,
        "intermediate_size": config.inner_size,
        "max_position_embeddings": config.block_size,
        "hidden_act": config.activation_kind,
        "rms_norm_eps": config.eps,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }
    if config.family == "nanochat":
        return {**rotary, "final_logit_softcapping": config.logit_soft_cap or None}
    return {**rotary, "use_sliding_window": False, "sliding_window": None}


def from_hf_config(values: Mapping[str, Any]) -> ModelConfig:
    """Read a `config.json`, ours or another's.

    Raises:
        CheckpointError: The family is not one of ours, or the model uses something that ours does not have.
    """
    family = values.get("model_type")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        raise CheckpointError(f"model_type is {family!r}", f"known are {', '.join(ARCHITECTURES)}")
    try:
        return _gpt2_config(values) if family == "gpt2" else _rotary_config(family, values)
    except KeyError as error:
        raise CheckpointError(
            f"config.json has no {error.args[0]!r}", "it is not a whole model configuration"
        ) from None
    except InvalidSettingError as error:
        raise CheckpointError(f"config.json cannot be used: {error.message}", error.hint) from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"config.json cannot be used: {error}", "a value is of the wrong kind or out of all bounds"
        ) from None


def _gpt2_config(values: Mapping[str, Any]) -> ModelConfig:
    activations = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu", "relu": "relu"}
    activation = activations.get(values.get("activation_function", "gelu_new"))
    if activation is None:
        _refuse(f"the activation {values['activation_function']!r}")
    if values.get("scale_attn_by_inverse_layer_idx"):
        _refuse("attention scaled by the layer's number")
    if values.get("scale_attn_weights") is False:
        _refuse("attention without scaling")
    shape = {
        "family": "gpt2",
        "vocab_size": values["vocab_size"],
        "block_size": values.get("n_positions") or values["n_ctx"],
        "n_layer": values["n_layer"],
        "n_head": values["n_head"],
        "n_embd": values["n_embd"],
        "n_inner": values.get("n_inner") or 0,
        "dropout": float(values.get("resid_pdrop", 0.0)),
        "bias": True,
        "activation": activation,
        "tie_head": values.get("tie_word_embeddings", True),
        "norm_eps": float(values.get("layer_norm_epsilon", 1e-5)),
    }
    return make(ModelConfig, shape)


def _rotary_config(family: str, values: Mapping[str, Any]) -> ModelConfig:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        _refuse(f"rotary positions of type {rope.get('rope_type', rope.get('type'))!r}")
    if values.get("attention_bias"):
        _refuse("attention with biases")
    if values.get("use_sliding_window"):
        _refuse("sliding-window attention")
    wanted = "relu2" if family == "nanochat" else "silu"
    if values.get("hidden_act", wanted) != wanted:
        _refuse(f"the activation {values['hidden_act']!r}")
    heads = values["num_attention_heads"]
    shape = {
        "family": family,
        "vocab_size": values["vocab_size"],
        "block_size": values["max_position_embeddings"],
        "n_layer": values["num_hidden_layers"],
        "n_head": heads,
        "n_kv_head": values.get("num_key_value_heads") or heads,
        "n_embd": values["hidden_size"],
        "head_dim": values.get("head_dim") or 0,
        "n_inner": values["intermediate_size"],
        "tie_head": values.get("tie_word_embeddings", False),
        "logit_soft_cap": float(values.get("final_logit_softcapping") or 0.0) if family == "nanochat" else 0.0,
        "rope_theta": float(rope.get("rope_theta") or values.get("rope_theta") or 10_000.0),
        "norm_eps": float(values.get("rms_norm_eps", 1e-6)),
    }
    return make(ModelConfig, shape)


def _refuse(what: str) -> None:
    raise CheckpointError(f"the model has {what}", "that is not supported here")


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
    if config.family == "qwen3":
        matrices |= {
            "mlp.gate": "mlp.gate_proj",
            "attention.query_norm": "self_attn.q_norm",
            "attention.key_norm": "self_attn.k_norm",
        }
    if config.family != "nanochat":  # nanochat's norms have no weights
        matrices |= {"attention_norm": norms[0], "mlp_norm": norms[1]}
    for layer in range(config.n_layer):
        for ours, theirs in matrices.items():
            stem = f"{root}.h.{layer}" if gpt2 else f"{root}.layers.{layer}"
            yield f"blocks.{layer}.{ours}.weight", f"{stem}.{theirs}.weight"
            if gpt2:
                yield f"blocks.{layer}.{ours}.bias", f"{stem}.{theirs}.bias"
    if config.family != "nanochat":
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
