"""How soon the app is there: first screen beside a bare Textual app's, and ready to generate beside `import torch`.

    python benchmarks/startup.py [--rounds 7]

Each start is a new process in a pseudo-terminal, timed from its start to the first bytes that show a word of its
screen (and, for the app, to the word that says that the model is loaded). Rounds alternate; medians are printed. All is
compiled in the first round, which is dropped: a user's installation is, and so is this where Python may write nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time

BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("hello")
Bare().run()
"""
APP = [sys.executable, "-m", "minigpt_tui"]
SCREEN_WORD, READY_WORD = b"Prompt", b"ready"


def until_words(argv: list[str], words: list[bytes], seconds: float = 60.0) -> list[float]:
    """Start a program in a terminal of 120 by 36 and return when each word was first written, in seconds."""
    began = time.perf_counter()
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS="120", LINES="36")
        os.execvp(argv[0], argv)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    seen, found = b"", []
    try:
        while len(found) < len(words):
            if time.perf_counter() - began > seconds:
                raise SystemExit(f"{argv}: {words[len(found)]!r} was not seen; the screen was {seen[-2000:]!r}")
            if not select.select([fd], [], [], 0.1)[0]:
                continue
            seen += os.read(fd, 65536)
            while len(found) < len(words) and words[len(found)] in seen:
                found.append(time.perf_counter() - began)
    finally:
        os.kill(pid, signal.SIGTERM)
        deadline = time.perf_counter() + 3
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.perf_counter() > deadline:
                os.kill(pid, signal.SIGKILL)
            if select.select([fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    os.read(fd, 65536)
        os.close(fd)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as compiled:
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        measure(rounds)


def measure(rounds: int) -> None:
    """Start all of them in turn, once more than `rounds`, and print the medians."""
    bare, first, ready, torch = [], [], [], []
    for _ in range(rounds + 1):  # the first compiles, fills the disk cache, and is dropped
        bare.append(until_words([sys.executable, "-c", BARE], [b"hello"])[0])
        screen, loaded = until_words(APP, [SCREEN_WORD, READY_WORD])
        first.append(screen)
        ready.append(loaded)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        torch.append(time.perf_counter() - began)
    rows = {"bare Textual app": bare, "first screen": first, "import torch": torch, "ready": ready}
    medians = {name: statistics.median(times[1:]) for name, times in rows.items()}
    for name, seconds in medians.items():
        print(f"{name:20} {seconds * 1000:7.0f} ms")
    print(f"first screen / bare app      {medians['first screen'] / medians['bare Textual app']:.2f} x")
    print(f"ready - import torch         {(medians['ready'] - medians['import torch']) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
