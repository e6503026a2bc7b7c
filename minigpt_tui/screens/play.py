"""The Play screen: prompt, text, sampling and the likely next tokens, and what their keys do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from engine.config import SamplingParams
from engine.errors import InvalidSettingError
from minigpt_tui.actions import Where, bindings
from minigpt_tui.parameters import BY_FIELD, Parameter
from minigpt_tui.saving import save_as_typed
from minigpt_tui.screens.play_first_steps import PlayFirstSteps
from minigpt_tui.settings import drawn_seed
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.prompt_editor import PromptEditor
from minigpt_tui.widgets.sampling_panel import SamplingPanel

if TYPE_CHECKING:
    from minigpt_tui.widgets.ask_line import AskLine


class PlayScreen(PlayFirstSteps):
    """Write with a model, and turn its settings while it writes."""

    # The cursor's keys act first while there is one.
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.INSPECT), *bindings(Where.PLAY, Where.SETTINGS)]

    # What the widgets ask for.

    def on_prompt_editor_sent(self, event: PromptEditor.Sent) -> None:
        """Write on from the prompt, and go to the text, where single letters act; or score it, where that was asked."""
        event.stop()
        if self.scoring:
            self.score_text(event.prompt)
            return
        self._session.remember_prompt(event.prompt)
        self._prompt.set_earlier(self._session.prompts)
        self._text.focus()
        self._write(event.prompt, self._session.params.seed)
        self.post_message(self.SessionChanged())

    def on_sampling_panel_changed(self, event: SamplingPanel.Changed) -> None:
        """Turn a setting."""
        event.stop()
        self._change_params(event.params)

    def on_sampling_panel_edit_requested(self, event: SamplingPanel.EditRequested) -> None:
        """Ask for a value."""
        event.stop()
        self._ask_for(event.parameter, event.text)

    def on_sampling_chips_open_requested(self) -> None:
        """Show all settings."""
        self.action_focus_sampling()

    def on_ask_line_closed(self, event: AskLine.Closed) -> None:
        """Go back to where the question was asked."""
        self.remove_class("-asking")
        if event.back_to is not None or self.focused is None:
            (event.back_to or self._text).focus()

    def _ask_for(self, parameter: Parameter, typed: str | None = None) -> None:
        """Let a value be typed; what is out of range is refused in words."""

        def take(text: str) -> str:
            try:
                self._change_params(parameter.typed(self._session.params, text))
            except InvalidSettingError as error:
                return visible_line(error.hint or error.message)
            return ""

        shown = parameter.shown(self._session.params)
        value = "" if shown in ("none", "random") else shown
        remark = {"stop": r"several: a | b   newline: \n", "seed": "empty for a new one each time"}
        self._open(parameter.name, remark.get(parameter.field, parameter.range_text), take, value, typed)

    # Actions.

    def action_generate(self) -> None:
        """Write on from the prompt."""
        self._prompt.action_generate()

    def action_copy(self) -> None:
        """Copy what is selected, or all."""
        text = self.get_selected_text() or self.writing.document.text()
        if not text:
            self.say("there is nothing to copy yet")
            return
        self.app.copy_to_clipboard(text)

    def action_save(self) -> None:
        """Ask for a file's name and save the text there."""
        if not self.writing.document.text():
            self.say("there is nothing to save yet")
            return

        def saved(typed: str, path: Path) -> None:
            self._save_name = typed
            self.say(f"saved to {path}")

        take = save_as_typed(lambda _: self.writing.document.text(), saved)
        self._open("save to", "enter saves, esc leaves", take, self._save_name)

    def action_choose_model(self) -> None:
        """Let the app show the models."""
        self.post_message(self.ModelsRequested())

    def action_next_token(self) -> None:
        """Show or hide the likely next tokens; on a narrow terminal the side panels come with them."""
        if self.inspecting:
            self.toggle_class("-no-next")
        elif self.has_class("-narrow"):
            self.action_focus_text()
            self.toggle_class("-next-open")
        else:
            self.toggle_class("-no-next")

    def action_focus_prompt(self) -> None:
        """Go to the prompt."""
        self._prompt.focus()

    def action_focus_text(self) -> None:
        """Go to the text."""
        self._text.focus()

    def action_focus_sampling(self) -> None:
        """Go to the sampling settings; a narrow terminal shows them now."""
        self.remove_class("-next-open")
        self.add_class("-sampling-open")
        self.call_after_refresh(self._sampling.focus)

    def action_panel(self, direction: int) -> None:
        """Go to the next panel, in the order in which they are used."""
        order: list[Widget] = [self._text, *self._side_panels, self._prompt, self._sampling]
        place = order.index(self.focused) if self.focused in order else 0
        following = order[(place + direction) % len(order)]
        if following.id == "sampling":
            self.action_focus_sampling()
        else:
            following.focus()

    def action_step(self, field: str, direction: int) -> None:
        """Turn one setting a step."""
        self._change_params(BY_FIELD[field].stepped(self._session.params, direction))

    def action_new_seed(self) -> None:
        """Draw a seed for the next text."""
        self._change_params(self._session.params.replace(seed=drawn_seed()))

    def action_ask(self, field: str) -> None:
        """Type a setting's value."""
        self._ask_for(BY_FIELD[field])

    def action_reset_sampling(self) -> None:
        """Set all of sampling back."""
        self._change_params(SamplingParams())
