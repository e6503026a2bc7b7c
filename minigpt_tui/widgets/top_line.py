"""The first line: the app's name, its screens, and at the right the model and where it computes, or a note. Where there
is no room, what tells least is left out.
"""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.worker.protocol import ModelInfo
from minigpt_tui.visible import visible


def count_text(count: int) -> str:
    """A number of parameters in a few characters, such as 3.2M."""
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K")):
        if count >= size:
            share = count / size
            return f"{share:.0f}{unit}" if share >= 100 else f"{share:.1f}{unit}"
    return str(count)


SCREENS = ("Play", "Compare", "Train", "History", "Models")
MORE_SCREENS = ("Chat", "Batch", "Settings")
"""Named where there is room for them, and wherever one is there."""

MORE_FROM = 120
"""Columns from which there is."""

LEAST_NAME = 4
"""Cells of a model's name that tell anything."""


class TopLine(Widget):
    """Shows where one is; a click on the name of another screen goes there."""

    DEFAULT_CSS = """
    TopLine {
        height: 1;
        padding: 0 2;
        link-color: $quiet;
        link-style: none;
        link-background: transparent;
        link-color-hover: $accent;
        link-style-hover: none;
        link-background-hover: transparent;
    }
    """

    current: reactive[str] = reactive("Play")
    """The screen that is shown."""

    model: reactive[ModelInfo | None] = reactive(None)
    """The model that writes, or None while there is none."""

    note: reactive[str] = reactive("")
    """What stands at the right on a screen without a model."""

    def render(self) -> Content:
        """Name and screens at the left, model at the right."""
        left = Content("  ").join(
            [
                Content.styled("minigpt ", "$quiet"),
                *map(self._way, self._screens()),
            ]
        )
        room = max(0, self.size.width - left.cell_length - 2)
        note = Content.styled(visible(self.note), "$quiet").truncate(room, ellipsis=True)
        right = note if self.note else self._model_text(room)
        return left + " " * (self.size.width - left.cell_length - right.cell_length) + right

    def _screens(self) -> list[str]:
        if self.size.width + 4 >= MORE_FROM:
            return [*SCREENS, *MORE_SCREENS]
        return [*SCREENS, *(name for name in MORE_SCREENS if name == self.current)]

    def _way(self, name: str) -> Content:
        if name == self.current:
            return Content.styled(name, "bold")
        return Content.from_markup(f"[@click=\"app.show('{name.lower()}')\"]{name}[/]")

    def _model_text(self, room: int) -> Content:
        """As much as there is room for: first its size goes, then its precision and device, then a part of its name."""
        model = self.model
        if model is None or room < LEAST_NAME:
            return Content("")
        name = visible(model.name.rstrip("/").rpartition("/")[2])  # a model that was named by its path
        parameters = count_text(model.parameters) if model.parameters else ""  # a server may not tell
        place = f"{model.device} {model.precision}".strip()
        for facts in ((parameters, place), (place,), (model.device,)):
            told = Content.assemble(name, ("".join(f" · {fact}" for fact in facts if fact), "$quiet"))
            if told.cell_length <= room:
                return told
        return shortened(name, room)


def shortened(name: str, room: int) -> Content:
    """A model's name in so many cells; of a run's checkpoint it is rather the run's name that is cut."""
    run, colon, checkpoint = name.partition(":")
    behind = Content(colon + checkpoint)
    if behind.cell_length + LEAST_NAME > room:
        return Content(name).truncate(room, ellipsis=True)
    return Content(run).truncate(room - behind.cell_length, ellipsis=True) + behind
