"""Ways to use the command line: in this process, where only words and status matter, and as a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from minigpt_tui.cli.failures import run
from minigpt_tui.cli.root import PROG_NAME, root

COMMAND = (sys.executable, "-m", "minigpt_tui")


class Result(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def is_one_error_line(self) -> bool:
        """Whether stderr ends with the one line that an error is, and shows no traceback."""
        *before, last = self.err.splitlines() or [""]
        is_last = last.startswith("error: ") and not any(line.startswith("error: ") for line in before)
        return is_last and "Traceback" not in self.err


@pytest.fixture
def cli(capsys):
    """Run a command in this process: its status, stdout and stderr."""

    def command(*words: object) -> Result:
        capsys.readouterr()
        status = run(root, [str(word) for word in words], PROG_NAME)
        return Result(status, *capsys.readouterr())

    return command


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A home for one test alone."""
    folder = tmp_path / "own home"
    monkeypatch.setenv("MINIGPT_HOME", str(folder))
    return folder


@pytest.fixture
def shell():
    """Run a command as a process of its own.

    A signal comes once it has written `interrupt_after` to stdout, or once `interrupt_when()` is true.
    """
    started = []

    def command(
        *words: object,
        stdin: str | bytes = "",
        interrupt_after: str | None = None,
        interrupt_when: Callable[[], bool] | None = None,
        signal_number: int = signal.SIGINT,
        env: dict[str, str] | None = None,
    ) -> Result:
        process = subprocess.Popen(
            [*COMMAND, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        started.append(process)
        seen = b""
        if interrupt_after is not None:
            while interrupt_after.encode() not in seen:
                byte = process.stdout.read1(1)
                assert byte, process.stderr.read().decode()
                seen += byte
            process.send_signal(signal_number)
        if interrupt_when is not None:
            while not interrupt_when():
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.02)
            process.send_signal(signal_number)
        out, err = process.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout=100)
        return Result(process.returncode, (seen + out).decode(), err.decode())

    yield command
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
