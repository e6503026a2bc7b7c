"""How turns are written down, over the screen: which template, who speaks, and what stands between. Below it stands
what the model will read. It changes nothing itself: it answers with what was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from minigpt_tui.actions import Where, bindings, by_id, hint
from minigpt_tui.chat.script import CAST, KINDS, SHIPPED, Kind, Script, lay, read, written
from minigpt_tui.chat.turns import Turn
from minigpt_tui.parameters import parse_stop, stop_text
from minigpt_tui.screens.modal import Modal
from minigpt_tui.visible import visible

LABEL = 16
NAME_CHARACTERS = 40

FIELDS = {
    "you": "you are",
    "model": "the model is",
    "after": "after a name",
    "between": "between turns",
    "stop": "also ends it",
}
"""What can be typed, and its name for a reader."""


class KindRow(Widget, can_focus=True):
    """Which template; it shows what it is given."""

    DEFAULT_CSS = "KindRow { height: 1; width: 1fr; }"

    def __init__(self, kind: Kind) -> None:
        super().__init__(id="kind")
        self.kind = kind

    def render(self) -> Content:
        """Its name between the signs that say it can be turned."""
        here = self.has_focus
        return Content.assemble(
            ("template".ljust(LABEL), "bold $accent" if here else "$quiet"),
            ("‹ " if here else "  ", "$key"),
            (KINDS[self.kind], "bold $accent" if here else ""),
            (" ›" if here else "", "$key"),
        )

    def turn(self, kind: Kind) -> None:
        """Show another."""
        self.kind = kind
        self.refresh()


class ChatForm(Modal[Script]):
    """Answers with a script, or with nothing."""

    DEFAULT_CSS = """
    ChatForm {
        & > .sheet { width: 76; max-width: 96%; max-height: 96%; border-subtitle-align: left; padding: 0 1; }
        & Horizontal { height: 1; }
        & .label { width: 18; color: $quiet; }
        & Input, & Input:focus {
            width: 1fr; height: 1; border: none; padding: 0; background: transparent; background-tint: transparent;
        }
        & #offered { height: 1; color: $quiet; padding: 0 0 0 18; }
        & #offered.-wrong { color: $text-error; }
        & #preview { height: auto; max-height: 9; margin: 1 0 0 0; color: $prompt-text; }
        &.-named .typed { display: none; }
        &.-nameless .named, &.-nameless .typed { display: none; }
    }
    """

    AUTO_FOCUS = "#kind"
    PLACES: ClassVar[dict[str, Where]] = {"": Where.CHAT_FORM}
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(Where.CHAT_FORM),
        ("left", "turn_kind(-1)", ""),
        ("right,space", "turn_kind(1)", ""),
    ]

    def __init__(self, script: Script, model: str, *, has_own: bool, said: Sequence[str]) -> None:
        """Make the form.

        Args:
            script: What holds now.
            model: The model whose template it is.
            has_own: Whether the model has a template of its own.
            said: Names that were heard in this chat.
        """
        super().__init__()
        self._kinds: list[Kind] = [kind for kind in KINDS if kind != "model" or has_own or script.kind == "model"]
        self._names = list(dict.fromkeys([*said, *CAST]))
        self._model = model
        self._kind = KindRow(script.kind)
        self._script = script
        suggester = SuggestFromList(self._names, case_sensitive=False)
        self._inputs = {
            field: Input(
                compact=True, select_on_focus=False, id=field, max_length=NAME_CHARACTERS,
                suggester=suggester if field in ("you", "model") else None,
            )
            for field in FIELDS
        }  # fmt: skip
        self._form = Vertical(id="form", classes="sheet")
        self._offered = Static(id="offered", markup=False)
        self._preview = Static(id="preview", markup=False)

    def compose(self) -> ComposeResult:
        """Template, names, what stands between them, and how it reads."""
        with self._form:
            yield self._kind
            for field, label in FIELDS.items():
                with Horizontal(classes="named" if field in ("you", "model") else "typed"):
                    yield Static(label, classes="label", markup=False)
                    yield self._inputs[field]
            yield self._offered
            yield self._preview

    def on_mount(self) -> None:
        """Show what holds now."""
        self._form.border_title = Content(visible(f"How {self._model or 'the model'} reads a chat"))
        keys = f"[$key]{by_id('script_before').shown}{by_id('script_after').shown}[/] choose"
        self._form.border_subtitle = " · ".join([hint("script_take"), keys, "[$key]tab[/] next", hint("script_leave")])
        self._fill(self._script)

    def _fill(self, script: Script) -> None:
        self._kind.turn(script.kind)
        self.set_class(script.kind == "model", "-nameless")
        self.set_class(script.kind in ("play", "plain"), "-named")
        values = {
            "you": script.you,
            "model": script.model,
            "after": written(script.after),
            "between": written(script.between),
            "stop": stop_text(script.stop),
        }
        for field, value in values.items():
            with self._inputs[field].prevent(Input.Changed):
                self._inputs[field].value = value
        self._show()

    @property
    def script(self) -> Script:
        """What stands here."""
        kind = self._kind.kind
        if kind == "model":
            return SHIPPED["model"]
        typed = {field: self._inputs[field].value for field in FIELDS}
        names = {"you": typed["you"].strip(), "model": typed["model"].strip()}
        if kind != "own":
            return msgspec.structs.replace(SHIPPED[kind], **names)
        stop = parse_stop(typed["stop"])
        return Script(kind="own", after=read(typed["after"]), between=read(typed["between"]), stop=stop, **names)

    @property
    def problem(self) -> str:
        """What is wrong with it."""
        script = self.script
        if script.kind == "model":
            return ""
        if not script.you or not script.model:
            return "both need a name"
        if script.you == script.model:
            return "they need two names: the model's turn ends at the next one"
        return "" if script.between and script.after else "something must stand there, such as \\n or :\\s"

    @on(Input.Changed)
    def _show(self) -> None:
        """Show how it reads, and what is wrong or offered."""
        script, problem = self.script, self.problem
        self._offered.set_class(bool(problem), "-wrong")
        here = self.focused.id if self.focused is not None else ""
        offered = (
            f"{by_id('script_after').shown} offers {', '.join(self._names[:4])}…" if here in ("you", "model") else ""
        )
        if here in ("after", "between", "stop"):
            offered = r"\n a new line, \s a space" + (", | between several" if here == "stop" else "")
        self._offered.update(Content(problem or offered))
        if script.kind == "model":
            self._preview.update(Content("The model brings its template with it; nobody sees what it writes."))
            return
        words = "What say you?" if script.kind == "play" else "How are you?"
        turns = [Turn(id=1, parent=None, role="user", text=words)]
        self._preview.update(Content(visible(lay(script, "", turns).text) + "▌"))

    def on_descendant_focus(self) -> None:
        """Other things are offered."""
        self._kind.refresh()
        self._show()

    def on_descendant_blur(self) -> None:
        """The template's row is not where one is."""
        self._kind.refresh()

    def on_input_submitted(self) -> None:
        """Take it."""
        self.action_take()

    def action_turn_kind(self, direction: int) -> None:
        """The next template, where one is."""
        if self._kind.has_focus:
            self.action_turn(direction)

    def action_turn(self, direction: int) -> None:
        """The next template, or the next name."""
        field = self.focused.id if self.focused is not None else ""
        if self._kind.has_focus:
            kind = self._kinds[(self._kinds.index(self._kind.kind) + direction) % len(self._kinds)]
            held = self._script if self._script.kind == kind else SHIPPED[kind]
            if kind == "own" and self._script.kind in ("play", "plain"):
                held = msgspec.structs.replace(self.script, kind="own")  # from what it was
            self._fill(held)
        elif field in ("you", "model"):
            value = self._inputs[field].value.strip()
            start = self._names.index(value) if value in self._names else (-1 if direction > 0 else 0)
            self._inputs[field].value = self._names[(start + direction) % len(self._names)]

    def action_take(self) -> None:
        """Answer with what stands here."""
        if self.problem:
            self._show()
        else:
            self.dismiss(self.script)

    def action_leave(self) -> None:
        """Answer with nothing."""
        self.dismiss(None)
