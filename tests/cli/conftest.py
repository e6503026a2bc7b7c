"""Ways to use the command line: in this process, where only words and status matter, and as a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result

from engine.training import launch
from engine.training.orders import Orders
from engine.training.run import RunDirectory
from engine.training.status_writer import StatusWriter

COMMAND = (sys.executable, "-m", "minigpt_tui")


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A home for one test alone."""
    folder = tmp_path / "own home"
    monkeypatch.setenv("MINIGPT_HOME", str(folder))
    return folder


@pytest.fixture
def trained_here(monkeypatch):
    """Runs are driven by a thread of this process: for tests of what comes after, and there are many."""

    class Driver:
        def __init__(self, path: Path, lock: int) -> None:
            self._run, self._lock = RunDirectory(path), os.dup(lock)
            self._thread = threading.Thread(target=self._drive)
            self._thread.start()

        def _drive(self) -> None:
            from engine.training.driving import drive

            try:
                with StatusWriter(self._run, self._run.read_status()) as writer:
                    drive(self._run, Orders(self._run.path), writer)
            finally:
                os.close(self._lock)

        def wait(self) -> None:
            self._thread.join()

    monkeypatch.setattr(launch, "_popen", Driver)


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
