"""All models, one row each under headings that say where they are from: name, family, parameters, loss. Runs fold. It
shows what it is given, and says what the reader wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.message import Message

from minigpt_tui.actions import Where, bindings
from minigpt_tui.columns import count
from minigpt_tui.models.shelf import Model
from minigpt_tui.training.run_words import loss_text
from minigpt_tui.widgets.row_list import RowList, cut

FAMILY_FROM = 46
"""From so many cells on each family stands there too."""

FAMILY, COUNT = 10, 7


@dataclass(frozen=True)
class ModelRow:
    """A row: a model, or a heading.

    Attributes:
        key: The model's; empty for a heading.
        heading: What a heading says.
        is_folded: Of a run: whether its checkpoints are not listed; None for a model that has none to list.
    """

    key: str
    model: Model | None = None
    heading: str = ""
    is_folded: bool | None = None


class ModelList(RowList[ModelRow]):
    """A table without lines."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.MODEL_LIST)]

    @dataclass
    class FoldRequested(Message):
        """The reader wants the checkpoints of the chosen run listed, or no longer."""

        key: str
        folded: bool

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.marked: tuple[str, ...] = ()
        self.in_use = ""

    def draw(self, row: ModelRow, width: int, *, here: bool) -> Content:
        """A heading, or a model."""
        model = row.model
        if model is None:
            return Content.styled(cut(f" {row.heading}", width), "$quiet")
        info, lit = model.info, here and self.has_focus
        sign = "✗" if model.problem else "▸" if row.is_folded else "▾" if row.is_folded is False else " "
        if info is None:
            right = "reading… "
        elif info.problem:
            right = "no model " if model.is_folder else "damaged "
        else:
            family = f"{cut(info.family, FAMILY)}" if width >= FAMILY_FROM else ""
            right = f"{family}{count(info.parameters):>{COUNT}} {loss_text(info.val_loss)} "
        indent = "  " if model.kind == "milestone" else ""
        tags = f" {model.tags}" if model.tags else ""
        room = max(4, width - len(right) - len(indent) - len(tags) - 5)
        return Content.assemble(
            ("›" if here else " ", "$accent"),
            ("+" if row.key in self.marked else "●" if row.key == self.in_use else " ", "$accent"),
            indent,
            (f"{sign} ", "$text-error" if model.problem else "$quiet"),
            (cut(model.label, room), f"bold {'$accent' if lit else ''}" if here else ""),
            (f"{tags} ", "$quiet"),
            (right, "$text-error" if model.problem else "" if here else "$quiet"),
        )

    def action_fold(self, folded: bool) -> None:
        """List the checkpoints of the chosen run, or no longer."""
        if self.chosen is not None:
            self.post_message(self.FoldRequested(self.selected, folded))


def rows_of(models: Sequence[Model], words: str, unfolded: set[str]) -> list[ModelRow]:
    """The rows to show: headings, and the models that have all of the words; a run's checkpoints where it is unfolded.

    Args:
        models: All, in the order of the list.
        words: What was typed to choose among them.
        unfolded: The keys of the runs whose checkpoints are listed.
    """
    wanted = words.lower().split()
    rows: list[ModelRow] = []
    group, run = "", ""
    for model in models:
        if model.kind == "run":
            run = model.key if model.key in unfolded else ""
        if model.kind == "milestone" and not run and not _names_one(wanted):
            continue
        if not all(word in _searched(model) for word in wanted):
            continue
        if model.group != group:
            group = model.group
            rows.append(ModelRow("", heading=group))
        has_more = model.kind == "run" and model.checkpoints > 0
        rows.append(ModelRow(model.key, model, is_folded=model.key not in unfolded if has_more else None))
    return rows


def _names_one(wanted: list[str]) -> bool:
    """Whether what was typed names checkpoints of runs."""
    return any(":" in word or word.startswith("step") for word in wanted)


def _searched(model: Model) -> str:
    info = model.info
    known = (
        (info.family, info.tokenizer, info.trained_on, "damaged" if info.problem else "") if info is not None else ()
    )
    return " ".join((model.name, model.label, model.group, model.tags, *known)).lower()
