"""The form that starts a run, here or on another machine: a draft is turned and typed, its text is looked at and one of
its steps is timed there. It ends with the run's configuration; starting it is the caller's.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields as dataclass_fields
from functools import partial
from typing import Any, ClassVar

from textual.binding import BindingType
from textual.events import DescendantBlur, DescendantFocus, Resize
from textual.widgets import Input

from engine.catalog import CheckpointInfo
from engine.errors import InvalidSettingError, MiniGPTError
from engine.training.run import RunConfig
from minigpt_tui.actions import Where, bindings
from minigpt_tui.machine import LinkLostError
from minigpt_tui.screens.train_form_cost import LINK_SECONDS, SENDS, TEXT_KEYS
from minigpt_tui.screens.train_form_texts import TrainFormTexts
from minigpt_tui.screens.train_form_view import FRESH
from minigpt_tui.training.form_fields import FIELDS, has_list
from minigpt_tui.training.run_draft import RunDraft
from minigpt_tui.training.run_starter import RunStarter, StartsHere
from minigpt_tui.training.setting_steps import choices, shown, stepped, typed
from minigpt_tui.training.text_paths import put_in_place
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.choice_list import Choice, ChoiceList
from minigpt_tui.widgets.setting_row import SettingRow
from minigpt_tui.widgets.text_row import TextRow
from minigpt_tui.widgets.top_line import count_text


class TrainForm(TrainFormTexts):
    """Choose a text and settings, see what they take, and start.

    Args:
        initial: A run whose text and settings to begin with.
        draft: What was typed before, changed in place, so that it is there again the next time; `initial` replaces it.
        starter: Where the run is started; by default this machine.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.FORM)]

    def __init__(
        self,
        initial: RunConfig | None = None,
        *,
        draft: RunDraft | None = None,
        starter: RunStarter | None = None,
    ) -> None:
        super().__init__(draft if draft is not None else RunDraft(), starter or StartsHere())
        self._initial = initial  # until the draft is like it
        self._models: tuple[CheckpointInfo, ...] = ()
        self._before: dict[str, Any] = {}  # what settings were before something was typed

    def on_mount(self) -> None:
        """Find out which texts and models there are, and what the draft takes."""
        self.fill_in()
        self.run_worker(self._begin(), group="list")

    async def _begin(self) -> None:
        if self._initial is not None:
            await self._be_like(self._initial)
            self._initial = None
        self._look_at_text(0.0)
        self._reckon()
        await self._list()

    async def _be_like(self, config: RunConfig) -> None:
        """Begin with the text and settings of another run."""
        while True:
            try:
                base = await self._starter.read_base(config.base, "") if config.base else None
                begun = RunDraft.of(config, await self._starter.free_name(config.name), base)
            except LinkLostError as error:
                self._refused = visible_line(str(error))
                self._reckon()
                await asyncio.sleep(LINK_SECONDS)
                continue
            except MiniGPTError as error:  # the model that it went on from is gone, or damaged
                self._refused = visible_line(str(error))
                return
            break
        self._refused = ""
        for each in dataclass_fields(RunDraft):
            setattr(self.draft, each.name, getattr(begun, each.name))
        self.fill_in()

    async def _list(self) -> None:
        """Texts and models, found beside the loop: folders may be large, disks slow, and links lost."""
        while True:
            try:
                self._texts = await self._starter.list_texts()
                if self.place == "text" and not self.draft.text:
                    self._suggest("text")
                self._models = await self._starter.list_models()
            except LinkLostError:
                await asyncio.sleep(LINK_SECONDS)
                continue
            except MiniGPTError as error:
                self._refused = visible_line(str(error))
                self._reckon()
            return

    # Settings

    def on_setting_row_turned(self, event: SettingRow.Turned) -> None:
        """The next value."""
        event.stop()
        key = event.row.key
        if key in ("base", "preset"):
            names = [choice.value for choice in self._list_of(key)]
            standing = (self.draft.base.info.name if self.draft.base else "") if key == "base" else self.draft.preset
            place = names.index(standing) if standing in names else 0
            self._take(key, names[(place + event.direction) % len(names)])
            return
        self._put(key, stepped(FIELDS[key], self._value(key), event.direction))

    def on_setting_row_typed(self, event: SettingRow.Typed) -> None:
        """What can be read and is in the range is taken at once; what is wrong with it is said at once."""
        event.stop()
        row = event.row
        if event.text is None:
            self._put(row.key, self._before.pop(row.key, self._value(row.key)))
            return
        self._before.setdefault(row.key, self._value(row.key))
        try:
            value = typed(FIELDS[row.key], event.text)
        except InvalidSettingError as error:
            self._put(row.key, self._before[row.key])  # not the beginning of a wrong value, which was right
            row.problem = error.hint or error.message
        else:
            row.problem = ""
            self._put(row.key, value)
        self.show_place()

    def on_setting_row_list_wanted(self, event: SettingRow.ListWanted) -> None:
        """A click on a choice opens its list."""
        event.stop()
        self.action_enter()

    def on_setting_row_reset(self, event: SettingRow.Reset) -> None:
        """The preset's value."""
        event.stop()
        key = event.row.key
        if key == "base":
            self._take("base", "")
        elif key in ("device", "nproc"):
            self._put(key, FIELDS[key].default)
        elif key != "preset":
            self.draft.reset(key)
            self._changed()

    def _value(self, key: str) -> Any:
        return getattr(self.draft, key) if key in ("device", "nproc") else self.draft.values()[key]

    def _put(self, key: str, value: Any) -> None:
        if key in ("device", "nproc"):
            setattr(self.draft, key, value)
        else:
            self.draft.set(key, value)
        self._changed()

    def _changed(self) -> None:
        self._refused = ""
        self.show_values()
        self.show_place()
        self._reckon()

    def on_text_row_typed(self, event: TextRow.Typed) -> None:
        """Take a text as it is typed."""
        event.stop()
        row, self._refused = event.row, ""
        if row.key in FIELDS:
            self.draft.set(row.key, event.text)
            row.changed = self.draft.is_changed(row.key)
            return
        setattr(self.draft, row.key, event.text)
        if row.key in TEXT_KEYS:
            self._look_at_text()
            self._suggest(row.key)
        elif row.key == "name":
            _ = self.run_worker(partial(self._check_name, row), group="name", exclusive=True)

    async def _check_name(self, row: TextRow) -> None:
        try:
            await self._starter.check_name(self.draft.name.strip())
            row.problem = ""
        except MiniGPTError as error:
            row.problem = "" if isinstance(error, LinkLostError) else str(error)
        self.show_place()

    # Lists

    def _list_of(self, key: str) -> tuple[Choice, ...]:
        """What can be chosen in a field."""
        if key == "preset":
            return tuple(Choice(name, visible_line(name), words) for name, words in self.draft.presets().items())
        if key == "base":
            whole = [info for info in self._models if not info.problem]
            facts = [
                f"{count_text(info.parameters)} · {info.tokenizer or info.family}"
                + (f" · val {info.val_loss:.3f}" if info.val_loss is not None else "")
                for info in whole
            ]
            models = [
                Choice(info.name, visible_line(info.name), words) for info, words in zip(whole, facts, strict=True)
            ]
            return (Choice("", FRESH, "drawn anew from the seed"), *models)
        return tuple(Choice(shown(value), shown(value)) for value in choices(FIELDS[key]))

    def on_choice_list_chosen(self, event: ChoiceList.Chosen) -> None:
        """Take what was clicked."""
        event.stop()
        self._take_from_list(event.choice)

    def _take_from_list(self, choice: Choice) -> None:
        key = self._choices.owner
        self._choices.close()
        if key in TEXT_KEYS and self._sends(key, choice):
            self._send(key, choice.value)
        elif key in TEXT_KEYS:
            field = self._text_row(key).input
            field.value = put_in_place(field.value, choice.value)  # says so, and opens the list of a folder
            field.cursor_position = len(field.value)
        else:
            self._take(key, choice.value)
        self.show_place()

    def _take(self, key: str, name: str) -> None:
        """Choose from a list."""
        if key == "base":
            _ = self.run_worker(partial(self._take_base, name), group="base", exclusive=True)
            return
        if key == "preset":
            self.draft.choose_preset(name)
        else:
            self._put(key, next(value for value in choices(FIELDS[key]) if shown(value) == name))
        self._changed()

    async def _take_base(self, name: str) -> None:
        """Go on from a model, or from none."""
        info = next((info for info in self._models if info.name == name), None)
        try:
            self.draft.choose_base(await self._starter.read_base(info.path, info.name) if info is not None else None)
        except MiniGPTError as error:
            self._rows["base"].problem = str(error)
            self.show_place()
            return
        self._rows["base"].problem = ""
        self._changed()

    # Where one is

    def on_descendant_focus(self, _event: DescendantFocus) -> None:
        """Say what the field does; an empty text shows what there is."""
        key = self.place
        if self._choices.is_open and self._choices.owner != key:
            self._choices.close()
        if key == "text":
            self._form.scroll_home(animate=False)  # with its heading
            if self._texts and not self.draft.text.strip():
                self._suggest(key)
        self.show_place()

    def on_descendant_blur(self, _event: DescendantBlur) -> None:
        """A list belongs to the field that has the focus; what was typed there is as it is now."""
        if not self.app.app_focus:
            return
        self._choices.close()
        self._before.clear()
        if self._problem:
            self._tell_text("")

    def on_resize(self, _event: Resize) -> None:
        """A list does not stay where its field was; that of a text goes with it."""
        key = self._choices.owner
        self._choices.close()
        if key in TEXT_KEYS:
            self.call_after_refresh(self._suggest, key)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a text is enter anywhere."""
        event.stop()
        self.action_enter()

    def action_move(self, direction: int) -> None:
        """The next choice of an open list; else the next field; in a text that has a list, that list."""
        if self._choices.is_open:
            self._choices.move(direction)
        elif direction > 0 and self.place == "text" and self._texts and not self.draft.text.strip():
            self._suggest("text")
        elif direction > 0:
            self.focus_next()
        else:
            self.focus_previous()

    def action_next(self) -> None:
        """Take what is marked, in a text that was begun; else go to the next field."""
        choice = self._choices.chosen() if self._choices.owner in TEXT_KEYS else None
        if choice is not None:
            self._take_from_list(choice)
        else:
            self.focus_next()

    def action_previous(self) -> None:
        """Go to the field before."""
        self.focus_previous()

    def action_enter(self) -> None:
        """Take from an open list; else open a field's list, or go on, or start."""
        choice, key = self._choices.chosen(), self.place
        if self._choices.is_open and choice is not None:
            self._take_from_list(choice)
        elif key == "cost":
            self.action_start()
        elif has_list(key):
            listed = self._list_of(key)
            standing = self.query_one(f"#field-{key}", SettingRow).value
            marked = next((place for place, each in enumerate(listed) if each.title == standing), 0)
            self._choices.open(key, listed, self.value_region(key), marked)
        else:
            self.focus_next()

    def action_more(self) -> None:
        """All settings, or the usual ones."""
        self.draft.more = not self.draft.more
        self.set_class(self.draft.more, "-all")
        self._choices.close()
        focused = self.focused
        if focused is not None and not focused.display:
            self._rows["text"].query_one(Input).focus()

    def action_preset(self) -> None:
        """Set all settings back to the preset's."""
        self.draft.overrides.clear()
        for row in self._rows.values():
            if isinstance(row, SettingRow):
                row.typed, row.problem = None, ""
        self._changed()

    def action_leave(self) -> None:
        """Close the list; else give up what is being typed; else leave."""
        row = self._rows.get(self.place)
        if self._choices.is_open:
            self._choices.close()
            self.show_place()
        elif not (isinstance(row, SettingRow) and row.give_up_typing()):
            self.dismiss(None)

    def action_start(self) -> None:
        """End with the run's configuration; what is missing or wrong is said, and has the focus."""
        if self._initial is not None:
            return  # it is not filled in yet
        if unsent := self._unsent():  # of the text as it is now: what its row says may be of the one before
            self._refuse(f"{unsent} is not sent yet: {SENDS}", "text")
            return
        for key, row in self._rows.items():
            if row.problem and not (isinstance(row, SettingRow) and row.locked):
                self._refuse(f"{row.label}: {row.problem}", key)
                return
        _ = self.run_worker(self._make_config, group="start", exclusive=True)

    async def _make_config(self) -> None:
        try:
            config = await self._starter.make_config(self.draft.wish())
        except MiniGPTError as error:
            self._refuse(str(error), "text" if self.draft.texts.is_blank else "")
            return
        self.draft.name = ""  # it is taken now
        self.dismiss(config)

    def _refuse(self, why: str, key: str) -> None:
        self._refused = visible_line(why)
        self._reckon()
        row = self._rows.get(key)
        if row is not None:
            (row.input if isinstance(row, TextRow) else row).focus()
