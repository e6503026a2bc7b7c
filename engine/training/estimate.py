"""What a run takes before it begins: parameters, memory, tokens in a step. Parameters are counted exactly, memory is
reckoned from what a step keeps for its backward pass. Knows nothing of torch, so that a form can ask at each key.
"""

from __future__ import annotations

import msgspec
import psutil

from engine.config import WRITTEN_OUT, ModelConfig, TrainConfig
from engine.errors import DeviceError

FULL = 4
"""Bytes of a number in fp32: weights, gradients and the optimizers' state are kept in it."""

HALF = 2
"""Bytes of a number in bf16 and fp16."""

SHARE_TO_FILL = 0.9
"""A run may take this share of the memory that is free: the rest is the text's, and the system's."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run takes; sizes in bytes.

    Attributes:
        parameters: Number of weights, exactly as `GPT.parameter_count` has it.
        tokens_per_step: Of the global batch, which all processes share.
        weights: All weights, their running mean where one is kept, and copies of them in the arithmetic of the forward
            pass where that is another.
        gradients: Of the weights that are trained.
        optimizer: The optimizers' state.
        activations: What one forward pass keeps for the backward pass.
    """

    parameters: int
    tokens_per_step: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def memory(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations


class MeasureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -m engine.training.measure` reads: the run whose step it times.

    Attributes:
        training: Its settings.
        model: The model that it trains.
        device: auto, cpu, cuda or mps.
    """

    training: TrainConfig
    model: ModelConfig
    device: str = "auto"


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it answers.

    Attributes:
        step_seconds: An optimizer step, without compiling.
        fastest_step: Of those that were timed; so with `slowest_step`.
        steps: How many were timed.
        tokens_per_second: Of training.
        eval_tokens_per_second: Of an evaluation.
        device: What `auto` is here.
        precision: What `auto` is here.
        peak_memory: The most that the process had, in bytes; on a GPU, of the GPU's memory.
        is_busy: Whether other programs took much of the CPU meanwhile.
        is_part: Whether a part of a step was timed, as a whole one takes too long to wait for.
        problem: Why nothing was measured; empty when all went well.
        hint: What to do about that.
    """

    step_seconds: float = 0.0
    fastest_step: float = 0.0
    slowest_step: float = 0.0
    steps: int = 0
    tokens_per_second: float = 0.0
    eval_tokens_per_second: float = 0.0
    device: str = ""
    precision: str = ""
    peak_memory: int = 0
    is_busy: bool = False
    is_part: bool = False
    problem: str = ""
    hint: str = ""


def parameter_count(config: ModelConfig) -> int:
    """Number of trained or stored weights; a tied head counts once."""
    head = 0 if config.tie_head else config.vocab_size * config.n_embd
    final_norm = _norm_size(config, config.n_embd)
    return _tables(config) + config.n_layer * _block_size(config) + final_norm + head


def _tables(config: ModelConfig) -> int:
    positions = config.block_size if config.family == "gpt2" else 0
    return (config.vocab_size + positions) * config.n_embd


def _norm_size(config: ModelConfig, size: int) -> int:
    """Weights of one norm."""
    if not config.has_norm_weights:
        return 0
    return 2 * size if config.family == "gpt2" and config.bias else size


def _matrices_size(config: ModelConfig) -> int:
    """Weights of one block's matrices."""
    C, D, inner = config.n_embd, config.head_size, config.inner_size
    attention = C * D * (2 * config.n_head + 2 * config.kv_heads)
    mlp = C * inner * (3 if config.is_gated else 2)
    return attention + mlp


def _block_size(config: ModelConfig) -> int:
    """Weights of one block."""
    C, D = config.n_embd, config.head_size
    biases = D * (config.n_head + 2 * config.kv_heads) + C + config.inner_size + C if config.bias else 0
    head_norms = 2 * D if config.has_norm_weights and config.norms_heads else 0
    return _matrices_size(config) + biases + head_norms + 2 * _norm_size(config, C)


def estimate(config: TrainConfig, model: ModelConfig, *, half: bool = False, on_cpu: bool = True) -> Estimate:
    """What a run takes.

    Args:
        config: Its settings.
        model: The model that it trains.
        half: Whether the forward pass is in bf16 or fp16.
        on_cpu: Whether it runs on the CPU, where dropout in the attention keeps the whole table of weights.
    """
    parameters, T = parameter_count(model), window(config, model)
    fixed = model.block_size * model.n_embd if model.position_kind == "sinusoidal" else 0
    trained = parameters - fixed
    in_muon = model.n_layer * _matrices_size(model) if config.optimizer == "muon" else 0
    copies = HALF * (model.n_layer * _matrices_size(model) + model.vocab_size * model.n_embd) if half else 0
    return Estimate(
        parameters=parameters,
        tokens_per_step=config.batch_size * config.accumulation * T,
        weights=FULL * parameters * (2 if config.average else 1) + copies,
        gradients=FULL * trained,
        optimizer=FULL * (in_muon + 2 * (trained - in_muon)),  # Muon keeps one number for each weight, AdamW two
        activations=config.batch_size * T * _token_bytes(model, T, half=half, on_cpu=on_cpu),
    )


def window(config: TrainConfig, model: ModelConfig) -> int:
    """Tokens in a window, T: of a model that is gone on from, at most its context."""
    return min(config.block_size, model.block_size)


def _token_bytes(model: ModelConfig, T: int, *, half: bool, on_cpu: bool) -> int:
    """What a forward pass keeps for each token of windows of T."""
    C, H, D, inner = model.n_embd, model.n_head, model.head_size, model.inner_size
    size = HALF if half else FULL
    heads = D * (2 * H + 2 * model.kv_heads)  # queries and what attention gives, keys, values
    if model.norms_heads:
        heads += D * (H + model.kv_heads)  # queries and keys before their norm
    attention = size * heads + FULL * H
    is_written_out = on_cpu and half and T <= WRITTEN_OUT
    if on_cpu and model.family == "gpt2" and model.dropout:
        attention += 3 * (HALF if is_written_out else FULL) * H * T  # weights before and after dropout, what was kept
    elif is_written_out:
        attention += HALF * H * T
    kept = {"silu": 4, "relu2": 3, "gelu": 2, "gelu_erf": 2, "relu": 1}
    wide = kept[model.activation_kind]  # what is kept of the MLP's inner width
    stream = 2 * (FULL + size) * C  # each half of the block: what comes to its norm, and what leaves it
    if model.family != "gpt2" and model.has_norm_weights:  # whose gradient needs what they are multiplied with
        stream += 2 * FULL * C
        attention += FULL * D * (H + model.kv_heads) if model.norms_heads else 0
    dropped = 2 * C if model.dropout else 0  # which numbers were kept, a byte each
    block = stream + attention + size * wide * inner + dropped
    logits = (2 * FULL + (HALF if half else 0)) * model.vocab_size  # their softmax, and the gradient that comes back
    return model.n_layer * block + (2 * FULL) * C + logits


def free_memory() -> int:
    """Bytes of this machine's memory that can be had."""
    return int(psutil.virtual_memory().available)


def check_fits(needed: int, free: int) -> None:
    """Raise DeviceError when a run would need more than most of the memory that is free; both in bytes."""
    if needed > SHARE_TO_FILL * free:
        raise DeviceError(
            f"it takes about {size_text(needed)} of memory, and {size_text(free)} are free",
            "choose a smaller batch_size or model",
        )


def size_text(size: int) -> str:
    """A size in bytes with two or three digits, such as `262 MB`."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if size >= unit:
            share = size / unit
            return f"{share:,.1f} {name}" if share < 100 and unit > 10**6 else f"{share:,.0f} {name}"
    return f"{size} bytes"
