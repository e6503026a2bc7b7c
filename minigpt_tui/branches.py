"""A tree of texts: each branch knows which one it parts from and where, and holds only what is its own. Plain data: it
knows nothing of screens, nor of disks.

Nothing is lost in it: a branch that is deleted is hidden, and what others share with it stays theirs.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from minigpt_tui.text_document import Kind
from minigpt_tui.text_part import Part
from minigpt_tui.writing import Facts, Writing


class Branch(msgspec.Struct, kw_only=True):
    """A text, or what is its own of one.

    Attributes:
        id: Its number in the tree.
        parent: The branch that it parts from; None for one that begins anew.
        position: How many tokens stand before its own.
        offset: How many characters do, marks included.
        base: Ids, four bytes each, of all that stands before its own tokens, where these are not its parent's: its
            prompt, or a text that another model read anew. None where they are.
        made: When, in seconds since 1970.
        part: What is its own.
        facts: What else is known of its text.
        hidden: Whether it was deleted; others may still part from it.
    """

    id: int
    parent: int | None
    position: int
    offset: int
    base: bytes | None
    made: float
    part: Part = Part()
    facts: Facts = Facts()
    hidden: bool = False

    @property
    def end(self) -> int:
        """How many tokens its text has."""
        return self.position + len(self.part.trace)

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        return 500 + self.part.weight + len(self.base or b"")


class Line(NamedTuple):
    """A branch in the order of the tree.

    Attributes:
        depth: How many others lead to it.
        last: Of each of these and of itself, whether it is the last that parts there.
    """

    branch: Branch
    depth: int
    last: tuple[bool, ...]


class Branches:
    """The tree.

    Attributes:
        current: The branch that is shown, or None.
    """

    def __init__(self) -> None:
        self.current: Branch | None = None
        self._branches: dict[int, Branch] = {}
        self._deleted: list[Branch] = []

    def __len__(self) -> int:
        """How many there are to see."""
        return sum(not branch.hidden for branch in self._branches.values())

    def __iter__(self) -> Iterator[Branch]:
        """All of them, the hidden ones too, each behind the one that it parts from."""
        return iter(self._branches.values())

    def __getitem__(self, id: int) -> Branch:
        return self._branches[id]

    def __contains__(self, id: int) -> bool:
        return id in self._branches

    # How branches come to be.

    def begin(self, writing: Writing) -> Branch:
        """A text that parts from no other."""
        return self._add(None, len(writing.prompt_tokens), 0, writing.prompt_tokens)

    def part_from(self, branch: Branch, position: int, offset: int) -> Branch:
        """A text that shares its first `position` tokens and `offset` characters with another."""
        return self._add(self.owner(branch, position), position, offset, None)

    def read_anew(self, branch: Branch, offset: int, tokens: tuple[int, ...]) -> Branch:
        """A text that shares its first `offset` characters with another, and none of its tokens."""
        return self._add(branch, len(tokens), offset, tokens)

    def _add(self, parent: Branch | None, position: int, offset: int, base: tuple[int, ...] | None) -> Branch:
        branch = Branch(
            id=max(self._branches, default=0) + 1,
            parent=parent.id if parent else None,
            position=position,
            offset=offset,
            base=None if base is None else array("i", base).tobytes(),
            made=time.time(),
        )
        self._branches[branch.id] = self.current = branch
        return branch

    def owner(self, branch: Branch, position: int) -> Branch:
        """Whose own the tokens just before `position` are: the branch itself, or one that leads to it."""
        while branch.base is None and branch.position >= position and branch.parent is not None:
            branch = self._branches[branch.parent]
        return branch

    def keep(self, branch: Branch, writing: Writing, *, alternatives: bool = True) -> None:
        """Let a branch hold what its text is now.

        Args:
            branch: The one whose text it is.
            writing: The text.
            alternatives: Whether to keep what could have come in the place of each token.
        """
        branch.part = writing.part(branch.position, branch.offset, alternatives=alternatives)
        branch.facts = writing.facts

    def path(self, branch: Branch) -> list[Branch]:
        """The branches that lead to one, and itself at the end."""
        path = [branch]
        while path[-1].parent is not None:
            path.append(self._branches[path[-1].parent])
        return path[::-1]

    def show(self, branch: Branch, writing: Writing) -> None:
        """Let a text be that of a branch."""
        path = self.path(branch)
        start = max(place for place, step in enumerate(path) if step.base is not None)
        parts: list[tuple[Part, int | None, int | None]] = []
        for place, step in enumerate(path):
            if step is branch:
                parts.append((step.part, None, None))
                break
            following = path[place + 1]
            tokens = following.position - step.position if place >= start else 0
            parts.append((step.part, following.offset - step.offset, tokens))
        base = memoryview(path[start].base or b"").cast("i")
        writing.load(tuple(base), parts, branch.facts)
        self.current = branch

    # The tree as it is seen.

    def lines(self) -> list[Line]:
        """All that is to be seen, each behind the one that it parts from, the oldest first."""
        children: dict[int | None, list[Branch]] = {}
        for branch in self._branches.values():
            if not branch.hidden:
                parent = self.parent(branch)
                children.setdefault(parent.id if parent else None, []).append(branch)
        for siblings in children.values():
            siblings.sort(key=_age)
        lines: list[Line] = []
        rest: list[tuple[Branch, tuple[bool, ...]]] = [(root, ()) for root in reversed(children.get(None, []))]
        while rest:
            branch, before = rest.pop()
            parent = self.parent(branch)
            last = (*before, branch is children[parent.id if parent else None][-1])
            lines.append(Line(branch, len(before), last))
            rest += [(child, last) for child in reversed(children.get(branch.id, []))]
        return lines

    def parent(self, branch: Branch) -> Branch | None:
        """The nearest branch that leads to one and can be seen."""
        id = branch.parent
        while id is not None and self._branches[id].hidden:
            id = self._branches[id].parent
        return None if id is None else self._branches[id]

    def sibling(self, branch: Branch) -> Branch | None:
        """The next one that parts from the same, round and round; one that begins anew has the others that do. None
        where there is no other.
        """
        parent = self.parent(branch)
        siblings = [other for other in self._branches.values() if not other.hidden and self.parent(other) is parent]
        siblings.sort(key=_age)
        if len(siblings) < 2:
            return None
        return siblings[(siblings.index(branch) + 1) % len(siblings)]

    def words(self, branch: Branch, count: int) -> str:
        """The first characters of its own, without marks: of a text that begins anew, its prompt's."""
        found = ""
        for text, kind in branch.part.texts:
            if kind != Kind.MARK:
                found += text[: count - len(found)]
            if len(found) >= count:
                break
        return found

    # Deleting.

    def delete(self, branch: Branch) -> None:
        """Hide a branch; those that part from it stay. Where it was shown, nothing is."""
        branch.hidden = True
        self._deleted.append(branch)
        if self.current is branch:
            self.current = None

    def near(self, branch: Branch) -> Branch | None:
        """The one to show when this one goes: the line below it, else that above."""
        lines = [line.branch for line in self.lines()]
        place = lines.index(branch)
        beside = [*lines[place + 1 : place + 2], *lines[max(0, place - 1) : place]]
        return beside[0] if beside else None

    def undo(self) -> Branch | None:
        """Bring back the branch that was deleted last; None where there is none."""
        if not self._deleted:
            return None
        branch = self._deleted.pop()
        branch.hidden = False
        return branch

    # Across sessions.

    def needed(self) -> list[Branch]:
        """All that can be seen, and what leads to it."""
        ids = {step.id for branch in self._branches.values() if not branch.hidden for step in self.path(branch)}
        return [branch for branch in self._branches.values() if branch.id in ids]

    def take_in(self, branches: Iterable[Branch]) -> dict[int, Branch]:
        """Add branches of another tree, each behind the one that it parts from.

        Returns:
            Them by the ids that they had; here they have others.
        """
        taken: dict[int, Branch] = {}
        first = max(self._branches, default=0) + 1
        for id, branch in enumerate(branches, first):
            taken[branch.id] = branch
            branch.parent = None if branch.parent is None else taken[branch.parent].id
            branch.id = id
            self._branches[id] = branch
        return taken


def _age(branch: Branch) -> tuple[float, int]:
    return branch.made, branch.id
