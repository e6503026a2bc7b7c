"""Which arithmetic a training run computes in. What was measured is remembered for this machine, so that the same
command trains the same weights tomorrow. Knows nothing of the trainer.
"""

from __future__ import annotations

import time

import torch

from engine.config import TrainConfig
from engine.devices import has_bf16, processor, resolve_precision
from engine.remembered import recall, remember

CLEAR_GAIN = 1.5
"""bf16 must be this many times as fast: where it is worth having it is three times, so noise decides nothing."""

REMEMBERED = "training-precision.json"

ROUNDS, ROUND_SECONDS = 7, 1e-3
"""Each arithmetic is timed in so many rounds, in turn, and each round lasts at least so long."""


def choose_precision(config: TrainConfig, device: str) -> str:
    """fp32, bf16 or fp16, for the forward pass of a run.

    `auto` is bf16 on a GPU that has it and fp16 on one that has not, bf16 on a CPU that gains from it, else fp32.

    Args:
        config: Says what is wanted, and the shape of the run.
        device: cpu, cuda or mps.

    Raises:
        DeviceError: The device cannot compute in it.
    """
    if config.precision != "auto":
        return resolve_precision(config.precision, device)
    if device == "cuda":
        return "bf16" if has_bf16(device) else "fp16"
    return "bf16" if device == "cpu" and bf16_gains(config) else "fp32"


def bf16_gains(config: TrainConfig) -> bool:
    """Whether this CPU multiplies matrices of the run's shape clearly faster in bf16 than in fp32.

    Measured once, as what a CPU's flags promise is not what every build of torch delivers; at most some 200 ms.
    """
    rows = min(2048, config.batch_size * config.block_size)
    threads = torch.get_num_threads()
    key = f"{processor()}, torch {torch.__version__}, {threads} threads, {rows} x {config.n_embd}"
    known = recall(REMEMBERED, bool)
    if key not in known:
        known[key] = measured_gain(rows, config.n_embd) > CLEAR_GAIN
        remember(REMEMBERED, known)
    return known[key]


def measured_gain(rows: int, n_embd: int) -> float:
    """How many times as fast as in fp32 a product of (rows, n_embd) and (n_embd, 4 n_embd) is in bf16."""
    x, w = torch.ones(rows, n_embd), torch.ones(n_embd, 4 * n_embd)
    pairs = [(x.to(dtype), w.to(dtype)) for dtype in (torch.float32, torch.bfloat16)]

    def seconds(pair: tuple[torch.Tensor, torch.Tensor], times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            pair[0] @ pair[1]
        return (time.perf_counter() - began) / times

    for pair in pairs:
        seconds(pair, 2)  # the first product sets up what the others use
    times = max(1, round(ROUND_SECONDS / max(1e-9, seconds(pairs[0], 2))))
    rounds = [[seconds(pair, times) for pair in pairs] for _ in range(ROUNDS)]
    fp32, bf16 = (min(column) for column in zip(*rounds, strict=True))  # the least disturbed round of each
    return float(fp32 / bf16)
