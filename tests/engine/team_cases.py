"""What one process and two processes must do alike: the cases of `test_distributed.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from engine.config import TrainConfig
from engine.evaluation import TOKENS_AT_ONCE
from engine.model.gpt import GPT
from engine.text.batches import Batches
from engine.text.tokenizers import train_tokenizer
from engine.training.distributed import ALONE
from engine.training.stepper import Stepper

T, STEPS = 16, 6
FIRST, MIDDLE, LAST = range(2), range(2, 4), range(4, 6)

EVALUATED = ("ddp", "fsdp")
"""The cases whose model is evaluated as well."""

TEXT_TOKENS = 2 * TOKENS_AT_ONCE + 100
"""Three passes of an evaluation, so that one of two processes has one more."""

BYTES = train_tokenizer("byte", [], 257)

CASES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp-muon": {"optimizer": "muon", "weight_decay": 0.1},
    "ddp-uneven": {"batch_size": 5},
    "ddp-passes": {"batch_size": 2, "accumulation": 3, "tie_head": True, "family": "gpt2", "bias": True},
    "ddp-fp16": {"precision": "fp16"},
    "ddp-crowded": {"batch_size": 8, "room": 2},
    "fsdp": {"parallel": "fsdp"},
    "fsdp-muon": {"parallel": "fsdp", "optimizer": "muon", "weight_decay": 0.1},
    "fsdp-uneven": {"parallel": "fsdp", "batch_size": 3, "accumulation": 3, "tie_head": True, "family": "qwen3"},
}


def stepper_for(case: dict[str, Any], weights: Any = None, state: Any = None, *, team=ALONE, **rest) -> Stepper:
    """The stepper of a case, from fresh weights or those given; `room` is how many rows fit into the second process."""
    settings = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": T, "batch_size": 6, "steps": STEPS} | {
        "optimizer": "adamw", "compile": "off", "grad_clip": 0.5, "warmup_steps": 0} | case  # fmt: skip
    room = settings.pop("room", None)
    config = TrainConfig(**settings)
    gpt = GPT(config.model_config(BYTES.vocab_size))
    gpt.initialize(torch.Generator().manual_seed(0))
    if weights:
        gpt.load_state_dict(weights)
    tokens = np.random.default_rng(0).integers(BYTES.vocab_size, size=900)
    batches = Batches(tokens, T, config.batch_size * config.accumulation, config.seed, eot_id=0)
    precision = "fp32" if config.precision == "auto" else config.precision
    if room and team.rank == 1:
        loss = gpt.loss

        def crowded(x, y):
            if len(x) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss(x, y)

        gpt.loss = crowded
    stepper = Stepper(gpt, config, STEPS, batches, device="cpu", precision=precision, team=team, **rest)
    if state:
        stepper.load_state(state)
    return stepper


def text() -> np.ndarray:
    """Tokens to evaluate on."""
    return np.random.default_rng(1).integers(BYTES.vocab_size, size=TEXT_TOKENS)
