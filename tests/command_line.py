"""The command line in this process, where only words and status matter."""

from __future__ import annotations

import io
import sys
from typing import NamedTuple

import pytest

from minigpt_tui.cli.failures import run
from minigpt_tui.cli.root import PROG_NAME, root


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
def cli(capsys, monkeypatch):
    """Run a command in this process: its status, stdout and stderr. `stdin` is what comes through a pipe."""

    def command(*words: object, stdin: str | None = None) -> Result:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capsys.readouterr()
        status = run(root, [str(word) for word in words], PROG_NAME)
        return Result(status, *capsys.readouterr())

    return command
