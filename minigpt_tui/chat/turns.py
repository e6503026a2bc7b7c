"""A conversation as a tree of turns: whoever says something else at some place begins another branch there, and what
stood there is kept. Plain data: it knows nothing of models, templates or screens.
"""

from __future__ import annotations

import itertools
import secrets
import time
from typing import Literal

import msgspec

Role = Literal["user", "assistant"]
"""Who speaks, as chat templates call them: the reader and the model."""

CUT = ("length", "cancelled", "lost", "")
"""Finish reasons of an answer that can be continued."""

TITLE_CHARACTERS = 60


class Turn(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one of the two said.

    Attributes:
        id: Its number in the conversation.
        parent: The turn that it follows; None for a first one.
        child: The turn behind it that was shown last; None where there is none.
        role: Who said it.
        name: Under which name it was said; empty where the template has none.
        text: The words.
        made: When, in seconds since 1970.
        model: Who wrote an answer; what follows is of answers alone.
        seed: What it was drawn with.
        finish_reason: length, stop, cancelled or lost; empty while it is written.
        left_out: Characters of what it answers that the model has never seen.
        prompt_tokens: Tokens that the model read before it.
        new_tokens: Tokens that it wrote.
    """

    id: int
    parent: int | None
    child: int | None = None
    role: Role
    name: str = ""
    text: str = ""
    made: float = 0.0
    model: str = ""
    seed: int | None = None
    finish_reason: str = ""
    left_out: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0

    @property
    def is_own(self) -> bool:
        """Whether the reader said it."""
        return self.role == "user"


class Chat(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A conversation.

    Attributes:
        version: Of this struct.
        id: Its name among others, which is its file's.
        changed: When something was last said, in seconds since 1970.
        system: What the model is told before all turns; empty for nothing.
        turns: All of them, each behind the one that it follows.
        leaf: The last turn of the branch that is shown; None where nothing is said.
    """

    version: int = 1
    id: str
    changed: float = 0.0
    system: str = ""
    turns: list[Turn] = []
    leaf: int | None = None

    def __contains__(self, id: int) -> bool:
        return self._find(id) is not None

    def __getitem__(self, id: int) -> Turn:
        found = self._find(id)
        if found is None:
            raise KeyError(id)
        return found

    def _find(self, id: int | None) -> Turn | None:
        return next((turn for turn in reversed(self.turns) if turn.id == id), None)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not self.turns and not self.system

    @property
    def title(self) -> str:
        """The first words."""
        said = next((turn.text for turn in self.turns if turn.text.strip()), self.system)
        return " ".join(said[: 4 * TITLE_CHARACTERS].split())[:TITLE_CHARACTERS]

    def path(self, leaf: int | None = None) -> list[Turn]:
        """The turns that lead to one, and itself at the end; without one, the branch that is shown."""
        known = {turn.id: turn for turn in self.turns}
        path, at = [], self.leaf if leaf is None else leaf
        while at is not None:
            path.append(known[at])
            at = known[at].parent
        return path[::-1]

    def add(self, parent: int | None, role: Role, name: str, text: str = "") -> Turn:
        """Say something behind a turn; it is what is shown from now on.

        Args:
            parent: The turn that it follows; None for the beginning.
            role: Who says it.
            name: Under which name.
            text: The words.
        """
        number = 1 + max((turn.id for turn in self.turns), default=0)
        turn = Turn(id=number, parent=parent, role=role, name=name, text=text, made=time.time())
        self.turns.append(turn)
        self.touch()
        self._lead_to(number)
        return turn

    def drop(self, turn: Turn) -> None:
        """Take back a turn that nothing follows."""
        self.turns.remove(turn)
        if (before := self._find(turn.parent)) is not None and before.child == turn.id:
            before.child = next((each.id for each in reversed(self.turns) if each.parent == before.id), None)
        if self.leaf == turn.id:
            self.leaf = turn.parent

    def touch(self) -> None:
        """Something was said now."""
        self.changed = time.time()

    # Branches.

    def versions(self, turn: Turn) -> list[Turn]:
        """What was said in the place of a turn, itself among it, the oldest first."""
        return [each for each in self.turns if each.parent == turn.parent]

    def show(self, turn: Turn) -> None:
        """Show the branch of a turn, as far as it was shown last."""
        while turn.child is not None:
            turn = self[turn.child]
        self._lead_to(turn.id)

    def _lead_to(self, leaf: int) -> None:
        self.leaf = leaf
        path = self.path()
        for before, turn in itertools.pairwise(path):
            before.child = turn.id

    def check(self) -> None:
        """Whether it is a tree.

        Raises:
            ValueError: It is not.
        """
        known: set[int] = set()
        parents: dict[int, int | None] = {}
        for turn in self.turns:
            if turn.id in known or (turn.parent is not None and turn.parent not in known):
                raise ValueError("a turn is not where it belongs")
            known.add(turn.id)
            parents[turn.id] = turn.parent
        if any(turn.child is not None and parents.get(turn.child, -1) != turn.id for turn in self.turns):
            raise ValueError("a turn leads to one that does not follow it")
        if self.leaf is not None and self.leaf not in known:
            raise ValueError("the turn that was shown last is not there")


def new_chat() -> Chat:
    """A conversation in which nothing was said yet."""
    return Chat(id=f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}", changed=time.time())
