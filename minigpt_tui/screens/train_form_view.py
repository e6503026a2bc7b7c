"""How the form that starts a run looks: its rows, what stands in its borders, and how it fits the terminal. It shows a
draft of the run and what is known of its cost, and asks nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.geometry import Region
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from engine.training.run import RunConfig
from minigpt_tui.actions import Where, hint, hints
from minigpt_tui.training.form_fields import (
    FIELDS,
    LABELS,
    LEFT,
    RIGHT,
    Group,
    about,
    has_list,
    is_text,
    is_typed_number,
)
from minigpt_tui.training.run_draft import RunDraft
from minigpt_tui.training.setting_steps import shown
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.choice_list import ChoiceList
from minigpt_tui.widgets.setting_row import VALUE, SettingRow
from minigpt_tui.widgets.text_row import TextRow
from minigpt_tui.widgets.top_line import TopLine, count_text

FRESH = "fresh weights"
AFTER_THE_TEXT = "after the text"

PLACEHOLDERS = {
    "text": "a path, or one of the list",
    "val": "the last tenth of the text",
    "test": "none",
    "name": AFTER_THE_TEXT,
    "column": "found by itself",
    "sample_prompt": "none",
}


class CostPanel(Static, can_focus=True):
    """What the run takes; the last thing that the focus comes to, where enter starts it."""


class TrainFormView(Screen[RunConfig | None]):
    """The parts of the form, brought up to date when its heir says so."""

    CSS_PATH = "train_form.tcss"
    AUTO_FOCUS = "#input-text"
    PLACES: ClassVar[dict[str, Where]] = {"": Where.FORM} | {f"field-{key}": Where.FIELD for key in FIELDS}
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-width"), (60, "-narrow"), (108, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (16, "-low")]  # noqa: RUF012

    def __init__(self, draft: RunDraft, machine: str = "") -> None:
        """Make the parts.

        Args:
            draft: What was chosen so far; changed in place.
            machine: What another machine is called whose texts these are, and where the run is started.
        """
        super().__init__()
        self.draft = draft
        self._there = f" on {visible_line(machine)}" if machine else ""
        self._top = TopLine(id="top")
        self._form = Container(id="form")  # it scrolls, but leaves the arrow keys to the fields
        self._cost = CostPanel(id="cost", markup=False)
        self._about = Static(id="about", markup=False)
        self._choices = ChoiceList(id="choices")
        self._too_small = Static("the form needs 60 columns and 16 rows", id="too-small", markup=False)
        self._rows: dict[str, SettingRow | TextRow] = {}

    def compose(self) -> ComposeResult:
        """Rows in two columns, what it takes, what the field does."""
        yield self._top
        with self._form, Container(id="columns"):
            with Vertical(id="left"):
                yield from self._groups(LEFT)
            with Vertical(id="right"):
                yield from self._groups(RIGHT)
        yield self._cost
        yield self._about
        yield self._choices
        yield self._too_small

    def _groups(self, groups: tuple[Group, ...]) -> Iterator[Widget]:
        for place, group in enumerate(groups):
            yield Static(group.title, classes="heading" + (" -first" if place == 0 else ""), markup=False)
            for key in (*group.usual, *group.rest):
                row = self._make_row(key)
                row.set_class(key in group.rest, "-rest")
                self._rows[key] = row
                yield row

    def _make_row(self, key: str) -> SettingRow | TextRow:
        label = LABELS.get(key, key)
        if is_text(key):
            placeholder = PLACEHOLDERS.get(key, "")
            if key == "text" and self._there:
                placeholder = f"a path{self._there}, or one of the list"
            return TextRow(key, label, placeholder=placeholder, tells=key == "text")
        return SettingRow(key, label, is_number=is_typed_number(key))

    def fill_in(self) -> None:
        """Show the draft."""
        self._top.current = "Train"
        self._form.border_title = Content(f"Start a run{self._there}")
        self._cost.border_title = "What it takes"
        keys = [hints(["form_start", "form_more"]), hint("form_preset", "preset"), hints(["form_leave", "help"])]
        self._cost.border_subtitle = " · ".join(keys)
        self.set_class(self.draft.more, "-all")
        for key in ("text", "val", "test", "column", "name"):
            self._text_row(key).show(getattr(self.draft, key))
        self.show_values()

    def _text_row(self, key: str) -> TextRow:
        return self.query_one(f"#field-{key}", TextRow)

    # What is shown

    def show_values(self) -> None:
        """Bring all rows up to date."""
        values, preset = self.draft.values(), self.draft.preset_values()
        for key, row in self._rows.items():
            if isinstance(row, SettingRow):
                self._show_setting(row, key, values, preset)
            elif key in values:
                row.show(values[key])
                row.changed = self.draft.is_changed(key)

    def _show_setting(self, row: SettingRow, key: str, values: dict[str, Any], preset: dict[str, Any]) -> None:
        draft = self.draft
        if key == "base":
            row.value, row.note = self._base_words()
        elif key == "preset":
            row.value, row.note = visible_line(draft.preset), draft.presets().get(draft.preset, "")
        elif key in ("device", "nproc"):
            row.value = str(getattr(draft, key))
        else:
            row.value = shown(values[key])
            reason = draft.without_effect(key)
            if key == "vocab_size" and reason:
                row.value = f"{self._vocab_size():,}"
            row.locked = bool(reason)
            row.changed = draft.is_changed(key)
            row.note = reason or (f"{visible_line(draft.preset)}: {shown(preset[key])}" if row.changed else "")
            if key == "steps" and values["epochs"] is not None:
                row.note = "epochs count"

    def _base_words(self) -> tuple[str, str]:
        if self.draft.base is None:
            return FRESH, ""
        info = self.draft.base.info
        facts = [count_text(info.parameters), info.tokenizer]
        if info.val_loss is not None:
            facts.append(f"val {info.val_loss:.3f}")
        return visible_line(info.name), " · ".join(filter(None, facts))

    def _vocab_size(self) -> int:
        """How many token ids there are, where they are not chosen; its heir knows the text."""
        raise NotImplementedError

    def show_cost(self, lines: list[tuple[str, str]]) -> None:
        """Say what the run takes.

        Args:
            lines: Each with its style.
        """
        self._cost.update(Content("\n").join([Content.styled(visible_line(words), style) for words, style in lines]))

    def show_place(self) -> None:
        """Say what the field does that has the focus, and its keys."""
        key = self.place
        row = self._rows.get(key)
        if row is None:
            words = "  starts the run: a process of its own, which goes on when the app or the terminal is closed"
            if self._there:
                words = f"  starts the run{self._there}: a process of its own, which goes on when the link is lost"
            self._about.update(Content.assemble(("enter", "$key"), words))
            self._form.border_subtitle = ""
            return
        does, takes = about(key)
        if key == "preset":
            does, takes = f"{does} · {visible_line(self.draft.preset)}", self.draft.presets().get(self.draft.preset, "")
        if row.problem:
            said = Content.styled(f"{key}: {visible_line(row.problem)}", "$text-error")
        else:
            said = Content.assemble((LABELS.get(key, key) if key not in FIELDS else key, "$accent"), f"  {does}")
            said += Content.styled(f" · {takes}" if takes else "", "")
        self._about.update(said)
        self._form.border_subtitle = self._keys(key, row)

    def _keys(self, key: str, row: SettingRow | TextRow) -> str:
        """The keys of a field, as markup."""
        if isinstance(row, TextRow):
            listed = [hint("field_below", "choose")] if self._choices.owner == key else []
            taken = [hint("form_enter", "take")] if listed and self._choices.chosen() else []
            return " · ".join(["type", *listed, *taken, hint("form_next", "next field")])
        turn = "[$key]←→[/] change"
        second = hint("form_enter", "list") if has_list(key) else "or type a number"
        back = [hint("field_erase", "preset's")] if row.changed else []
        return " · ".join([turn, second, *back, hint("form_next", "next field")])

    # Where one is

    @property
    def place(self) -> str:
        """The key of the field that has the focus; empty for none of them."""
        focused = self.focused
        if focused is None or not focused.id:
            return ""
        return focused.id.removeprefix("input-").removeprefix("field-")

    def value_region(self, key: str) -> Region:
        """Where on the screen a field's value is."""
        region = self._rows[key].region
        return Region(region.x + VALUE, region.y, max(1, region.width - VALUE), 1)
