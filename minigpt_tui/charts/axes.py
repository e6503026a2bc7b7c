"""Where the marks of an axis stand and what they say: round numbers, on a linear or a logarithmic scale."""

from __future__ import annotations

import itertools
import math

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` to `high`; two at least where two were asked for: one says no scale."""
    if not high > low or count < 1:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in ROUND if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    found = [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]
    return found if len(found) >= min(2, count) else linear_ticks(low, high, count + 1)


def step_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round steps from `low` to `high`: there is none between two steps."""
    return [float(round(tick)) for tick in linear_ticks(low, high, count) if abs(tick - round(tick)) < 1e-6]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` to `high`, both above 0, on a logarithmic scale."""
    if high / low < 4:  # too near for whole powers to say anything
        return linear_ticks(low, high, count)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(found) <= count + 1:
            break
    return found or [low]


def number_texts(values: list[float]) -> list[str]:
    """Numbers with as many decimals as tell them apart; thousands as `12K`."""
    if not values:
        return []
    most = max(map(abs, values))
    step = min((b - a for a, b in itertools.pairwise(values)), default=most or 1.0)
    for size, unit, least in ((1e6, "M", 1e5), (1e3, "K", 1e3)):
        if most >= 10 * size or (most >= size and step >= least):
            decimals = _decimals(step / size)
            return [f"{value / size:.{decimals}f}{unit}" if value else "0" for value in values]
    return [f"{value:,.{_decimals(step)}f}" for value in values]


TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 4 * 3600, 6 * 3600, 12 * 3600, 86_400)


def time_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` times from `low` to `high`, round in seconds, minutes or hours."""
    rough = (high - low) / max(1, count)
    step = next((step for step in TIME_STEPS if step >= rough), None)
    if step is None or rough < TIME_STEPS[0]:
        return linear_ticks(low, high, count)
    return [float(place * step) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def time_texts(values: list[float]) -> list[str]:
    """Seconds as `40s`, `5m` or `2h30`."""
    step = min((b - a for a, b in itertools.pairwise(values)), default=1.0)
    return [_time_text(value, step) for value in values]


def _time_text(seconds: float, step: float) -> str:
    if not seconds:
        return "0"
    if step < 1 or max(seconds, step) < 60:
        return f"{seconds:.{_decimals(step)}f}s"
    hours, minutes, rest = int(seconds // 3600), int(seconds // 60) % 60, int(seconds) % 60
    if hours:
        return f"{hours}h{minutes:02}" if step % 3600 else f"{hours}h"
    return f"{minutes}m{rest:02}" if step % 60 else f"{minutes}m"


def _decimals(step: float) -> int:
    """How many decimals tell numbers apart that lie `step` from each other."""
    if step <= 0:
        return 0
    return next((places for places in range(5) if abs(round(step, places) - step) < step * 0.01), 5)
