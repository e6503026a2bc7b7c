"""`minigpt-tui data`: results on stdout, messages on stderr, and a text that cannot steer the terminal."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from engine.errors import DataError
from engine.text import library
from engine.text.library import Download
from minigpt_tui.cli.data import data

BODY = b"Speak, speak.\n" * 50


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    source = Download("http://nowhere.invalid/", hashlib.sha256(BODY).hexdigest(), len(BODY), "a text for tests")
    monkeypatch.setitem(library.DOWNLOADS, "plays", source)


def run(*words: str):
    return CliRunner().invoke(data, words, catch_exceptions=False)


def test_list_names_every_text_with_its_size_and_state():
    result = run("list")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert [row[0] for row in rows] == ["fables", "stdlib", "tinyshakespeare", "plays"]
    assert "to download" in result.stdout
    assert "texts that you put into" in result.stderr


def test_list_json_is_one_object_per_line():
    objects = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [item["name"] for item in objects] == ["fables", "stdlib", "tinyshakespeare", "plays"]
    assert set(objects[0]) == {"name", "path", "bytes", "state", "about"}
    assert objects[2] | {"path": "", "about": ""} == {
        "name": "tinyshakespeare", "path": "", "bytes": 1_115_394, "state": "to download", "about": "",
    }  # fmt: skip


def test_get_prints_where_the_text_is_and_show_knows_it_then(tmp_path):
    (tmp_path / "copy").write_bytes(BODY)
    result = run("get", "plays", "--from-file", str(tmp_path / "copy"))
    path = tmp_path / "home" / "data" / "texts" / "plays.txt"
    assert result.stdout == f"{path}\n"
    assert path.read_bytes() == BODY
    facts = json.loads(run("show", "plays", "--json").stdout)
    assert facts["bytes"] == len(BODY)
    assert facts["sha256"] == hashlib.sha256(BODY).hexdigest()


def test_get_leaves_nothing_of_a_wrong_copy(tmp_path):
    (tmp_path / "copy").write_bytes(BODY + b"!")
    with pytest.raises(DataError, match="not the text that it should be"):
        run("get", "plays", "--from-file", str(tmp_path / "copy"))
    assert not list((tmp_path / "home" / "data" / "texts").iterdir())


def test_show_tells_the_facts_and_the_beginning(tmp_path):
    (tmp_path / "a.txt").write_text("abab \n" * 100)
    result = run("show", str(tmp_path / "a.txt"))
    assert "600 bytes, 1 file, 1 document" in result.stdout
    assert "100 lines, 600 characters, 4 of them distinct" in result.stdout
    assert "540 characters to train, 60 to validate" in result.stdout
    assert "a 33.3%  b 33.3%  space 16.7%  newline 16.7%" in result.stdout
    assert result.stdout.endswith("\n\n" + ("abab \n" * 100)[:400] + "\n")
    assert result.stderr == ""


def test_a_text_cannot_steer_the_terminal(tmp_path):
    text = "\x1b]0;title\x07\x1b[31mred [bold]markup[/bold] \x9b2J\u202e" + "plain " * 100
    (tmp_path / "evil.txt").write_text(text)
    for words in (["show"], ["show", "--json"]):
        out = run(*words, str(tmp_path / "evil.txt")).stdout
        assert not any(character in out for character in "\x1b\x07\x9b\u202e")
        assert "[bold]markup[/bold]" in out
    assert json.loads(out)["beginning"] == text[:400]


def test_show_reads_the_column_that_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("text,other\nxx,yyy\n")
    assert json.loads(run("show", str(tmp_path / "a.csv"), "--column", "other", "--json").stdout)["characters"] == 3


@pytest.mark.parametrize("words", [("show", "fabels"), ("get", "plaiys"), ("show", "no/such.txt")])
def test_what_is_not_there_is_one_clear_error(words):
    with pytest.raises(DataError) as caught:
        run(*words)
    assert caught.value.hint


def test_help_does_not_wait_for_the_engine():
    code = (
        "import sys; from minigpt_tui.cli.data import data\n"
        "try: data(['show', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'tokenizers', 'torch', 'rich'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
