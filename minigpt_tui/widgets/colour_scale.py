"""The styles that show a number on a text: a scale with two ends for how surprising a token was, one with one end for
how much it was looked at; in colours that every eye tells apart, in a terminal's own sixteen, and without any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style
from textual.app import App
from textual.content import Content
from textual.style import Style as ContentStyle

from minigpt_tui.colour_space import blend
from minigpt_tui.inspecting import LEVELS

_PLAIN = Style()

_BY_WEIGHT = tuple(
    Style.parse(style)
    for style in ("bold underline", "bold underline", "underline", "underline", "", "", "dim", "dim", "dim")
)
"""Without colours: what surprises stands out, what was expected steps back."""

_SHADES_BY_WEIGHT = tuple(
    Style.parse(style)
    for style in ("dim", "dim", "", "", "underline", "underline", "bold underline", "bold underline", "bold underline")
)


def surprise_scale(app: App[object]) -> tuple[Style, ...]:
    """The styles from the most surprising to the most expected, LEVELS of them."""
    if app.no_color:
        return _BY_WEIGHT
    variables = app.theme_variables
    unlikely, likely = variables["unlikely"], variables["likely"]
    if not _has_shades(variables, unlikely, likely):
        return (*reversed(_few(unlikely)), *[_PLAIN] * (LEVELS - 5), *_few(likely)[:2])  # most is likely: it is quiet
    side = LEVELS // 2
    return (
        *(_shade(variables, unlikely, step / side) for step in range(side, 0, -1)),
        _shade(variables, likely, 0.0),
        *(_shade(variables, likely, step / side) for step in range(1, side + 1)),
    )


def shade_scale(app: App[object]) -> tuple[Style, ...]:
    """The styles from what is not looked at to what is looked at most, LEVELS of them."""
    if app.no_color:
        return _SHADES_BY_WEIGHT
    variables = app.theme_variables
    looked_at = variables["looked-at"]
    if not _has_shades(variables, looked_at):
        return (*[_PLAIN] * (LEVELS - 6), *(style for style in _few(looked_at) for _ in range(2)))
    return tuple(_shade(variables, looked_at, level / (LEVELS - 1)) for level in range(LEVELS))


def legend(styles: Sequence[Style], labels: Sequence[str]) -> Content:
    """A scale with its numbers, each in its style."""
    return Content.assemble(
        *(
            (f" {label} ", ContentStyle.from_rich_style(style) if style else "")
            for style, label in zip(styles, labels, strict=True)
        )
    )


def _has_shades(variables: Mapping[str, str], *colours: str) -> bool:
    """Whether these colours can be mixed with the background, which those of a terminal's own palette cannot."""
    return all(colour.startswith("#") and len(colour) == 7 for colour in (variables["background"], *colours))


def _shade(variables: Mapping[str, str], end: str, share: float) -> Style:
    foreground = variables["foreground"]
    ink = foreground if foreground.startswith("#") else None
    return Style(color=ink, bgcolor=blend(variables["background"], end, share))


def _few(colour: str) -> tuple[Style, Style, Style]:
    """What the terminal's own colours can tell apart, from weak to strong."""
    name = colour.removeprefix("ansi_") if colour.startswith("ansi_") else "default"
    return Style(color=name), Style(color=name, bold=True), Style(color=name, reverse=True)
