"""A row of blocks that shows how numbers went. Knows nothing of what they measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Numbers as blocks, the lowest as ▁ and the highest as █; of many the highest tenth is cut off there, so that a
    steep beginning does not flatten all that comes after it.

    Args:
        values: The numbers, in their order; those that are not finite are left out.
        width: At most so many blocks: where there are more numbers, each block is the mean of its share of them.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    shown = _means(finite, width) if len(finite) > width else finite
    low, high = min(shown), sorted(shown)[-1 - len(shown) // 10]
    step = (high - low) / (len(BLOCKS) - 1)
    if not step:
        return BLOCKS[0] * len(shown)
    return "".join(BLOCKS[round((min(value, high) - low) / step)] for value in shown)


def _means(values: list[float], count: int) -> list[float]:
    """The means of `count` even shares of more numbers than that."""
    edges = [len(values) * place // count for place in range(count + 1)]
    return [sum(values[first:last]) / (last - first) for first, last in pairwise(edges)]
