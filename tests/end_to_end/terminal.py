"""A program in a real terminal: keys go in as bytes, and what it writes is read off a screen of characters."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

ROWS, COLUMNS = 40, 140
KEYS = {
    "enter": "\r", "escape": "\x1b", "tab": "\t", "backtab": "\x1b[Z", "space": " ", "backspace": "\x7f",
    "up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D", "home": "\x1b[H", "end": "\x1b[F",
    "f1": "\x1bOP", "f2": "\x1bOQ", "f3": "\x1bOR", "f4": "\x1bOS", "f5": "\x1b[15~", "f6": "\x1b[17~",
    "f7": "\x1b[18~", "f8": "\x1b[19~", "f9": "\x1b[20~",
    **{f"ctrl+{letter}": chr(ord(letter) & 0x1F) for letter in "abcdefghijklmnopqrstuvwxyz"},
}  # fmt: skip


class Terminal:
    """A program that runs in a pseudo-terminal. Entering it starts the program, leaving it ends it.

    Args:
        command: The program and its arguments.
        environment: Set over that of the tests.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._command, self._environment = list(command), dict(environment or {})
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._ended: int | None = None

    def __enter__(self) -> Terminal:
        import fcntl
        import pty
        import termios

        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
            os.execvpe(self._command[0], self._command, {**kept, "TERM": "xterm-256color", **self._environment})
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._ended is None:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        os.close(self._fd)

    def text(self) -> str:
        """What stands on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def hang_up(self) -> None:
        """Let the terminal go, and the program live."""
        os.close(self._fd)
        self._fd = os.open(os.devnull, os.O_RDWR)

    def press(self, *keys: str) -> None:
        """Press keys by their names, one after the other; a letter is its own name."""
        for key in keys:
            before = self.text()
            os.write(self._fd, KEYS.get(key, key).encode())
            self.read(0.03)
            if key == "escape":  # with a letter that follows before it is taken, it is another key
                end = time.monotonic() + 3
                while self.text() == before and time.monotonic() < end:
                    self.read(0.1)

    def type(self, text: str) -> None:
        """Type a text."""
        self.press(*text)

    def read(self, seconds: float) -> None:
        """Take in what is written in so many seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                return
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the other end has closed
                data = b""
            if not data:
                time.sleep(0.05)
                return
            self._stream.feed(self._decode(data))

    def until(self, wanted: str | Callable[[str], bool], seconds: float = 30.0) -> str:
        """Wait until a text is on the screen, or something holds of it.

        Returns:
            The screen.
        """
        end = time.monotonic() + seconds
        while True:
            shown = self.text()
            if wanted in shown if isinstance(wanted, str) else wanted(shown):
                return shown
            if time.monotonic() > end:
                print(shown, file=sys.stderr)
                raise AssertionError(f"{seconds:.0f} s passed, and this was not seen: {wanted}")
            self.read(0.1)

    def ends(self, seconds: float = 15.0) -> int:
        """Wait until the program has ended.

        Returns:
            Its exit status.
        """
        end = time.monotonic() + seconds
        while self._ended is None:
            assert time.monotonic() < end, "it does not end"
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended = os.waitstatus_to_exitcode(status)
            else:
                self.read(0.1)  # else it may wait for somebody to read what it writes
        return self._ended
