"""The models' screen while the engine is elsewhere: the models of that machine or server, as it tells of them, and
which of them writes. Files elsewhere are not kept in order from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.worker import Worker

from engine.catalog import CheckpointInfo
from engine.errors import MiniGPTError
from minigpt_tui.actions import Where, bindings
from minigpt_tui.machine import Machine
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.palette import model_facts
from minigpt_tui.screens.frame import FramedScreen, fitting
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.row_list import RowList, cut
from minigpt_tui.wishes import UseModel


@dataclass(frozen=True)
class ThereRow:
    """A model elsewhere."""

    key: str
    info: CheckpointInfo


class ThereList(RowList[ThereRow]):
    """A row for each: its name, and what is known of it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.MODELS_ELSEWHERE)]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self.in_use = ""

    def draw(self, row: ThereRow, width: int, *, here: bool) -> Content:
        """A model."""
        name = max(8, min(40, width // 2))
        return Content.assemble(
            ("›" if here else " ", "$accent"),
            ("● " if row.key == self.in_use else "  ", "$accent"),
            (cut(row.info.name, name), "bold $accent" if here and self.has_focus else "bold" if here else ""),
            "  ",
            (cut(model_facts(row.info), max(0, width - name - 5)), "$text-error" if row.info.problem else "$quiet"),
        )

    def action_play(self) -> None:
        """Say that the chosen one is wanted."""
        self.action_open()


class ModelsElsewhereScreen(FramedScreen):
    """Find a model there, and use it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.MODELS_ELSEWHERE)]
    NAME = "Models"
    BACK = "there_back"
    AUTO_FOCUS = "#there"
    PLACES: ClassVar[dict[str, Where]] = {"": Where.MODELS_ELSEWHERE}
    DEFAULT_CSS = "ThereList { height: 1fr; }"

    def __init__(self, machine: Machine, choice: Callable[[], ModelChoice]) -> None:
        """Make the screen.

        Args:
            machine: Whose models they are.
            choice: Tells the model that is chosen on the Play screen.
        """
        super().__init__()
        self._machine, self._choice = machine, choice
        self._models: tuple[CheckpointInfo, ...] | None = None
        self._list = ThereList(id="there")

    def body(self) -> ComposeResult:
        """The list."""
        yield self._list

    def on_mount(self) -> None:
        """Say whose models they are."""
        self._list.border_title = Content(f"Models of {visible_line(self._machine.name)}")

    def on_screen_resume(self) -> None:
        """Ask which there are now."""
        self.action_again()

    def status(self) -> tuple[Content, bool]:
        """How many there are."""
        if self._models is None:
            return Content("asking which models there are…"), True
        count = len(self._models)
        return Content("one model" if count == 1 else f"{count or 'no'} models"), False

    def fit(self) -> None:
        """The keys."""
        keys = ["there_play", "there_again"]
        self._list.border_subtitle = fitting(keys, self._list.outer_size.width - 6)

    async def _list_models(self) -> None:
        try:
            self._models = await self._machine.list_models()
        except MiniGPTError as error:
            self._models = self._models or ()
            self._list.empty_text = "\n  It is not known which models there are."
            self.tell("No list of models", sentence(error), ["there_again"])
        else:
            self._list.empty_text = "\n  There is no model."
        info = self._choice().info
        self._list.in_use = info.name if info is not None else ""
        self._list.selected = self._list.selected or self._list.in_use or self._choice().name
        self._list.show([ThereRow(model.name, model) for model in self._models])
        self.show_status()

    def on_row_list_open_requested(self, event: ThereList.OpenRequested) -> None:
        """Write with it."""
        event.stop()
        self.post_message(UseModel(event.key))

    def action_play(self) -> None:
        """The same, from anywhere on the screen."""
        self._list.action_open()

    def action_again(self) -> None:
        """Ask anew."""
        _: Worker[None] = self.run_worker(self._list_models, group="models", exclusive=True)

    def action_back(self) -> None:
        """Dismiss the notice."""
        self.close_open()
