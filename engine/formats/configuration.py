"""Our settings of a model and Hugging Face's `config.json`, both ways. It knows nothing of torch, files or weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config import ModelConfig
from engine.errors import CheckpointError, InvalidSettingError
from engine.validation import make

ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel", "nanochat": "NanoChatForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
}  # fmt: skip
SLOWING = {
    "factor": "rope_factor", "original_max_position_embeddings": "rope_context", "low_freq_factor": "rope_slow",
    "high_freq_factor": "rope_fast",
}  # fmt: skip
"""Hugging Face's names for what slows a Llama's rotary frequencies, and ours."""

GPT2_ACTIVATIONS = {"gelu": "gelu_new", "gelu_erf": "gelu", "relu": "relu"}


def to_hf_config(config: ModelConfig, bos_id: int, eos_id: int, dtype: str) -> dict[str, Any]:
    """The `config.json` of a model.

    Args:
        config: Our configuration.
        bos_id: The id of what a text begins with; ours have `<|endoftext|>` for both.
        eos_id: The id of what it ends with.
        dtype: float32, float16 or bfloat16.
    """
    common = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
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
    if config.family == "llama":
        return {**rotary, "mlp_bias": False, **(_slowed(config) if config.rope_factor != 1 else {})}
    return {**rotary, "use_sliding_window": False, "sliding_window": None}


def _slowed(config: ModelConfig) -> dict[str, Any]:
    """Slowed rotary frequencies, under the newer name and the older one."""
    slowing = {name: getattr(config, ours) for name, ours in SLOWING.items()}
    scaling = {"rope_type": "llama3", **slowing}
    return {"rope_parameters": {**scaling, "rope_theta": config.rope_theta}, "rope_scaling": scaling}


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
    activations = {name: ours for ours, name in GPT2_ACTIVATIONS.items()}
    activations |= {"gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu"}
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
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" and (family, kind) != ("llama", "llama3"):
        _refuse(f"rotary positions of type {kind!r}")
    if values.get("attention_bias"):
        _refuse("attention with biases")
    if values.get("mlp_bias"):
        _refuse("an MLP with biases")
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
        "head_dim": values.get("head_dim", 128 if family == "qwen3" else None) or 0,
        "n_inner": values["intermediate_size"],
        "tie_head": values.get("tie_word_embeddings", False),
        "logit_soft_cap": float(values.get("final_logit_softcapping") or 0.0) if family == "nanochat" else 0.0,
        "rope_theta": float(rope.get("rope_theta") or values.get("rope_theta") or 10_000.0),
        "norm_eps": float(values.get("rms_norm_eps", 1e-6)),
    }
    if kind == "llama3":
        shape |= {ours: rope[name] for name, ours in SLOWING.items()}
    return make(ModelConfig, shape)


def _refuse(what: str) -> None:
    raise CheckpointError(f"the model has {what}", "that is not supported here")
