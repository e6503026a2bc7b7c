"""The app's own colours, dark and light, and the few names that its styles use with any theme."""

from __future__ import annotations

from textual.color import Color
from textual.theme import Theme

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
        "ask-background": "#eae7e0",
        "scrollbar": "#d0ccc3",
        "scrollbar-hover": "#b5b0a5",
        "scrollbar-active": "#9a5b00",
        "scrollbar-background": "#fbfaf7",
        "scrollbar-background-hover": "#fbfaf7",
        "scrollbar-background-active": "#fbfaf7",
    },
)


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
        "ask-background": background.blend(foreground, 0.08).hex,
    }
