"""What is written and read where a console or a pipe has a code page of its country instead of UTF-8, as on Windows."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from engine.errors import DataError
from minigpt_tui.cli import interactive
from minigpt_tui.cli.streams import read_prompt

TEXT = "é “x” → 😀 \x1b[31m"  # of these cp1252 has neither the arrow nor the face
WRITES = f"""
from minigpt_tui.cli import streams
streams.prepare_streams()
streams.write_text({TEXT!r} + "\\n")
streams.write_json({{"text": {TEXT!r}}})
streams.write_line({TEXT!r})
streams.say({TEXT!r})
"""


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-8"])
def test_no_character_ends_a_command_and_json_says_all_of_them(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    done = subprocess.run([sys.executable, "-S", "-c", _with_paths(WRITES)], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    written, as_json, line = done.stdout.decode(encoding).splitlines()
    assert json.loads(as_json) == {"text": TEXT}
    if encoding == "utf-8":
        assert written == TEXT
        assert "→ 😀" in as_json
    else:
        assert "\\u2192 \\U0001f600" in written
    assert line == done.stderr.decode(encoding).strip()
    assert line.endswith("[31m")


def _with_paths(code: str) -> str:
    """With the folders of this process, where the other one looks at none of its own."""
    return f"import sys; sys.path[:] = {sys.path!r}\n{code}"


def test_a_prompt_of_another_encoding_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é\n".encode("cp1252")), encoding="utf-8"))
    with pytest.raises(DataError, match="stdin is not UTF-8 at byte 0"):
        read_prompt()


def test_a_line_of_another_encoding_is_refused_in_words_and_does_not_end_the_sitting(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"))
    with pytest.raises(DataError, match="stdin is not utf-8 at byte 3"):
        interactive._next_line()
    assert interactive._next_line() is None


def test_lines_are_read_where_python_has_no_readline(monkeypatch):
    monkeypatch.setitem(sys.modules, "readline", None)
    interactive._remember_lines()
    monkeypatch.setattr(sys, "stdin", io.StringIO("The fox\n"))
    assert interactive._next_line() == "The fox"
