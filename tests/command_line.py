"""The command line in this process, where only words and status matter."""

from __future__ import annotations

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
def cli(capsys):
    """Run a command in this process: its status, stdout and stderr."""

    def command(*words: object) -> Result:
        capsys.readouterr()
        status = run(root, [str(word) for word in words], PROG_NAME)
        return Result(status, *capsys.readouterr())

    return command
