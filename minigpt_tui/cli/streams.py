"""What a command writes and where: results to stdout, messages to stderr, and nothing that could steer a terminal.
Knows nothing of the engine.
"""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from engine.errors import DataError, InvalidSettingError
from minigpt_tui.visible import UNSAFE, visible, visible_line


def say(message: str, *, end: str = "\n") -> None:
    """Write one line to stderr: a message, never a result. Where nobody can read it any more, it is dropped."""
    try:
        print(visible_line(message), end=end, file=sys.stderr, flush=True)
    except OSError:  # a reader that has gone away is no reason to end what the command does
        _lead_nowhere(sys.stderr)


def write_text(text: str) -> None:
    """Write model text to stdout at once: to the letter into a pipe or file, with controls visible on a terminal."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_line(line: str = "") -> None:
    """Write one line of a readable result to stdout, with control characters visible."""
    print(visible(line), flush=True)


def write_json(value: Any) -> None:
    """Write one JSON object as one line to stdout.

    Numbers that JSON has no way to write become null; characters that could steer a terminal are written as JSON's
    escapes, so that the line is safe to look at and still decodes to the exact text.
    """
    import json  # the app writes none, and its first screen does not wait for it

    line = json.dumps(_finite(value), ensure_ascii=not _is_unicode(sys.stdout), allow_nan=False)
    print(UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line), flush=True)


def _is_unicode(stream: TextIO) -> bool:
    """Whether a stream can hold every character; Windows gives a pipe the code page of the country."""
    return (stream.encoding or "").lower().startswith("utf")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def read_prompt() -> str:
    """All of stdin as text, to the letter.

    Raises:
        DataError: It is not UTF-8.
    """
    raw = sys.stdin.buffer.read()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"stdin is not UTF-8 at byte {error.start}", "give a plain text in UTF-8") from None


def check_text(text: str, name: str) -> str:
    """Return an argument that is valid text.

    Raises:
        InvalidSettingError: The shell passed bytes that are not UTF-8.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidSettingError(f"{name} is not UTF-8", "give a plain text in UTF-8")
    return text


def prepare_streams() -> None:
    """Stand in for streams that the shell closed, and escape what an encoding lacks instead of ending the command."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_quietly() -> None:
    """Let what is still buffered for a reader that has gone away go nowhere, without a message at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _lead_nowhere(stream)


def _lead_nowhere(stream: TextIO) -> None:
    """Let what is buffered in a stream, and what is written to it from now on, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
