"""What screens over another have in common: one panel in the middle, of class `sheet`."""

from __future__ import annotations

from typing import TypeVar

from textual.screen import ModalScreen

T = TypeVar("T")


class Modal(ModalScreen[T | None]):
    """A panel over the screen. An heir gives its `sheet` a width."""

    DEFAULT_CSS = """
    Modal {
        align: center middle;
        & > .sheet {
            height: auto;
            border: round $accent;
            border-title-color: $accent;
            border-title-style: bold;
            border-subtitle-color: $quiet;
            background: $background;
        }
    }
    """
