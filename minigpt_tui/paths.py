"""Every folder and file that minigpt-tui reads or writes, and what it holds. The places themselves are decided in
`engine.folders` and beside the code that writes them; knows nothing of torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from engine import folders
from minigpt_tui.chat.kept import chats_folder, desk_file
from minigpt_tui.clipboard import copied_file
from minigpt_tui.config_file import config_path
from minigpt_tui.settings import session_file
from minigpt_tui.user_themes import themes_folder


class Place(NamedTuple):
    """A folder or file.

    Attributes:
        name: What it is called on the command line.
        holds: What is in it, in a few words.
        ours: Whether minigpt-tui writes there; what ships with it is only read.
        folder: Whether it is a folder, or a file.
    """

    name: str
    path: Path
    holds: str
    ours: bool = True
    folder: bool = True


def places() -> tuple[Place, ...]:
    """Every place, whether it is there yet or not."""
    return (
        Place("models", folders.user_checkpoints(), "models of your own: a folder put there goes by its name"),
        Place("runs", folders.runs_folder(), "training runs, one folder each, with their checkpoints"),
        Place("texts", folders.user_texts(), "texts that you downloaded or put there, by name"),
        Place("mlflow", folders.mlflow_folder(), "what MLflow keeps of the runs that it tracks"),
        Place("history", history_file(), "all that you let be kept of what was generated", folder=False),
        Place("presets", folders.config_home() / "presets.toml", "sampler settings that you named", folder=False),
        Place("prompts", folders.config_home() / "prompts.toml", "prompts that you named", folder=False),
        Place("config", config_path(), "what you have decided: settings and keys", folder=False),
        Place("themes", themes_folder(), "themes of your own, NAME.toml each"),
        Place("session", session_file(), "the last session's settings and prompts", folder=False),
        Place("branches", branches_file(), "the last session's texts and what parts from them", folder=False),
        Place("chats", chats_folder(), "conversations, a file each"),
        Place("chat", desk_file(), "which conversation was open, and how its turns are written", folder=False),
        Place("copied", copied_file(), "the last text that the terminal could not take", folder=False),
        Place("log", worker_log(), "what the engine's process printed", folder=False),
        Place("cache", folders.cache_home(), "the built C library, and what else can be made again"),
        Place("bundled models", folders.bundled_checkpoints(), "models that ship with minigpt-tui", ours=False),
        Place("bundled texts", folders.bundled_texts(), "texts that ship with minigpt-tui", ours=False),
    )


def homes() -> tuple[Path, ...]:
    """The folders that all of the user's own places lie in."""
    kinds = (folders.data_home(), folders.config_home(), folders.state_home(), folders.cache_home())
    return tuple(dict.fromkeys(kinds))  # a system may have one for several


def branches_file() -> Path:
    """The last session's texts, kept by `minigpt_tui.kept_branches`."""
    return folders.state_home() / "branches.msgpack"


def history_file() -> Path:
    """What was generated, kept by `minigpt_tui.history`."""
    return folders.data_home() / "history.db"


def worker_log() -> Path:
    """What the engine's process prints."""
    return folders.state_home() / "worker.log"
