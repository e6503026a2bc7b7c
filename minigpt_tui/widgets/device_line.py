"""How busy the machine is, on one line: what is left out where there is no room is the least telling. It shows what it
is given.
"""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.device_use import DeviceUse
from minigpt_tui.training.run_words import device_texts

GAP = "   "


class DeviceLine(Widget):
    """GPUs, CPU, memory and the run's process."""

    DEFAULT_CSS = """
    DeviceLine { height: 1; color: $quiet; }
    """

    use: reactive[DeviceUse | None] = reactive(None)
    """The machine at one moment, or None before it was looked at."""

    def render(self) -> Content:
        """As much as there is room for."""
        texts = device_texts(self.use) if self.use else []
        while len(texts) > 1 and len(GAP.join(texts)) > self.size.width:
            texts.pop()
        return Content(GAP.join(texts))
