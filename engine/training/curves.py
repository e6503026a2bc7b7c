"""Long curves made short enough to draw: each share of the axis becomes its mean, its least and its most, so that
neither the trend nor a spike is lost. Knows nothing of who draws them, nor of torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Thinned(NamedTuple):
    """A curve of few points; all lists are of the same length.

    Attributes:
        x: Where each share's points are, on average.
        mean: The mean of each share.
        low: The least of each share.
        high: The most of each share.
    """

    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def thin(x: Sequence[float], y: Sequence[float], first: float, last: float, shares: int) -> Thinned:
    """The part of a curve between two places, as at most `shares` points.

    Args:
        x: Places of its points, increasing; a sequence with a buffer, such as an array, is not copied.
        y: Its values, one for each place; those that are not finite are left out.
        first: Where the part begins.
        last: Where it ends.
        shares: So many even shares of the axis; those without a point are left out.
    """
    import numpy as np  # not at the start: the app's first screen does not wait for it

    places: NDArray[np.float64] = np.asarray(x, dtype=np.float64)
    values: NDArray[np.float64] = np.asarray(y, dtype=np.float64)
    begin, end = np.searchsorted(places, first, "left"), np.searchsorted(places, last, "right")
    places, values = places[begin:end], values[begin:end]
    if not (finite := np.isfinite(values)).all():
        places, values = places[finite], values[finite]
    if not len(places) or shares < 1:
        return Thinned([], [], [], [])
    edges = np.linspace(first, last, shares + 1)[:-1]
    starts = np.unique(np.searchsorted(places, edges, "left"))
    starts = starts[starts < len(places)]
    counts = np.diff(np.append(starts, len(places)))
    return Thinned(
        (np.add.reduceat(places, starts) / counts).tolist(),
        (np.add.reduceat(values, starts) / counts).tolist(),
        np.minimum.reduceat(values, starts).tolist(),
        np.maximum.reduceat(values, starts).tolist(),
    )
