"""Colours in OKLab, the space of Ottosson (2020) where equal steps look equal: for scales that are read as numbers.
Knows nothing of themes, nor of what a colour means.
"""

from __future__ import annotations

import math

Lab = tuple[float, float, float]
"""Lightness from 0 to 1, and the two axes of hue."""


def to_lab(colour: str) -> Lab:
    """A colour such as #2e5e9a in OKLab."""
    r, g, b = (_linear(int(colour[place : place + 2], 16) / 255) for place in (1, 3, 5))
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def to_hex(lab: Lab) -> str:
    """The colour of a screen that is nearest to one in OKLab."""
    lightness, a, b = lab
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    channels = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * _encoded(min(1.0, max(0.0, channel)))):02x}" for channel in channels)


def blend(start: str, end: str, share: float) -> str:
    """The colour at a share of the way from one to another."""
    first, last = to_lab(start), to_lab(end)
    lightness, a, b = (one + (other - one) * share for one, other in zip(first, last, strict=True))
    return to_hex((lightness, a, b))


def of_hue(lightness: float, chroma: float, degrees: float) -> str:
    """A colour by its lightness, from 0 to 1, its distance from grey, and its hue."""
    turn = math.radians(degrees)
    return to_hex((lightness, chroma * math.cos(turn), chroma * math.sin(turn)))


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _encoded(channel: float) -> float:
    return 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055
