"""How a text gets into the clipboard of the terminal that one sits at: through OSC 52, also from inside tmux and screen
and over SSH; or into a file, where the terminal cannot or would cut it. Knows nothing of the app.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from engine import folders
from engine.errors import MiniGPTError
from minigpt_tui.config_file import Clipboard

_CANNOT = {"linux", "dumb", "cons25", "vt100", "vt220"}
"""What TERM says of terminals that have no clipboard."""

SCREEN_CHUNK = 252
"""GNU screen passes no longer string on, bytes."""


class CopyError(MiniGPTError):
    """The text could not be copied."""


def terminal_can(environment: Mapping[str, str]) -> bool:
    """Whether the terminal may have a clipboard; few say so, those that are known not to have one do not.

    Args:
        environment: As `os.environ`.
    """
    return environment.get("TERM", "") not in _CANNOT and environment.get("TERM_PROGRAM") != "Apple_Terminal"


def sequence_size(text: str) -> int:
    """Bytes of a text as base64."""
    return -(-len(text.encode("utf-8", "replace")) // 3) * 4


def osc52(text: str, environment: Mapping[str, str]) -> str:
    """What the terminal must be sent, wrapped so that tmux and screen pass it on.

    Args:
        text: What to copy.
        environment: As `os.environ`.
    """
    plain = f"\x1b]52;c;{base64.b64encode(text.encode('utf-8', 'replace')).decode('ascii')}\x07"
    if environment.get("TMUX"):
        # tmux takes the plain one with `set-clipboard on`, passes the wrapped one on with `allow-passthrough on`.
        wrapped = plain.replace("\x1b", "\x1b\x1b")
        return f"{plain}\x1bPtmux;{wrapped}\x1b\\"
    if environment.get("STY"):
        parts = [plain[start : start + SCREEN_CHUNK] for start in range(0, len(plain), SCREEN_CHUNK)]
        return "".join(f"\x1bP{part}\x1b\\" for part in parts)
    return plain


def copied_file() -> Path:
    """Where a text is saved that the terminal does not take."""
    return folders.state_home() / "copied.txt"


def through_terminal(text: str, way: Clipboard, limit: int, environment: Mapping[str, str]) -> bool:
    """Whether a text goes through the terminal, or into a file.

    Args:
        text: What to copy.
        way: What the user decided.
        limit: Bytes of base64 that the terminal takes.
        environment: As `os.environ`.
    """
    can = way == "osc52" or (way == "auto" and terminal_can(environment))
    return can and sequence_size(text) <= limit


def save_copy(text: str) -> Path:
    """Save a text where the one before was saved.

    Raises:
        CopyError: It cannot be written.
    """
    from engine.safe_writing import write_file  # not at the start: the first screen does not wait for it

    path = copied_file()
    try:
        folders.private(path.parent)
        write_file(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise CopyError(f"it could not be copied: {path} ({error.strerror or error})") from None
    return path


def remark(text: str, path: Path | None, limit: int) -> str:
    """What became of a text, in a few words.

    Args:
        text: What was copied.
        path: The file that it went into; None where the terminal was sent it.
        limit: Bytes of base64 that the terminal takes.
    """
    count = f"{len(text):,} characters"
    if path is None:
        return f"copied {count}"
    too_long = sequence_size(text) > limit > 0
    return f"{count}{', too many for the terminal,' if too_long else ''} saved to {path}"
