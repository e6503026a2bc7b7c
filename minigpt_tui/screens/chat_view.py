"""How the Chat screen looks: the turns, what stands in its borders and lines, and how it fits the terminal. It shows
what was said, and asks nothing of the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus
from textual.widget import Widget

from engine.catalog import DEFAULT_MODEL
from engine.worker.protocol import ModelInfo
from minigpt_tui.actions import Where, by_id, hint
from minigpt_tui.chat.asking import Voice
from minigpt_tui.chat.edge import Edge, exact_edge, told_edge
from minigpt_tui.chat.kept import Desk
from minigpt_tui.chat.script import KINDS, OF_MODEL, PLAY, Script
from minigpt_tui.chat.turns import CUT, Chat, Turn, new_chat
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.screens.frame import FramedScreen, Key, fitting, with_figures
from minigpt_tui.settings import Session
from minigpt_tui.status_text import short_name
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.chat_transcript import Block, ChatTranscript, Sight
from minigpt_tui.widgets.prompt_editor import PromptEditor
from minigpt_tui.widgets.sampling_chips import SamplingChips

FIGURES = 0.25
"""Seconds between two updates of the numbers."""

SYSTEM = 0
"""The key of the system message among the turns, whose ids begin with 1."""

CAME_TO = {"length": "cut at its length", "cancelled": "stopped", "lost": "cut off"}
"""What is said below an answer that can be continued."""

Typing = Literal["turn", "edit", "system"]
"""What stands in the editor: the next turn, one that is said otherwise, or the system message."""


class ChatView(FramedScreen):
    """The parts of the screen, brought up to date when its heir says so."""

    NAME = "Chat"
    BACK = "chat_stop"
    SAFE = "What was said is safe."
    CSS_PATH = "chat.tcss"
    AUTO_FOCUS = "#prompt"
    PLACES: ClassVar[dict[str, Where]] = {
        "transcript": Where.TURN,
        "prompt": Where.PROMPT,
        "": Where.CHAT,
        "settings": Where.SETTINGS,
    }

    def __init__(self, session: Session, choice: Callable[[], ModelChoice]) -> None:
        """Make the parts.

        Args:
            session: What the last session left.
            choice: Tells the model that is chosen on Play.
        """
        super().__init__()
        self._session, self._choice = session, choice
        self.chat: Chat = new_chat()
        self.desk = Desk()
        self.model: ModelInfo | None = None  # the one that answered last
        self.voice = Voice()
        self.typing: Typing = "turn"
        self._live_turn: Turn | None = None  # the answer that is being written
        self._doing = ""  # what is done before an answer begins
        self._figures_stale = False
        self._speed = 0.0
        self._drawn: dict[tuple[Widget, str], str] = {}  # what stands in the borders
        self._transcript = ChatTranscript(id="transcript")
        self._chips = SamplingChips(id="chat-settings")
        self._editor = PromptEditor([], id="prompt")

    def body(self) -> ComposeResult:
        """The turns, the settings, and where one writes."""
        self._transcript.add_class("panel")
        self._editor.add_class("panel")
        yield self._transcript
        yield self._chips
        yield self._editor

    # What holds now.

    @property
    def info(self) -> ModelInfo | None:
        """What is known of the model that answers next."""
        return self._choice().info or self.model

    @property
    def model_name(self) -> str:
        """By which its template is kept."""
        return self.info.name if self.info else self._choice().name or DEFAULT_MODEL

    @property
    def script(self) -> Script:
        """How turns are written down for the model that answers next."""
        kept = self.desk.scripts.get(self.model_name)
        if kept is not None and (kept.kind != "model" or self.voice.template is not None or self.voice.problem):
            return kept
        return OF_MODEL if self.voice.template is not None or self.voice.problem else PLAY

    @property
    def busy(self) -> bool:
        """Whether an answer was asked for and has not ended."""
        return bool(self._doing) or self._live_turn is not None

    @property
    def chosen(self) -> Turn | None:
        """The turn that keys act on."""
        key = self._transcript.key
        return self.chat[key] if key and key in self.chat else None

    @property
    def parting(self) -> Turn | None:
        """The chosen turn, or the nearest before it, in whose place something else was said too."""
        path, chosen = self.chat.path(), self.chosen
        before = path[: path.index(chosen) + 1] if chosen in path else path
        return next((turn for turn in reversed(before) if len(self.chat.versions(turn)) > 1), None)

    # The turns.

    def show_chat(self, *, anew: bool = False) -> None:
        """Show what was said, and what can be done.

        Args:
            anew: Whether another chat is here.
        """
        if self.is_mounted:
            self.show_turns(anew=anew)
            self.show_borders()

    def show_turns(self, *, anew: bool = False) -> None:
        """Show what was said.

        Args:
            anew: Whether another chat is here.
        """
        if anew:
            self._transcript.show((), None)
            self._transcript.following = True
        path = self.chat.path()
        others: dict[int | None, list[Turn]] = {}
        for turn in self.chat.turns:
            others.setdefault(turn.parent, []).append(turn)
        blocks = [self._block(turn, others[turn.parent], path[n + 1 : n + 2]) for n, turn in enumerate(path)]
        lead = int(bool(self.chat.system.strip()))
        if lead:
            blocks.insert(0, self._system_block())
        edge = self.edge(path)
        sight = None
        if edge is not None and edge.length > edge.seen and path:
            sight = Sight(edge.turn + lead, edge.offset, _sight_words(edge))
        self._transcript.show(blocks, sight)

    def show_answer(self, turn: Turn) -> None:
        """Show what came of the answer that is written now; the rest stays as it is."""
        if not self._transcript.show_last(self._block(turn, self.chat.versions(turn), [])):
            self.show_turns()

    def _block(self, turn: Turn, versions: list[Turn], following: list[Turn]) -> Block:
        """A turn as it is shown.

        Args:
            turn: It.
            versions: What was said in its place.
            following: The turn behind it, if there is one.
        """
        live = turn is self._live_turn
        notes = []
        if not turn.is_own and turn.model and self.info is not None and turn.model != self.info.name:
            notes.append(short_name(turn.model))
        if len(versions) > 1:
            notes.append(f"{versions.index(turn) + 1} of {len(versions)}")
        remarks = []
        if turn.is_own and following:
            if strange := "".join(c for c in following[0].left_out if c in turn.text):
                remarks.append(f"left out, as the model has never seen it: {' '.join(strange)}")
        elif turn.is_own and not self.busy:
            remarks.append(f"no answer yet · {by_id('chat_again').shown} asks again")
        elif not turn.is_own and not live:
            if not turn.text.strip():
                remarks.append("says nothing")
            if turn.finish_reason in CUT:
                goes_on = "" if following else f" · {by_id('chat_continue').shown} goes on"
                remarks.append(CAME_TO.get(turn.finish_reason, "stopped") + goes_on)
        name = self.script.name_of(turn)
        return Block(turn.id, name, turn.text, turn.is_own, " · ".join(notes), tuple(remarks), live)

    def _system_block(self) -> Block:
        unsent = self.script.kind == "model" and self.voice.template is not None and not self.voice.has_system
        remarks = ("not sent: this model's template has no system message",) if unsent else ()
        return Block(SYSTEM, "System", self.chat.system, True, "before all turns", remarks)

    def edge(self, path: list[Turn]) -> Edge | None:
        """Where the model begins to see, for the token that it writes now, or its next answer."""
        info = self.info
        if info is None or not info.block_size:  # a server may not tell
            return None
        draft = self._editor.text if self.typing == "turn" and self._live_turn is None else ""
        script = self.script
        if info.tokenizer != "char" or script.kind == "model":
            return told_edge(path, info.block_size, draft)
        unknown = "".join(turn.left_out for turn in path)
        if self._live_turn is not None:
            return exact_edge(script, self.chat.system, path, info.block_size, unknown=unknown, answered=False)
        draft_turn = Turn(id=-1, parent=None, role="user", text=draft)
        return exact_edge(script, self.chat.system, [*path, draft_turn], info.block_size, unknown=unknown)

    # What stands in borders and lines.

    def fit(self) -> None:
        """Fill all borders and lines."""
        self.show_chat()
        self._chips.params = self._session.params

    def show_borders(self) -> None:
        """Bring the borders up to date."""
        if not self.is_mounted:
            return
        script, transcript, editor = self.script, self._transcript, self._editor
        room = transcript.outer_size.width - 6
        cast = f"you are {script.you}, {script.model} answers" if script.kind != "model" else KINDS["model"]
        title = f"Chat · {cast}"
        self._title(transcript, title, room)
        below = with_figures(self._keys(), self._context_words(), room, bright=transcript.has_focus)
        self._subtitle(transcript, below)
        transcript.empty_text = self._empty_text()
        titles = {
            "turn": f"Your turn · {script.you}" if script.kind != "model" else "Your turn",
            "edit": "Say it otherwise · what followed stays as another branch",
            "system": "What the model is told before all turns",
        }
        self._title(editor, titles[self.typing], room)
        words = {"turn": "send", "edit": "send it anew", "system": "keep it"}
        keys: list[Key] = [("generate", words[self.typing]), "new_line"]
        if self.typing != "turn":
            keys.append(("chat_stop", "leaves it"))
        keys += [("chat_next", "the turns")]
        self._subtitle(editor, fitting(keys if editor.has_focus else [("chat_write", "writes")], room))
        self._top.model = self.info
        self._chips.params = self._session.params

    def _title(self, panel: Widget, words: str, room: int) -> None:
        """An upper border; what stands there already is not painted anew."""
        content = Content(visible_line(words)).truncate(max(4, room), ellipsis=True)
        if self._drawn.get((panel, "title")) != content.plain:
            self._drawn[panel, "title"] = content.plain
            panel.border_title = content

    def _subtitle(self, panel: Widget, content: Content) -> None:
        """A lower border, likewise."""
        if self._drawn.get((panel, "subtitle")) != content.markup:
            self._drawn[panel, "subtitle"] = content.markup
            panel.border_subtitle = content

    def _empty_text(self) -> str:
        send = by_id("generate").shown
        template, chats = by_id("chat_template").shown, by_id("chat_list").shown
        first = f"Nothing is said yet.\n\nWrite your turn below; {send} sends it.\n"
        return f"{first}Outside the field, {template} chooses who speaks and {chats} has earlier chats."

    def _context_words(self) -> str:
        """How full the model's window is."""
        info, path = self.info, self.chat.path()
        edge = self.edge(path) if path else None
        if info is None or edge is None:
            return ""
        return f"context {min(1.0, edge.seen / info.block_size) * 100:3.0f} % of {info.block_size:,}"

    def _keys(self) -> list[Key]:
        """The keys of the turns, the most wanted first."""
        if not self._transcript.has_focus:
            return [("chat_stop", "stop")] if self.busy else [("chat_next", "the turns' keys")]
        if self.busy:
            speed = f"pace {self._session.pace:g}" if self._session.full_speed else "full speed"
            return ["chat_stop", ("chat_full_speed", speed), "chat_slower", "chat_faster"]
        path = self.chat.path()
        if not path:
            return ["chat_write", "chat_template", "chat_list", "chat_model"]
        keys: list[Key] = []
        if path[-1].role == "assistant" and path[-1].finish_reason in CUT:
            keys.append("chat_continue")
        keys += ["chat_again", "chat_edit"]
        if self.parting is not None:
            keys.insert(0, "chat_version_before")
        return [*keys, "chat_new", "chat_list", "chat_template", "chat_copy", "chat_save", "chat_play"]

    def status(self) -> tuple[Content, bool]:
        """What goes on: the engine's work, or what came of the last answer."""
        if self._live_turn is not None:
            speed = f"{self._speed:6,.0f} tok/s" if self._speed else "     – tok/s"
            return Content.from_markup(f"answering {speed} · {hint('chat_stop', 'stops')}"), True
        if self._doing:
            return Content.from_markup(f"{self._doing} · {hint('chat_stop', 'leaves it')}"), True
        path = self.chat.path()
        if not path or path[-1].is_own:
            return Content.from_markup(f"ready · {hint('generate', 'sends')}"), False
        last = path[-1]
        said = "answered" if last.finish_reason == "stop" else CAME_TO.get(last.finish_reason, "stopped")
        parts = [f"{said} · {last.new_tokens:,} tokens"]
        if self._speed:
            parts.append(f"{self._speed:,.0f} tok/s")
        if last.seed is not None:
            parts.append(f"seed {last.seed}")
        return Content(" · ".join(parts)), False

    def on_descendant_focus(self, _event: DescendantFocus) -> None:
        """Other keys act now."""
        self.show_borders()

    def on_descendant_blur(self, _event: DescendantBlur) -> None:
        """The border's line takes the colour of the rest."""
        self.show_borders()

    def on_chat_transcript_chosen(self, event: ChatTranscript.Chosen) -> None:
        """Other keys act on another turn."""
        event.stop()
        self.show_borders()

    def first_place(self) -> Widget | None:
        """Where one writes."""
        return self._editor


def _sight_words(edge: Edge) -> str:
    """What stands where the model begins to see."""
    if not edge.turn:
        return "the model sees from here"
    return f"the model sees from here · {edge.turn} turn{' is' if edge.turn == 1 else 's are'} unseen"
