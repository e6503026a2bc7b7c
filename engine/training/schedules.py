"""The learning rate along a run, as a share of its peak. Plain arithmetic; it knows nothing of optimizers."""

from __future__ import annotations

import math

from engine.config import TrainConfig


def learning_rate_share(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of a step as a share of the peak, in (0, 1].

    It rises linearly over `warmup_steps`. Then `linear` stays at the peak until `constant_until` of all steps and
    falls in a straight line; `cosine` falls along half a cosine. Both reach `min_learning_rate` behind the last step.

    Args:
        config: Names the schedule.
        step: From 0.
        steps: Length of the run.
    """
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    begin = max(config.warmup_steps, config.constant_until * steps if config.schedule == "linear" else 0)
    if step < begin:
        return 1.0
    done = min(1.0, (step - begin) / max(1.0, steps - begin))
    left = 1.0 - done if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return config.min_learning_rate + (1.0 - config.min_learning_rate) * left
