"""The models' screen: all models of this machine, what is known of the chosen one, and what can be done with them. It
reads their directories in threads, and asks the app to write with one or to compare some.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from engine.errors import MiniGPTError
from minigpt_tui.actions import Where, bindings, by_id
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.models.checking import Checking, CheckStopped
from minigpt_tui.models.desk import Desk
from minigpt_tui.models.shelf import Model, ModelShelf
from minigpt_tui.screens.models_changes import ModelsChanges
from minigpt_tui.screens.models_view import MOST_COMPARED
from minigpt_tui.settings import Session
from minigpt_tui.status_text import sentence
from minigpt_tui.threads import in_daemon
from minigpt_tui.widgets.model_list import ModelList
from minigpt_tui.widgets.row_list import RowList
from minigpt_tui.wishes import CompareModels, UseModel

LOOK_SECONDS = 0.25
"""Seconds between two looks at the models and at the chosen one."""

READING_SECONDS = 0.01
"""Seconds between two looks while not all was read."""

SETTLE_SECONDS = 0.05
"""A model is read once it was chosen for this long: who runs through the list waits for none."""

PROGRESS_SECONDS = 0.1


class ModelsScreen(ModelsChanges):
    """Find a model, know it, use it, keep order."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.MODELS)]

    def __init__(self, session: Session, choice: Callable[[], ModelChoice]) -> None:
        """Make the screen.

        Args:
            session: What outlives the app.
            choice: Tells the model that is chosen on the Play screen.
        """
        super().__init__(session, choice)
        self._reader, self._desk = ModelShelf(), Desk()
        self._checking: Checking | None = None
        self._moved = asyncio.Event()

    def on_mount(self) -> None:
        """Begin to read."""
        self.run_worker(self._follow_models(), group="models")
        self.run_worker(self._follow_chosen(), group="chosen")

    # What is read.

    async def _follow_models(self) -> None:
        """Look which models there are, as long as the screen is there."""
        while True:
            if self.is_current:
                found = await asyncio.to_thread(self._reader.look)
                if found is not None or self._is_whole != self._reader.is_whole:
                    self.show_models(self._models if found is None else found, is_whole=self._reader.is_whole)
                    self._moved.set()
                self.show_use()
            await asyncio.sleep(LOOK_SECONDS if self._reader.is_whole else READING_SECONDS)

    async def _follow_chosen(self) -> None:
        """Read the chosen model, as long as the screen is there."""
        while True:
            self._moved.clear()
            model = self.chosen
            if model is None:
                if self._details is not None:
                    self.show_details(None)
            elif self.is_current and model.info is not None:
                found = await asyncio.to_thread(self._desk.look, model, self._curve.points)
                if found is not None and self.chosen is not None and found.model.key == self.chosen.key:
                    self.show_details(found)
            try:
                await asyncio.wait_for(self._moved.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue
            await asyncio.sleep(SETTLE_SECONDS)

    # What the widgets ask for.

    def on_row_list_selected(self, event: RowList.Selected) -> None:
        """Show another model."""
        event.stop()
        self._moved.set()
        self.fit()

    def on_row_list_open_requested(self, event: RowList.OpenRequested) -> None:
        """Write with it."""
        event.stop()
        self.action_play()

    def on_model_list_fold_requested(self, event: ModelList.FoldRequested) -> None:
        """List the checkpoints of the chosen run, or no longer."""
        event.stop()
        model = self.chosen
        if model is None or not model.run:
            return
        run = next(each.key for each in self._models if each.kind == "run" and each.run == model.run)
        if event.folded:
            self._unfolded.discard(run)
            self._list.selected = run
        else:
            self._unfolded.add(run)
        self._show_list()
        self._moved.set()

    def on_input_changed(self, event: Input.Changed) -> None:
        """List what has these words."""
        if event.input is self._filter:
            event.stop()
            self._show_list()
            self._moved.set()

    # Using.

    def action_play(self) -> None:
        """Write with the chosen model."""
        model = self._usable(self.chosen)
        if model is not None:
            self.post_message(UseModel(model.name))

    def _usable(self, model: Model | None) -> Model | None:
        """A model that is whole as far as is known; else it is said that it is not."""
        if model is None or model.is_folder:
            self.say("there is no model to take")
        elif model.problem:
            self.tell(f"{model.name} is damaged", f"{model.problem[:1].upper()}{model.problem[1:]}.")
        else:
            return model
        return None

    def action_mark(self) -> None:
        """Mark the chosen model for a comparison, or take the mark away, and go to the next one."""
        model = self.chosen
        if model is None:
            return
        marked = self._list.marked
        if model.key in marked:
            self._list.marked = tuple(key for key in marked if key != model.key)
        elif self._usable(model) is None:
            return
        elif len(marked) == MOST_COMPARED:
            self.say(f"{MOST_COMPARED} models can be compared at once; {by_id('model_mark').shown} takes a mark away")
            return
        else:
            self._list.marked = (*marked, model.key)
        self._list.action_move(1)
        self._list.refresh()
        self.fit()

    def action_compare(self) -> None:
        """Show the marked models beside each other; with one marked, it and the chosen one."""
        keys = self._list.marked
        if len(keys) == 1 and self.chosen is not None and self.chosen.key not in keys:
            keys = (*keys, self.chosen.key) if self._usable(self.chosen) is not None else keys
        names = tuple(model.name for key in keys for model in self._models if model.key == key)
        if len(names) < 2:
            self.say(f"mark 2 to {MOST_COMPARED} models with {by_id('model_mark').shown} first")
        else:
            self.post_message(CompareModels(names))

    def action_path(self) -> None:
        """Copy the path of the chosen model's folder."""
        if (model := self.chosen) is not None:
            self.app.copy_to_clipboard(str(model.path))

    # Verifying.

    def action_verify(self) -> None:
        """Hold the chosen model's files against their hashes."""
        model = self.chosen
        if model is None or model.is_folder:
            self.say("there is no model to verify")
            return
        if self._checking is not None:
            self.say(f"{self._checking.name} is being verified; {by_id('models_back').shown} stops it")
            return
        self._checking = Checking(model.name, model.path)
        self.run_worker(self._verify(model, self._checking), group="verify")

    async def _verify(self, model: Model, checking: Checking) -> None:
        progress = self.set_interval(PROGRESS_SECONDS, self._show_progress)
        self._show_progress()
        try:
            problems, came = await in_daemon(checking.run)
        except CheckStopped:
            self.say(f"{model.name} was not verified to the end")
        except (MiniGPTError, OSError) as error:
            self.tell(f"{model.name} cannot be verified", f"{error}.")
        else:
            self._verified[str(model.path)] = came
            if problems:
                self.tell(f"{model.name} is damaged", sentence(MiniGPTError("; ".join(problems))))
            else:
                self.say(f"{model.name}: {came}")
            if self._details is not None:
                self.show_details(self._details)
        finally:
            progress.stop()
            self._checking, self._working = None, ""
            self.show_status()

    def _show_progress(self) -> None:
        if self._checking is not None:
            self._working = f"verifying {self._checking.name} {self._checking.share * 100:3.0f} %"
            self.show_status()

    # Looking.

    def action_filter(self) -> None:
        """Type what the models that are listed shall have."""
        self.remove_class("-details")
        self.add_class("-filtering")
        self._filter.focus()

    def action_leave_filter(self) -> None:
        """Go to the list; what was typed stays in force."""
        if not self._filter.value.strip():
            self._end_filter()
        self._list.focus()

    def _end_filter(self) -> None:
        self.remove_class("-filtering")
        with self.prevent(Input.Changed):
            self._filter.value = ""
        self._show_list()

    def action_details(self) -> None:
        """Go to what is known of the chosen model, or back to the list."""
        if self.chosen is None:
            return
        to_list = self.has_class("-details") if self.has_class("-narrow") else not self._list.has_focus
        self.set_class(not to_list, "-details")
        self.call_after_refresh((self._list if to_list else self._facts).focus)
        self.call_after_refresh(self.fit)

    def action_back(self) -> None:
        """Stop verifying; else close what is open; else list all; else go to the list."""
        if self._ask.is_open or self._checking is None:
            if self.close_open():
                return
            if self.has_class("-details") or not (self._list.has_focus or self._filter.has_focus):
                self.remove_class("-details")
            elif self.has_class("-filtering"):
                self._end_filter()
            self._list.focus()
        else:
            self._checking.stop()
