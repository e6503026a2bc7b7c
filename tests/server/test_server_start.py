"""What `minigpt-tui serve` refuses before it serves, in one line each."""

from __future__ import annotations

import socket
import sys

import pytest

from minigpt_tui.cli.failures import run
from minigpt_tui.cli.root import PROG_NAME, root


@pytest.fixture
def cli(capsys):
    """Run a command in this process: its status and what it said."""

    def command(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        return run(root, [str(word) for word in words], PROG_NAME), capsys.readouterr().err

    return command


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4"])
def test_other_machines_need_a_key_or_that_it_is_said_that_none_is_wanted(cli, host, monkeypatch):
    monkeypatch.delenv("MINIGPT_API_KEY", raising=False)
    status, said = cli("serve", "--host", host)
    assert (status, said.count("\n")) == (2, 1)
    assert "MINIGPT_API_KEY" in said
    assert "--no-auth" in said
    monkeypatch.setenv("HOST", host)
    status, obeyed = cli("serve")
    assert (status, f"{host} (HOST in the environment) is reached" in obeyed) == (2, True)
    assert cli("serve", "--api-key", "")[0] == 2
    assert "choose one" in cli("serve", "--api-key", "k", "--no-auth")[1]


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(cli, monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("PORT", str(listener.getsockname()[1]))
        status, said = cli("serve")
    assert (status, said.count("\n")) == (1, 1)
    assert "choose another with --port" in said


def test_a_model_that_is_not_there_is_told_in_one_line(cli, tiny_model):
    for words in (["--model", "no-such"], ["--model", "tiny", "--model", str(tiny_model)]):
        status, said = cli("serve", "--port", 0, *words)
        assert status in (1, 2)
        assert said.splitlines()[-1].startswith("error: ")
        assert said.count("\n") == 1


def test_without_the_extra_the_line_that_installs_it_is_told(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "minigpt_tui.server.running", raising=False)
    status, said = cli("serve")
    assert (status, said.count("\n")) == (1, 1)
    assert "pip install 'minigpt-tui[serve]'" in said
