"""The tree of texts, a line for each: where it parts from the one above, its first words, its tokens, and what is
different about its settings. It shows what it is given, and says which one the reader wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content

from engine.config import SamplingParams
from minigpt_tui.actions import Where, bindings
from minigpt_tui.branches import Branch, Branches, Line
from minigpt_tui.parameters import PARAMETERS
from minigpt_tui.status_text import short_name
from minigpt_tui.text_document import cells
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.row_list import RowList, cut
from minigpt_tui.writing import Facts, Writing

DEEPEST = 6
"""Branches deeper than this stand no further to the right."""

WORDS = 60
"""So many characters of a branch are looked at; a line shows what fits."""

LEAST_WORDS = 10
"""So many cells are left to them where settings would take their room."""

SEED_FROM = 40
"""From so many cells on seeds are told."""


@dataclass(frozen=True)
class BranchRow:
    """A branch in the tree.

    Attributes:
        key: Its number as text.
        lead: The lines that lead to it.
        place: Where it parts, counted in tokens; empty where it begins anew.
        words: Its first words.
        tokens: How many are its own.
        different: What is different about its model and its settings.
        seed: Its seed, where that is another.
        shown: Whether its text is the one that is shown.
    """

    key: str
    lead: str
    place: str
    words: str
    tokens: str
    different: str
    seed: str
    shown: bool


def rows_of(branches: Branches, writing: Writing) -> list[BranchRow]:
    """The rows of a tree.

    Args:
        branches: The tree.
        writing: The text of its current branch, which may have grown since it was kept.
    """
    rows = []
    for line in branches.lines():
        branch, parent = line.branch, branches.parent(line.branch)
        facts: Facts | Writing = branch.facts
        words, count, settings = branches.words(branch, WORDS), len(branch.part.trace), branch.part.settings
        params = settings[0].params if settings else None
        if shown := branch is branches.current:
            facts, count = writing, writing.length - branch.position
            words = writing.document.text_between(branch.offset, branch.offset + WORDS)
            params = writing.params_at(branch.position)
        before = parent.facts if parent else None
        rows.append(
            BranchRow(
                key=str(branch.id),
                lead=_lead(line),
                place=f"{branch.position:,}" if line.depth else "",
                words=visible_line(words),
                tokens=f"{count:,}",
                different=" ".join([*_other_model(facts, before), *_other_settings(params, branch, parent)]),
                seed=f"seed {facts.seed}" if before and facts.seed != before.seed else "",
                shown=shown,
            )
        )
    return rows


def _lead(line: Line) -> str:
    if not line.depth:
        return ""
    above = line.last[1 : line.depth][-DEEPEST:]
    return "".join("  " if last else "│ " for last in above) + ("└ " if line.last[-1] else "├ ")


def _other_model(facts: Facts | Writing, before: Facts | None) -> list[str]:
    """The name of its model, where that is not the one of the text that it parts from."""
    ours, theirs = facts.model, before.model if before else None
    return [short_name(ours.name)] if ours and theirs and ours.sha256 != theirs.sha256 else []


def _other_settings(ours: SamplingParams | None, branch: Branch, parent: Branch | None) -> list[str]:
    """What its first token was drawn with that is not as in the text that it parts from, or else not as usual."""
    if ours is None:
        return []
    held = [setting.params for setting in parent.part.settings if setting.position <= branch.position] if parent else []
    theirs = held[-1] if held else SamplingParams()
    return [
        f"{parameter.short} {parameter.shown(ours)}"
        for parameter in PARAMETERS
        if parameter.field not in ("seed", "max_new_tokens", "stop")
        and parameter.value(ours) != parameter.value(theirs)
    ]


class BranchTree(RowList[BranchRow]):
    """All texts; the chosen one is shown at once."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.BRANCHES)]

    @dataclass
    class Selected(RowList.Selected):
        """The reader has chosen a branch."""

    @dataclass
    class OpenRequested(RowList.OpenRequested):
        """The reader wants to go to its text."""

    def draw(self, row: BranchRow, width: int, *, here: bool) -> Content:
        """One branch."""
        right = f" {row.tokens:>5} "
        left = f"{row.lead}{row.place} " if row.place else row.lead
        room = width - 2 - cells(left) - cells(right)
        said = " ".join(words for words in (row.different, row.seed if width >= SEED_FROM else "") if words)
        if said and (space := min(cells(said), room - LEAST_WORDS - 1)) > 0:
            right = f" {cut(said, space)}{right}"
            room -= space + 1
        lit = "$accent" if here and self.has_focus else ""
        return Content.assemble(
            ("›" if here else " ", "$accent"),
            ("●" if row.shown else " ", "$accent"),
            (left, "$quiet"),
            (cut(row.words, max(0, room)), f"bold {lit}" if here else ""),
            (right, "" if here else "$quiet"),
        )
