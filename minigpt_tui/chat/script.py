"""How turns are written down for a model that has no chat template of its own: a play, a dialogue, or as the reader
wants it. Pure functions of plain data; they know nothing of models, nor of screens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from minigpt_tui.chat.turns import Turn

Kind = Literal["model", "play", "plain", "own"]
"""The model's own template, or one of ours."""

KINDS: dict[Kind, str] = {
    "model": "the model's own template",
    "play": "a play: each name alone on its line",
    "plain": "a dialogue: name, colon, words",
    "own": "as you set it",
}
"""In words."""

CAST = (
    "ROMEO", "JULIET", "First Citizen", "KING RICHARD III", "QUEEN MARGARET", "PETRUCHIO", "KATHARINA", "PROSPERO",
    "MIRANDA", "MENENIUS", "Nurse", "ALL",
)  # fmt: skip
"""Names of the plays that small models learn from."""


class Script(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    r"""How turns are written down.

    Attributes:
        kind: Which template; with `model` the rest says nothing.
        you: The reader's name.
        model: The model's name.
        after: What stands between a name and the words.
        between: What stands between two turns.
        stop: What ends the model's turn beside the next name.
    """

    kind: Kind = "play"
    you: str = "JULIET"
    model: str = "ROMEO"
    after: str = ":\n"
    between: str = "\n\n"
    stop: tuple[str, ...] = ("\n\n",)

    def name_of(self, turn: Turn) -> str:
        """Under which name a turn stands."""
        return turn.name or (self.you if turn.is_own else self.model)


PLAY = Script()
PLAIN = Script(kind="plain", you="You", model="Model", after=": ", between="\n", stop=())
OF_MODEL = Script(kind="model", you="You", model="Model", after="", between="", stop=())

SHIPPED: dict[Kind, Script] = {
    "model": OF_MODEL,
    "play": PLAY,
    "plain": PLAIN,
    "own": msgspec.structs.replace(PLAIN, kind="own"),
}


class Laid(NamedTuple):
    """Turns written down.

    Attributes:
        text: All of it.
        spans: Where the words of each turn begin and end in it.
    """

    text: str
    spans: tuple[tuple[int, int], ...]


def lay(script: Script, system: str, turns: Sequence[Turn], *, answered: bool = True) -> Laid:
    """Write turns down.

    Args:
        script: How; not the model's own template.
        system: What stands before all of them.
        turns: In order.
        answered: Whether the text ends where the model's next turn begins.
    """
    parts = [system.strip() + script.between] if system.strip() else []
    length, spans = sum(map(len, parts)), []
    for place, turn in enumerate(turns):
        lead = script.name_of(turn) + script.after
        part = lead + turn.text
        if answered or place + 1 < len(turns):
            part = part.rstrip() + script.between
        spans.append((length + len(lead), length + len(lead) + len(turn.text)))
        length += len(part)
        parts.append(part)
    if answered:
        parts.append(script.model + script.after.rstrip(" "))  # a model writes its own first space
        length += len(parts[-1])
    return Laid("".join(parts), tuple((min(start, length), min(end, length)) for start, end in spans))


def names_in(script: Script, turns: Iterable[Turn]) -> list[str]:
    """All who speak."""
    return list(dict.fromkeys([script.you, script.model, *(turn.name for turn in turns if turn.name)]))


def stops(script: Script, names: Iterable[str]) -> tuple[str, ...]:
    """The stop strings that end the model's turn before the next one's name.

    Args:
        script: How turns are written down.
        names: Of all who speak.
    """
    lead = "\n" if "\n" in script.between else script.between
    mark = script.after.rstrip() or script.after
    return tuple(dict.fromkeys([*script.stop, *(f"{lead}{name}{mark}" for name in names if name and lead)]))


class TurnEnd:
    """Finds where the model's turn ends while it is written, and never lets the next name be shown.

    Stop strings end most turns before this is asked: it knows the names that no stop string can, of whoever comes in.
    """

    def __init__(self, script: Script, names: Iterable[str]) -> None:
        """Begin.

        Args:
            script: How turns are written down.
            names: Of all who speak.
        """
        mark = script.after.rstrip()
        self._alone = "\n" in script.after
        ending = mark if self._alone else mark or script.after
        self._known = tuple(name + ending for name in names if name) if script.kind != "model" else ()
        # A name in capitals that stands alone on its line, with a mark behind it, is anybody's.
        self._capitals = re.compile(r"[A-Z][A-Z .,'&-]*[A-Z.]" + re.escape(mark) if mark else r"(?!)")
        signs = "".join(f"(?:{re.escape(sign)})?" for sign in mark)
        self._beginning = re.compile(rf"[A-Z][A-Z .,'&-]*{signs}" if mark else r"(?!)")
        self._line = 0  # where the last line that was looked at begins
        self._end: int | None = None

    @property
    def found(self) -> bool:
        """Whether the turn is over."""
        return self._end is not None

    def look(self, text: str, *, whole: bool = False) -> int:
        """How many characters of the turn can be shown.

        Args:
            text: The model's new text so far; it only grows.
            whole: Whether no more comes.
        """
        while self._end is None:
            newline = text.find("\n", self._line)
            line = text[self._line :] if newline < 0 else text[self._line : newline]
            if self._is_name(line, ended=newline >= 0 or whole):
                self._end = len(text[: self._line].rstrip())
            elif newline < 0:
                break
            else:
                self._line = newline + 1
        if self._end is not None:
            return self._end
        if not self._known:
            return len(text)
        line = text[self._line :]
        if whole and not (self._line and line):
            return len(text)
        return len(text[: self._line].rstrip("\n")) if self._may_be_name(line) else len(text)

    def _is_name(self, line: str, *, ended: bool) -> bool:
        if self._alone:
            line = line.rstrip()
            return ended and (line in self._known or self._capitals.fullmatch(line) is not None)
        return line.startswith(self._known) if self._known else False

    def _may_be_name(self, line: str) -> bool:
        if any(name.startswith(line) for name in self._known):
            return True
        return self._alone and self._beginning.fullmatch(line) is not None


def written(text: str) -> str:
    r"""A text as it is typed on one line: newlines and tabs as \n and \t, and a space at its end as \s."""
    shown = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    bare = shown.strip(" ")
    if not bare:
        return "\\s" * len(shown)
    lead, tail = shown.index(bare), len(shown) - shown.index(bare) - len(bare)
    return "\\s" * lead + bare + "\\s" * tail


def read(typed: str) -> str:
    """What `written` wrote."""
    signs = {"n": "\n", "t": "\t", "s": " ", "\\": "\\"}
    return re.sub(r"\\(.)", lambda found: signs.get(found[1], found[1]), typed.strip(" "))
