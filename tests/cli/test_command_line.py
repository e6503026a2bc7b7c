"""The command line as a whole: quick help, one line for every error, the right status, quiet pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest

from engine.errors import DataError, InvalidSettingError
from minigpt_tui.cli import failures
from minigpt_tui.cli.options import debug_option
from minigpt_tui.cli.root import COMMANDS, PROG_NAME, root
from minigpt_tui.cli.streams import say


@pytest.mark.parametrize("word", ["--help", "--version", "paths", "generate --help", "train --help", "models --help"])
def test_answers_at_once_without_torch_or_textual(word):
    script = (
        "import sys\nfrom minigpt_tui.cli.failures import run\nfrom minigpt_tui.cli.root import root\n"
        f"status = run(root, {word.split()!r}, 'minigpt-tui')\n"
        "print(status, sorted({'torch', 'textual', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "0 []"


def test_version_is_one_line(cli):
    assert cli("--version") == (0, "minigpt-tui 0.1.0\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_list_is_there_and_says_what_it_does(name, cli):
    result = cli(name, "--help")
    assert result.status == 0
    assert f"Usage: minigpt-tui {name}" in result.out
    assert "--debug" in result.out or isinstance(root.get_command(click.Context(root), name), click.Group)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nonsense"], "no such command 'nonsense'"),
        (["generate", "--top-x", "3"], "no such option"),
        (["generate", "--device", "abacus"], "'abacus' is not one of"),
        (["generate", "-n", "many"], "'many' is not a valid integer"),
        (["train"], "missing argument"),
        (["models"], "missing command"),
        (["generate", "--logprobs", "2"], "add --json"),
    ],
)
def test_wrong_usage_is_one_line_with_where_to_look(words, part, cli):
    result = cli(*words)
    assert result.status == 2
    assert result.is_one_error_line
    assert len(result.err.splitlines()) == 1
    assert part in result.err.lower()
    assert "--help" in result.err
    assert result.out == ""


class _Failing(click.Command):
    def __init__(self, error: BaseException) -> None:
        super().__init__("failing", params=[debug_option])
        self.error = error

    def invoke(self, ctx):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("the text is empty", "give a longer one"), 1, "error: the text is empty: give a longer one\n"),
        (InvalidSettingError("top_p is 2", "at most 1"), 2, "error: top_p is 2: at most 1\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (FileNotFoundError(2, "No such file or directory", "x.txt"), 1, "error: x.txt: no such file or directory\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "error: no space left on device: make room on the disk and run it again\n",
        ),
        (MemoryError(), 1, "error: out of memory: choose a smaller model, block_size or batch_size, or --device cpu\n"),
    ],
)
def test_every_failure_has_its_status_and_line(error, status, line, capsys):
    assert failures.run(_Failing(error), [], "minigpt-tui") == status
    assert capsys.readouterr().err == line


def test_an_unexpected_error_is_one_line_and_debug_shows_where(capsys):
    assert failures.run(_Failing(ZeroDivisionError("by\nzero")), [], "minigpt-tui") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ZeroDivisionError: by zero: ")
    assert "--debug" in err
    assert "report" in err
    assert len(err.splitlines()) == 1
    assert failures.run(_Failing(ZeroDivisionError("zero")), ["--debug"], "minigpt-tui") == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_error_cannot_steer_the_terminal(capsys):
    failures.run(_Failing(DataError("\x1b]0;title\x07.txt is empty\nerror: not so")), [], "minigpt-tui")
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert len(err.splitlines()) == 1


def test_debug_holds_before_and_after_the_command(cli):
    for words in (["--debug", "models", "show", "nowhere"], ["models", "show", "nowhere", "--debug"]):
        result = cli(*words)
        assert result.status == 1
        assert "Traceback" in result.err


def test_closed_streams_are_no_error():
    done = subprocess.run(f"exec {sys.executable} -m minigpt_tui paths <&- >&- 2>&-", shell=True, check=False)
    assert done.returncode == 0


def test_what_the_locale_cannot_write_is_escaped():
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    script = "from minigpt_tui.cli.streams import *\nprepare_streams()\nwrite_text('é')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    assert (done.stdout, done.stderr) == ("\\xe9", "")


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    files = subprocess.Popen(
        [sys.executable, "-m", "minigpt_tui", "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    files.stdout.close()  # nobody reads a word
    assert files.stderr.read() == b""
    files.stderr.close()
    assert files.wait() == 0


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_the_shell(name, cli):
    result = cli("completion", name)
    assert result.status == 0
    assert "_MINIGPT_TUI_COMPLETE" in result.out
    assert "minigpt-tui" in result.err


def test_completion_of_an_unknown_shell_names_those_that_there_are(cli, monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    result = cli("completion")
    assert result.status == 2
    assert result.is_one_error_line
    assert "bash, zsh, fish" in result.err


@pytest.mark.parametrize(("words", "expected"), [("minigpt-tui mod", "models"), ("minigpt-tui models show ti", "tiny")])
def test_the_shell_completes_commands_and_models(words, expected, shell, tiny_model):
    env = {"_MINIGPT_TUI_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    result = shell(env=env)
    assert f"plain,{expected}" in result.out.splitlines()


def test_paths_says_where_everything_is_and_whether_it_is_there(cli, own_home):
    result = cli("paths", "--json")
    found = {entry["name"]: entry for entry in map(json.loads, result.out.splitlines())}
    assert found["runs"]["path"] == str(own_home / "data" / "runs")
    assert found["runs"]["exists"] is False
    assert found["bundled texts"]["exists"] is True
    assert all(entry["holds"] for entry in found.values())
    assert found["cache"]["path"] == str(own_home / "cache")
    assert found["chats"]["path"] == str(own_home / "state" / "chats")
    lines = cli("paths").out
    assert str(own_home / "data" / "runs") in lines
    assert str(own_home / "cache") in lines
    assert not own_home.exists()  # looking makes nothing


def test_the_app_wants_a_keyboard_and_says_so(shell, monkeypatch, cli):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    result = cli()
    assert result.status == 2
    assert "generate" in result.err


@pytest.fixture
def unread_stderr(monkeypatch):
    """A stderr whose reader has gone away."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        yield stream
        monkeypatch.undo()


def test_a_message_that_nobody_can_read_is_dropped(unread_stderr):
    say("one")
    say("two")
    unread_stderr.flush()


def test_a_reader_of_messages_that_leaves_does_not_end_a_training_run(unread_stderr, own_home, tmp_path):
    text = tmp_path / "river.txt"
    text.write_text("The fox went to the river.\n" * 40)
    settings = ("n_layer=1", "n_embd=16", "n_head=2", "block_size=16", "batch_size=2", "steps=2", "precision=fp32")
    words = ["train", str(text), "--name", "unread", *(part for word in settings for part in ("--set", word))]
    assert failures.run(root, words, PROG_NAME) == 0
    status = json.loads((own_home / "data" / "runs" / "unread" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 2)
