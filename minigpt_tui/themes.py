"""The app's own colours, dark and light, and the few names that its styles use with any theme."""

from __future__ import annotations

from textual.color import Color
from textual.theme import Theme

from minigpt_tui.colour_space import of_hue, to_lab

DARK = Theme(
    name="minigpt-dark",
    primary="#e6b45e",
    secondary="#8fa7c4",
    accent="#e6b45e",
    warning="#e6b45e",
    error="#e06c6c",
    success="#8fb573",
    foreground="#dcdfe4",
    background="#121417",
    surface="#181b20",
    panel="#1f232a",
    dark=True,
    variables={
        "quiet": "#858c98",
        "line": "#343a44",
        "key": "#c9a262",
        "bar": "#8fa7c4",
        "bar-quiet": "#5b6f8c",
        "prompt-text": "#93a9c6",
        "curve-1": "#7fb8a4",
        "curve-2": "#b79ad6",
        "curve-3": "#8fb573",
        "curve-4": "#d98fa8",
        "likely": "#2e64a6",
        "unlikely": "#964d09",
        "looked-at": "#6e519d",
        "ask-background": "#1f232a",
        "scrollbar": "#343a44",
        "scrollbar-hover": "#4a525f",
        "scrollbar-active": "#e6b45e",
        "scrollbar-background": "#121417",
        "scrollbar-background-hover": "#121417",
        "scrollbar-background-active": "#121417",
    },
)

LIGHT = Theme(
    name="minigpt-light",
    primary="#9a5b00",
    secondary="#44618a",
    accent="#9a5b00",
    warning="#9a5b00",
    error="#b3261e",
    success="#3d7a2a",
    foreground="#22252a",
    background="#fbfaf7",
    surface="#f3f1ec",
    panel="#eae7e0",
    dark=False,
    variables={
        "quiet": "#6b6f76",
        "line": "#d0ccc3",
        "key": "#8a5a14",
        "bar": "#5f7ea8",
        "bar-quiet": "#93abc9",
        "prompt-text": "#3f5f8a",
        "curve-1": "#1f7a68",
        "curve-2": "#7a4fa3",
        "curve-3": "#4f7a1f",
        "curve-4": "#a83a63",
        "likely": "#92c1fd",
        "unlikely": "#f0ad7f",
        "looked-at": "#c7aff5",
        "ask-background": "#eae7e0",
        "scrollbar": "#d0ccc3",
        "scrollbar-hover": "#b5b0a5",
        "scrollbar-active": "#9a5b00",
        "scrollbar-background": "#fbfaf7",
        "scrollbar-background-hover": "#fbfaf7",
        "scrollbar-background-active": "#fbfaf7",
    },
)


CONTRAST = Theme(
    name="minigpt-contrast",
    primary="#ffd84d",
    secondary="#9fd0ff",
    accent="#ffd84d",
    warning="#ffd84d",
    error="#ff8080",
    success="#8dff8d",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#1a1a1a",
    dark=True,
    variables={
        "quiet": "#d0d0d0",
        "line": "#8c8c8c",
        "key": "#ffd84d",
        "bar": "#9fd0ff",
        "bar-quiet": "#7fa6cc",
        "prompt-text": "#9fd0ff",
        "curve-1": "#4dffd2",
        "curve-2": "#e0b3ff",
        "curve-3": "#8dff8d",
        "curve-4": "#ffa6c9",
        "ask-background": "#262626",
    },
)

# Okabe and Ito's colours ("Color Universal Design", 2008), which all kinds of colour vision tell apart.
COLOUR_BLIND = Theme(
    name="minigpt-colourblind",
    primary="#56b4e9",
    secondary="#0072b2",
    accent="#56b4e9",
    warning="#f0e442",
    error="#e8823a",
    success="#56b4e9",
    foreground="#e8e8e8",
    background="#101215",
    surface="#171a1e",
    panel="#1f232a",
    dark=True,
    variables={
        "quiet": "#9aa0a8",
        "line": "#3d444f",
        "key": "#f0e442",
        "bar": "#56b4e9",
        "bar-quiet": "#3d7ea3",
        "prompt-text": "#8fcdf0",
        "curve-1": "#e69f00",
        "curve-2": "#cc79a7",
        "curve-3": "#009e73",
        "curve-4": "#f0e442",
        "ask-background": "#1f232a",
    },
)

OWN = (DARK, LIGHT, CONTRAST, COLOUR_BLIND)
"""Those that ship with the app, the default first."""


LIKELY, UNLIKELY, LOOKED_AT = 255.0, 55.0, 300.0
"""The hues of the scales' ends, in degrees of OKLab: blue and orange are told apart by every kind of colour vision."""


def _scale_ends(background: Color) -> dict[str, str]:
    """The ends of the scales: as far from the background as text on them can still be read, and equally far."""
    lightness = to_lab(background.hex)[0]
    shade = (lightness + 0.3, 0.12) if lightness < 0.5 else (lightness - 0.18, 0.1)
    hues = {"likely": LIKELY, "unlikely": UNLIKELY, "looked-at": LOOKED_AT}
    return {name: of_hue(*shade, hue) for name, hue in hues.items()}


def variable_defaults(theme: Theme) -> dict[str, str]:
    """What our own names mean in a theme that does not say."""
    if theme.ansi:
        return {
            "quiet": "ansi_bright_black",
            "line": "ansi_bright_black",
            "key": theme.secondary or "ansi_cyan",
            "bar": theme.primary,
            "bar-quiet": theme.primary,
            "prompt-text": theme.secondary or "ansi_cyan",
            "curve-1": "ansi_cyan",
            "curve-2": "ansi_magenta",
            "curve-3": "ansi_green",
            "curve-4": "ansi_blue",
            "likely": "ansi_cyan",
            "unlikely": "ansi_yellow",
            "looked-at": "ansi_magenta",
            "ask-background": "ansi_default",
        }
    foreground = Color.parse(theme.foreground or ("#e0e0e0" if theme.dark else "#1f1f1f"))
    background = Color.parse(theme.background or ("#121212" if theme.dark else "#efefef"))
    accent, primary = Color.parse(theme.accent or theme.primary), Color.parse(theme.primary)
    curves = [Color.parse(colour) for colour in (theme.secondary, theme.success, theme.warning, theme.error) if colour]
    curves += [primary] * (4 - len(curves))
    return {
        "quiet": background.blend(foreground, 0.6).hex,
        "line": background.blend(foreground, 0.25).hex,
        "key": background.blend(accent, 0.8).hex,
        "bar": primary.hex,
        "bar-quiet": background.blend(primary, 0.65).hex,
        "prompt-text": background.blend(primary, 0.85).blend(foreground, 0.2).hex,
        **{f"curve-{place}": colour.hex for place, colour in enumerate(curves, 1)},
        **_scale_ends(background),
        "ask-background": background.blend(foreground, 0.08).hex,
    }
