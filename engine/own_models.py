"""Keeping order among one's own models: which may be renamed and removed, and doing it whole or not at all. What ships,
and what is kept elsewhere, is left alone with the reason. Knows nothing of torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from engine import catalog, folders, safe_writing
from engine.errors import CheckpointError
from engine.file_names import RESERVED_HINT, is_reserved, is_same_entry

NAME_BYTES = 200
"""The longest name of a model; file systems count bytes, and take 255 of them."""


def check_own(path: Path) -> None:
    """Raise CheckpointError, with the reason, unless a model may be renamed and removed."""
    path = path.absolute()
    if path.parent == folders.bundled_checkpoints().absolute():
        raise CheckpointError(
            f"{path.name} ships with minigpt-tui", "it stays; only your own models can be renamed or removed"
        )
    if path.parent != folders.user_checkpoints().absolute():
        raise CheckpointError(
            f"{path.name} is not in your folder of models", f"delete {path} yourself if you no longer want it"
        )


def check_model_name(name: str) -> None:
    """Raise CheckpointError unless a model can go by this name; whether it is taken is not asked."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise CheckpointError(f"{name!r} cannot name a model", "use letters, digits, '-', '_' and '.'")
    if is_reserved(name):
        raise CheckpointError(f"{name!r} cannot name a model", RESERVED_HINT)
    if len(name.encode()) > NAME_BYTES:
        raise CheckpointError(f"the name {name[:20]}… is too long", f"use at most {NAME_BYTES} bytes of UTF-8")


def rename_model(path: Path, name: str) -> Path:
    """Give one of the user's own models another name.

    Raises:
        CheckpointError: It is not the user's own, or the name is taken or none, or it cannot be renamed.
    """
    check_own(path)
    check_model_name(name)
    target = path.with_name(name)
    if (target.exists() or target.is_symlink()) and not is_same_entry(target, path):
        raise CheckpointError(f"there is a model {name} already", "choose another name")
    try:
        safe_writing.patiently(lambda: path.rename(target))
        safe_writing.sync(target.parent)
    except OSError as error:
        hint = safe_writing.what_to_do(error)
        raise CheckpointError(f"{path} cannot be renamed ({error.strerror})", hint) from None
    return target


def remove_model(path: Path) -> None:
    """Delete one of the user's own models for good; of a link, the link alone.

    Raises:
        CheckpointError: It is not the user's own, or cannot be deleted.
    """
    check_own(path)
    _remove(path)


def remove_milestone(path: Path) -> None:
    """Delete one checkpoint of a run, which is neither its best nor its last.

    Raises:
        CheckpointError: It is one of these, or cannot be deleted.
    """
    run = path.parent.parent
    for which in ("best", "last"):
        if catalog.run_checkpoint(run, which) == path:
            raise CheckpointError(f"{path.name} is the {which} of {run.name}", "it goes with its run alone")
    _remove(path)


def _remove(path: Path) -> None:
    try:
        if path.is_symlink():
            path.unlink()
        else:
            safe_writing.remove_directory(path)
    except OSError as error:
        hint = safe_writing.what_to_do(error)
        raise CheckpointError(f"{path} cannot be removed ({error.strerror})", hint) from None
