"""The tree of texts on disk, so that the next session begins where this one ended: written whole or not at all, by one
thread at a time; a file that is damaged or of a newer version is set aside. Knows nothing of screens.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine import folders
from engine.errors import MiniGPTError
from minigpt_tui.branches import Branch, Branches
from minigpt_tui.paths import branches_file
from minigpt_tui.text_document import Kind

VERSION = 1

KEPT_BYTES = 8 * 1024 * 1024
"""Texts are kept up to about this size, the newest first, and always the one that is shown; all are in the history."""

READ_BYTES = 512 * 1024 * 1024
"""A longer file is not read."""


class Kept(msgspec.Struct, kw_only=True):
    """What the next session begins with.

    Attributes:
        version: Of this struct.
        branches: Each behind the one that it parts from.
        shown: The branch that was shown.
        top: The offset of the first character in view; None where the end is followed.
        draft: What stood in the prompt's editor.
    """

    version: int = VERSION
    branches: list[Branch] = []
    shown: int | None = None
    top: int | None = None
    draft: str = ""


class _Head(msgspec.Struct):
    version: int


def kept_of(tree: Branches, top: int | None, draft: str) -> Kept:
    """What to keep of a tree as it is now; it changes no more when the tree does.

    Args:
        tree: The tree; its current branch is the one that is shown.
        top: The offset of the first character in view; None where the end is followed.
        draft: What stands in the prompt's editor.
    """
    return Kept(
        branches=[msgspec.structs.replace(branch) for branch in _fitting(tree)],
        shown=tree.current.id if tree.current else None,
        top=top,
        draft=draft.encode("utf-8", "replace").decode(),  # half characters cannot be kept
    )


def _fitting(tree: Branches) -> list[Branch]:
    """The newest branches that fit, with what leads to them, and the one that is shown."""
    wanted: dict[int, Branch] = {}
    room = KEPT_BYTES
    newest = sorted(tree.needed(), key=lambda branch: (branch is not tree.current, -branch.made, -branch.id))
    for branch in newest:
        missing = {step.id: step for step in tree.path(branch) if step.id not in wanted}
        weight = sum(step.weight for step in missing.values())
        if branch is tree.current or weight <= room:
            wanted |= missing
            room -= weight
    return [branch for branch in tree if branch.id in wanted]


class BranchFile:
    """Writes the tree; threads may do so at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._written = 0

    def number(self) -> int:
        """The place of what is kept now in the order of all that is."""
        return next(self._numbers)

    def write(self, kept: Kept, number: int) -> None:
        """Put it on the disk, unless something newer is there. Where the disk does not let it, the last one stays.

        Args:
            kept: What to keep.
            number: Its number.
        """
        with self._lock, contextlib.suppress(OSError):
            if number <= self._written:
                return
            from engine.safe_writing import write_file  # not at the start: the first screen does not wait for it

            for branch in kept.branches:
                branch.part = branch.part.without_alternatives()
            path = branches_file()
            folders.private(path.parent)
            write_file(path, msgspec.msgpack.encode(kept))
            self._written = number


def load_kept() -> tuple[Kept, str]:
    """What the last session left and, where its file is set aside, a sentence that says so."""
    path = branches_file()
    try:
        if path.stat().st_size > READ_BYTES:
            raise ValueError("it is too long")
        data = path.read_bytes()
        version = msgspec.msgpack.decode(data, type=_Head).version
        if version > VERSION:
            aside = _set_aside(path, "newer")
            return Kept(), f"The texts of the last session are of a newer version; their file is kept as {aside}."
        kept = msgspec.msgpack.decode(data, type=Kept)
        _check(kept)
    except FileNotFoundError:
        return Kept(), ""
    except (OSError, ValueError, MiniGPTError, RecursionError) as error:
        aside = _set_aside(path, "damaged")
        return Kept(), f"The texts of the last session could not be read ({error}); their file is kept as {aside}."
    for branch in kept.branches:
        if not branch.facts.finish_reason:  # the program ended before the text did
            branch.facts = msgspec.structs.replace(branch.facts, finish_reason="lost")
    return kept, ""


def _set_aside(path: Path, why: str) -> Path:
    aside = path.with_suffix(f".{why}")
    with contextlib.suppress(OSError):
        path.replace(aside)
    return aside


def _check(kept: Kept) -> None:
    """Whether a tree can be made of it.

    Raises:
        ValueError: It cannot.
    """
    known: dict[int, Branch] = {}
    for branch in kept.branches:
        parent = None if branch.parent is None else known.get(branch.parent)
        if branch.id in known or (branch.parent is not None and parent is None):
            raise ValueError("a branch is not where it belongs")
        _check_own(branch)
        if parent is None:
            well = branch.base is not None and branch.offset == 0
        else:
            well = parent.offset <= branch.offset <= parent.offset + parent.part.length
            if branch.base is None:
                well = well and parent.position <= branch.position <= parent.end
        if branch.base is not None:
            well = well and branch.position * 4 == len(branch.base)
        if not well:
            raise ValueError("a branch parts from nowhere")
        known[branch.id] = branch
    if kept.shown is not None and kept.shown not in known:
        raise ValueError("the branch that was shown is not there")


def _check_own(branch: Branch) -> None:
    part, facts = branch.part, branch.facts
    trace = part.trace
    columns = (trace.logprobs, trace.ranks, trace.entropies, trace.ends, trace.own_ends)
    if len(trace.ids) % 4 or {len(trace.ids)} != {*map(len, columns)} or trace.top_ids:
        raise ValueError("tokens are missing")
    ends, own_ends = array("i", trace.ends).tolist(), array("i", trace.own_ends).tolist()
    rising = [*itertools.pairwise((0, *ends, part.length)), *itertools.pairwise((0, *own_ends))]
    if any(before > after for before, after in rising):
        raise ValueError("a token ends where it cannot")
    if not trace.pieces.keys() >= set(array("i", trace.ids)):
        raise ValueError("a token has no text")
    kinds: Sequence[int] = [kind for _, kind in part.texts]
    if not {*kinds} <= {*map(int, Kind)}:
        raise ValueError("a stretch of text is of no kind")
    if not 0 <= facts.text_start <= branch.offset + part.length or min(facts.run_start, facts.run_position) < 0:
        raise ValueError("a text begins where it cannot")
