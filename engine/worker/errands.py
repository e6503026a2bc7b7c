"""Questions whose answers take long, each asked in a process of its own: no text waits for its answer, and one that
nobody asks any more takes nothing. Such a process ends with the worker. Knows nothing of what is asked.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import Any, TypeVar

import msgspec

from engine import process_families, processes
from engine.errors import WorkerError

A = TypeVar("A")


class GivenUpError(WorkerError):
    """Nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__("the question was given up")


class Errand:
    """One question, from its arrival to its answer."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up = False
        self._changing = threading.Lock()

    def ask(self, module: str, request: Any, answer: type[A]) -> A:
        """Have a module read a request from stdin and answer with a line; waits for it.

        Args:
            module: Such as `engine.training.measure`.
            request: What it reads, as JSON.
            answer: The kind of its answer.

        Raises:
            GivenUpError: It was given up.
            WorkerError: It cannot be started, or ended without an answer.
        """
        with self._changing:
            if self._given_up:
                raise GivenUpError
            try:
                process = self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=processes.environment() | {processes.LIFELINE: "1"},
                    **process_families.apart(),
                )
            except OSError as error:
                raise WorkerError(f"{module} cannot be started ({error})") from None
        out = self._talk(process, msgspec.json.encode(request))
        if self._given_up:
            raise GivenUpError
        lines = out.splitlines()
        try:
            return msgspec.json.decode(lines[-1] if lines else b"", type=answer)
        except ValueError:
            raise WorkerError(f"{module} ended with status {process.returncode}", "its log has more") from None

    def _talk(self, process: subprocess.Popen[bytes], request: bytes) -> bytes:
        """All that a process says to a request, once it has ended."""
        out = b""
        with contextlib.suppress(BrokenPipeError), process:
            if process.stdin is not None and process.stdout is not None:
                process.stdin.write(request + b"\n")  # and stdin stays open as long as the worker is there
                process.stdin.flush()
                out = process.stdout.read()
        return out

    def give_up(self) -> None:
        """End its process, and let `ask` end with GivenUpError."""
        with self._changing:
            self._given_up = True
            process = self._process
            if process is None or process.poll() is not None:
                return
            process_families.kill(process.pid)
