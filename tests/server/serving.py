"""The real server as a process, on a port that is free, with small models."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0

ENDED = 0 if os.name == "posix" else 1
"""The exit status of one that was asked to end; on Windows asking is ending."""


class Server:
    """`minigpt-tui serve`; what it says is in `said`."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self._log = folder / f"server-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "minigpt_tui", "serve", "--device", "cpu", *words],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PORT": "0", **environment},
                cwd=folder,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait(self) -> Server:
        """Wait until it serves."""
        until(lambda: self.process.poll() is not None or "serving " in self.said, "the server")
        found = re.search(r"serving .* at (http://\S+);", self.said)
        assert found, self.said
        self.url = found[1]
        return self

    @property
    def engine(self) -> psutil.Process:
        """The engine's process."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def ask(self, path: str, **fields) -> httpx.Response:
        """POST JSON, or GET where there is none."""
        return httpx.post(self.url + path, json=fields, timeout=PATIENCE) if fields else httpx.get(self.url + path)

    def end(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that another process brings about."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.02)


def is_fault(response: httpx.Response, status: int, **expected: str | None) -> bool:
    """Whether an answer is an error in the one shape."""
    error = response.json()["error"]
    assert response.json().keys() == {"error"}, response.text
    assert error.keys() == {"message", "type", "param", "code"}, response.text
    assert (response.status_code, {name: error[name] for name in expected}) == (status, expected), response.text
    return True
