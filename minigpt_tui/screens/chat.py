"""The Chat screen: turns between the reader and a model, and what their keys do."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from textual.binding import BindingType
from textual.command import CommandPalette
from textual.widgets import TextArea

from minigpt_tui.actions import Where, bindings, by_id
from minigpt_tui.chat.report import as_json, as_markdown, as_text
from minigpt_tui.chat.script import Script
from minigpt_tui.chat.turns import CUT, Turn
from minigpt_tui.history.entry import Entry
from minigpt_tui.screens.chat_answering import READ_SECONDS
from minigpt_tui.screens.chat_settings import ChatSettings
from minigpt_tui.screens.chat_view import FIGURES, SYSTEM, Typing
from minigpt_tui.widgets.prompt_editor import PromptEditor
from minigpt_tui.wishes import OpenEntry, UsePrompt


class ChatScreen(ChatSettings):
    """Talk with a model in turns."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.CHAT, Where.SETTINGS)]

    _save_name = "chat.md"
    _edited: Turn | None = None  # the turn that is said otherwise

    def on_mount(self) -> None:
        """Bring back what the last session left."""
        self.set_interval(FIGURES, self._refresh_figures)
        self.set_interval(READ_SECONDS, self.hear)
        self.run_worker(self.restore())

    async def on_screen_resume(self) -> None:
        """Another model may be chosen now."""
        await self.hear()

    def on_unmount(self) -> None:
        """Keep what was said, however the app ends."""
        self.close_texts()

    def close_texts(self) -> list[Entry]:
        """End what is being written, with what has come of it, and put everything on the disk. The app leaves.

        Returns:
            What belongs into the history and is not on its way there yet.
        """
        turn, entries = self._live_turn, []
        if self._preparing is not None:
            self._preparing.cancel()
        self._live.close()
        if turn is not None:
            self._live_turn, turn.finish_reason = None, "cancelled"
            self.writing.finish_reason = "cancelled"
            if self._written is turn and self.writing.new_tokens:
                entries.append(self._entry(turn))
        self.keep_at_the_end()
        return entries

    def _refresh_figures(self) -> None:
        if self._figures_stale and self.is_current:
            self._figures_stale = False
            self.show_chat()
            self.show_status()

    # Where one writes.

    def on_text_area_changed(self, _event: TextArea.Changed) -> None:
        """What will be said moves what the model sees."""
        if self.typing == "turn" and not self.busy:
            self.keep_soon()
            self.show_chat()

    def on_prompt_editor_sent(self, event: PromptEditor.Sent) -> None:
        """Say it: behind the last turn, or in place of an earlier one; or keep the system message."""
        event.stop()
        text = event.prompt
        if self.typing == "system":
            self.chat.system = text.strip()
            self._type("turn")
            self.keep_now()
            self.say("the model is told this from its next answer on" if text.strip() else "no system message")
            return
        if not text.strip():
            self.say("write something first")
            return
        if self.busy:
            self.say(self._not_ended)
            return
        edited = self._edited
        parent = edited.parent if self.typing == "edit" and edited is not None else self.chat.leaf
        name = "" if self.script.kind == "model" else self.script.you
        turn = self.chat.add(parent, "user", edited.name if edited is not None else name, text.rstrip())
        self._draft = self._draft if self.typing == "edit" else ""
        self._type("turn")
        self.recall_own()
        self._transcript.following = True
        self._transcript.choose(turn.id)
        self.answer(turn, self._session.params.seed)

    def _type(self, what: Typing, text: str = "", edited: Turn | None = None) -> None:
        """Let something else stand in the editor; the next turn comes back behind it."""
        if self.typing == "turn" and what != "turn":
            self._draft = self._editor.text
        self.typing, self._edited = what, edited
        self._editor.text = self._draft if what == "turn" else text
        if what == "turn":
            self._draft = ""
        self._editor.move_cursor(self._editor.document.end)
        self._editor.focus()
        self.show_chat()

    def action_write(self) -> None:
        """Go to where one writes."""
        self._editor.focus()

    def action_panel(self, direction: int) -> None:
        """Go to the turns, or to where one writes."""
        (self._editor if self._transcript.has_focus else self._transcript).focus()

    def action_stop(self) -> None:
        """Close the question; else stop the answer; else leave what stands in the editor; else dismiss a notice."""
        if self._ask.is_open:
            self._ask.action_close()
        elif self.busy:
            self.stop_answer()
        elif self.typing != "turn":
            self._type("turn")
        elif self._notice.dismiss():
            return
        elif self._editor.has_focus:
            self._transcript.focus()
        else:
            self.clear_selection()

    # Turns.

    @property
    def _not_ended(self) -> str:
        return f"the model has not ended its turn; {by_id('chat_stop').shown} stops it"

    def _question(self) -> Turn | None:
        """The reader's turn that the chosen one is, or answers."""
        turn = self.chosen or next(iter(self.chat.path()[-1:]), None)
        while turn is not None and not turn.is_own:
            turn = self.chat[turn.parent] if turn.parent is not None else None
        return turn

    def action_again(self) -> None:
        """Answer again, with a new seed."""
        self._answer_again(None)

    def action_again_same(self) -> None:
        """Answer again with the seed of the answer that is there."""
        question = self._question()
        path = self.chat.path()
        place = path.index(question) + 1 if question in path else len(path)
        self._answer_again(path[place].seed if place < len(path) else self._session.params.seed)

    def _answer_again(self, seed: int | None) -> None:
        question = self._question()
        if question is None:
            self.say("there is nothing to answer yet")
        elif self._doing:
            self.say(f"an answer is on its way; {by_id('chat_stop').shown} leaves it")
        else:
            self.answer(question, seed)

    def action_continue_answer(self) -> None:
        """Write on where the last answer was cut."""
        path = self.chat.path()
        last = path[-1] if path else None
        if self.busy:
            self.say("it is being written")
        elif last is None or last.is_own:
            self.say("there is no answer to continue")
        elif last.finish_reason not in CUT:
            self.say(f"the model has ended its turn; {by_id('chat_again').shown} answers again")
        else:
            self.go_on(last)

    def action_edit_turn(self) -> None:
        """Say this turn otherwise; of an answer, what it answers."""
        if self._transcript.key == SYSTEM:
            self.action_edit_system()
        elif (turn := self._question()) is None:
            self.say("you have said nothing yet")
        elif self.busy:
            self.say(self._not_ended)
        else:
            self._type("edit", turn.text, turn)

    def action_edit_system(self) -> None:
        """Write what the model is told before all turns."""
        if self.script.kind == "model" and self.voice.template is not None and not self.voice.has_system:
            self.say("this model's template has no system message")
        else:
            self._type("system", self.chat.system)

    def action_version(self, direction: int) -> None:
        """Go to what else was said in the place of the chosen turn, or of the nearest before it that has another."""
        if self.busy:
            self.say(self._not_ended)
            return
        if (turn := self.parting) is None:
            self.say("nothing was said otherwise here")
            return
        versions = self.chat.versions(turn)
        other = versions[(versions.index(turn) + direction) % len(versions)]
        self.chat.show(other)
        self.show_chat()
        self._transcript.choose(other.id)
        self.keep_soon()
        self.show_status()

    # Templates.

    def action_template(self) -> None:
        """Choose how turns are written down, and who speaks."""
        from minigpt_tui.screens.chat_form import ChatForm

        said = [turn.name for turn in self.chat.turns if turn.name]
        form = ChatForm(self.script, self.model_name, has_own=self.voice.template is not None, said=said)
        self.app.push_screen(form, self._take_script)

    def _take_script(self, script: Script | None) -> None:
        if script is not None and script != self.script:
            self.desk.scripts = {**self.desk.scripts, self.model_name: script}
            self.keep_now()
        self.show_chat()

    def action_swap(self) -> None:
        """Let the reader and the model change names."""
        script = self.script
        if script.kind == "model":
            self.say("the model's own template has no names")
            return
        self._take_script(msgspec.structs.replace(script, you=script.model, model=script.you))
        self.say(f"you are {self.script.you} now, and {self.script.model} answers")

    def action_choose_model(self) -> None:
        """Choose the model that answers."""
        from minigpt_tui.palette import ModelProvider

        self.app.push_screen(CommandPalette(providers=[ModelProvider], placeholder="Choose the model that answers"))

    # Chats.

    def action_new(self) -> None:
        """Begin another chat; this one is kept."""
        if self.chat.is_empty:
            self.say("this chat is new")
            return
        self.end_answer()
        self.begin_chat()
        self._editor.focus()
        self.say(f"a new chat; {by_id('chat_list').shown} has the one before")

    async def action_chats(self) -> None:
        """Show the kept chats."""
        from minigpt_tui.screens.chat_shelf import ChatShelf

        await self.keep_all()

        def take(id: str | None) -> None:
            if id and id != self.chat.id:
                self.run_worker(self.open_kept(id))

        self.app.push_screen(ChatShelf(self.chat.id, self.remove_kept), take)

    # What becomes of it.

    def _text(self) -> str:
        return as_text(self.script, self.chat.system, self.chat.path())

    def action_copy(self) -> None:
        """Copy what is selected, or the chosen turn."""
        turn = self.chosen
        text = self.get_selected_text() or (turn.text if turn is not None else "")
        if self._transcript.key == SYSTEM:
            text = text or self.chat.system
        if text:
            self.app.copy_to_clipboard(text)
        else:
            self.say("there is nothing to copy yet")

    def action_copy_all(self) -> None:
        """Copy the whole chat."""
        if self.chat.path():
            self.app.copy_to_clipboard(self._text())
        else:
            self.say("there is nothing to copy yet")

    def action_open_in_play(self) -> None:
        """Show the whole chat on Play: with its tokens where the last answer's are there, else as a prompt."""
        path = self.chat.path()
        if self.busy:
            self.say(self._not_ended)
        elif not path:
            self.say("nothing is said yet")
        elif self._written is path[-1] and self.writing.new_tokens and self.script.kind != "model":
            self.post_message(OpenEntry(self._entry(path[-1])))
        else:
            self.post_message(UsePrompt(self._text()))

    def action_save(self) -> None:
        """Ask for a file's name and save the chat there."""
        if self.chat.is_empty:
            self.say("there is nothing to save yet")
            return

        def text_of(name: str) -> str:
            return (as_json if name.endswith(".json") else as_markdown)(self.chat, self.script)

        self._ask_to_save(".md to read, .json for programs", text_of)
