"""How the models' screen looks: the list with its filter, what is known of the chosen one, what stands in the borders.
It shows the models that it is given, and asks nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import Input

from engine.catalog import DEFAULT_MODEL
from minigpt_tui.actions import Where, hint
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.models.desk import Details
from minigpt_tui.models.shelf import Model
from minigpt_tui.screens.frame import FramedScreen, Key, fitting
from minigpt_tui.settings import Session
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.loss_chart import LossChart
from minigpt_tui.widgets.model_list import ModelList, rows_of
from minigpt_tui.widgets.reading_pane import ReadingPane
from minigpt_tui.wrapping import wrapped

LABEL = 11
"""Cells of a fact's name."""

MOST_COMPARED = 4


class ModelFilter(Input):
    """What is typed to choose among the models; enter and the arrows go on to the list."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,down,up,tab", "screen.leave_filter", show=False)]


class ModelsView(FramedScreen):
    """The parts of the screen, brought up to date when its heir says so."""

    CSS_PATH = "models.tcss"
    AUTO_FOCUS = "#list"
    NAME = "Models"
    BACK = "models_back"
    SAFE = "What is written, and every run, is safe."
    PLACES: ClassVar[dict[str, Where]] = {"list": Where.MODEL_LIST, "": Where.MODELS}

    def __init__(self, session: Session, choice: Callable[[], ModelChoice]) -> None:
        """Make the parts.

        Args:
            session: What outlives the app.
            choice: Tells the model that is chosen on the Play screen.
        """
        super().__init__(classes="-no-curve")
        self._session, self._choice = session, choice
        self._models: tuple[Model, ...] = ()
        self._is_whole = False  # whether all models were read
        self._details: Details | None = None
        self._unfolded: set[str] = set()
        self._verified: dict[str, str] = {}  # what came of it, by path
        self._working = ""  # what is under way beside the screen
        self._filter = ModelFilter(id="filter", placeholder="words of a name, a family, a text", compact=True)
        self._list = ModelList(id="list")
        self._shelf = Vertical(self._filter, self._list, id="shelf", classes="panel")
        self._facts = ReadingPane(id="facts")
        self._curve = LossChart(id="curve")
        self._model = Vertical(self._facts, self._curve, id="model", classes="panel")

    def body(self) -> ComposeResult:
        """The list and the chosen model."""
        with Container(id="models"):
            yield self._shelf
            yield self._model

    # What is shown.

    @property
    def chosen(self) -> Model | None:
        """The model that was chosen."""
        row = self._list.chosen
        return row.model if row is not None else None

    def show_models(self, models: tuple[Model, ...], *, is_whole: bool) -> None:
        """Show all models, with the one that was chosen still chosen.

        Args:
            models: In the order of the list.
            is_whole: Whether all of them were read.
        """
        self._models, self._is_whole = models, is_whole
        keys = {model.key for model in models}
        self._list.marked = tuple(key for key in self._list.marked if key in keys)
        if not self._list.selected:
            self._list.selected = self._key_in_use() or self._key_of(self._choice().name or DEFAULT_MODEL)
        self._show_list()

    def show_use(self) -> None:
        """Mark the model that writes on the Play screen, which may be another now."""
        if (key := self._key_in_use()) != self._list.in_use:
            self._list.in_use = key
            self._list.refresh()

    def _key_of(self, name: str) -> str:
        """The key of the model of that name; empty where it is not listed."""
        return next((model.key for model in self._models if model.name == name), "")

    def _key_in_use(self) -> str:
        """The key of the model that writes on the Play screen; empty where it is not listed."""
        info = self._choice().info
        path = info.path if info is not None else ""
        return next((model.key for model in self._models if path and str(model.path) == path), "")

    def _show_list(self) -> None:
        words = self._filter.value if self.has_class("-filtering") else ""
        self._list.empty_text = self._nothing(words)
        self.set_class(self._is_whole and not self._models, "-empty")
        self._list.show(rows_of(self._models, words, self._unfolded))
        self.fit()
        self.show_status()

    def _nothing(self, words: str) -> str:
        if self._models and words.strip():
            return f"\n  No model has these words. {hint('models_back', 'lists all again')}."
        if not self._is_whole:
            return "\n  looking for models…"
        keys = f"{hint('show_train', 'trains one')}, {hint('folder_add', 'adds a folder that has some')}"
        return f"\n  There is no model yet: {keys}."

    def show_details(self, details: Details | None) -> None:
        """Show what is known of the chosen model."""
        self._details = details
        self.set_class(details is None or not details.curves, "-no-curve")
        if details is None:
            self._facts.show(Content(""))
            self._curve.curves = ()
        else:
            self._curve.axis, self._curve.curves = details.axis, details.curves
            self._curve.remark = "" if details.is_whole else "reading…"
        self.fit()

    def _facts_text(self, details: Details) -> Content:
        facts = list(details.facts)
        if verified := self._verified.get(str(details.model.path)):
            facts.insert(1, ("verified", verified))
        lines = []
        for name, value in facts:
            colour = "$text-error" if name in ("damaged", "unusable") else ""
            for place, part in enumerate(wrapped(visible_line(value), self._facts.size.width - LABEL - 1)):
                lines.append(
                    Content.assemble(("" if place else name).ljust(LABEL), (part, colour)).stylize_before(
                        "$quiet", 0, LABEL
                    )
                )
        return Content("\n").join(lines)

    # What stands in the borders.

    def fit(self) -> None:
        """Titles, keys, and the facts in the room that there is."""
        if not self.is_mounted:
            return
        if self._details is not None:
            self._facts.show(self._facts_text(self._details))
        model = self.chosen
        shown = sum(row.model is not None for row in self._list.rows)
        words = visible_line(self._filter.value.strip()) if self.has_class("-filtering") else ""
        said = [f"Models · {shown}", f" with {words}" if words else ""]
        said += [f" · {len(self._list.marked)} marked" if self._list.marked else ""]
        self._shelf.border_title = Content("".join(said))
        self._shelf.border_subtitle = fitting(self._list_keys(model), self._shelf.outer_size.width - 6)
        title = f"{model.name}{f' · {model.tags}' if model.tags else ''}" if model is not None else "Model"
        self._model.border_title = Content(visible_line(title))
        self._model.border_subtitle = fitting(self._model_keys(model), self._model.outer_size.width - 6)

    def _list_keys(self, model: Model | None) -> list[Key]:
        if model is None:
            return ["folder_add"]
        keys: list[Key] = ["model_open", "model_filter"]
        if model.kind == "run":
            keys.append("model_fold" if model.key in self._unfolded else "model_unfold")
        keys += ["model_mark", "model_compare"] if len(self._list.marked) < 2 else ["model_compare", "model_mark"]
        if self.has_class("-narrow"):
            keys.insert(1, "model_details")
        return [*keys, "folder_add"]

    def _model_keys(self, model: Model | None) -> list[Key]:
        if model is None:
            return []
        keys: list[Key] = ["model_verify", "model_path"]
        keys += ["model_rename", "model_remove"] if model.kind in ("own", "run") else []
        keys += ["model_remove"] if model.kind == "milestone" else []
        keys += ["folder_forget"] if model.kind == "added" else []
        if self.has_class("-narrow"):
            return [("model_details", "list"), "model_play", *keys]
        return [*keys, "model_details"]

    def status(self) -> tuple[Content, bool]:
        """How many models there are, or what is under way."""
        if self._working:
            return Content.assemble(
                visible_line(self._working), " · ", Content.from_markup(hint("models_back", "stops"))
            ), True
        found = [model for model in self._models if model.kind != "milestone"]
        damaged = sum(bool(model.problem) for model in self._models)
        words = f"{len(found):,} models" if len(found) != 1 else "one model"
        steps = len(self._models) - len(found)
        words += f" · {steps:,} checkpoints of runs" if steps else ""
        words += f" · {damaged} damaged" if damaged else ""
        return Content(words if self._is_whole else "looking for models…"), not self._is_whole
