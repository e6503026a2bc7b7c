"""Passes over a text: how many steps they take, where they end, and what is said of each. Plain arithmetic; it knows
nothing of the run.
"""

from __future__ import annotations

from engine.config import MAX_STEPS, TrainConfig
from engine.errors import InvalidSettingError
from engine.training.state import EpochSums
from engine.training.stopwatch import clock


def run_length(config: TrainConfig, batches_per_epoch: float) -> int:
    """The steps of a run, whose length may be given in epochs.

    Raises:
        InvalidSettingError: So many epochs are more steps than a run can have.
    """
    if config.epochs is None:
        return config.steps
    steps = max(1, round(config.epochs * batches_per_epoch))
    if steps > MAX_STEPS:
        hint = f"a run has at most {MAX_STEPS:,}; choose fewer epochs"
        raise InvalidSettingError(f"epochs={config.epochs:g} of this text are {steps:,} steps", hint)
    return steps


def ends(step: int, batches_per_epoch: float, is_last: bool) -> int:
    """The number, from 1, of the epoch that ends with a step; 0 when none does.

    An epoch ends with the step that is nearest to its end, as batches run over from one to the next; the last step ends
    one that is not complete.

    Args:
        step: Steps taken.
        batches_per_epoch: A fraction, and less than 1 for a very short text.
        is_last: Whether it is the last step of the run.
    """
    done, before = (int((taken + 0.5) / batches_per_epoch) for taken in (step, step - 1))
    if done > before:
        return done
    return done + 1 if is_last else 0


def summary(number: int, epochs: float, sums: EpochSums, seconds: float, lr: float) -> str:
    """A line on an epoch: mean and lowest training loss, time, learning rate, and the last validation loss.

    Args:
        number: Of the epoch, from 1.
        epochs: Length of the run.
        sums: Of its steps, one at least.
        seconds: Of training, at its end.
        lr: At its end.
    """
    mantissa, _, exponent = f"{lr:.1e}".partition("e")
    loss, lowest = sums.total / max(1, sums.count), sums.lowest or 0.0
    val = "" if sums.val_loss is None else f", validation loss {sums.val_loss:.4f}"
    return (
        f"epoch {number} of {epochs:g}: loss {loss:.4f}, best {lowest:.4f}, {clock(seconds - sums.since)}, "
        f"lr {mantissa}e{int(exponent)}{val}"
    )
