"""The options that say where the app's engine is: what goes together, and what is told in one line."""

from __future__ import annotations

import pytest

from minigpt_tui.cli.connecting import Elsewhere


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--ssh=-oProxyCommand=x"], "would be an option of ssh's"),
        (["--ssh", "box", "--connect", "localhost:1"], "two places; give one"),
        (["--ssh-python", "python3"], "give the host"),
        (["--api-key", "secret"], "--api-key is for --connect URL"),
        (["--connect", "ftp://box"], "is no address of a server"),
        (["--connect", "localhost:1", "models", "list"], "models computes here"),
        (["--ssh", "box"], "the app needs a terminal"),
    ],
)
def test_what_does_not_go_together_is_one_line(words, part, cli):
    result = cli(*words)
    assert result.status == 2
    assert result.is_one_error_line
    assert part in result.err
    assert "secret" not in result.err


def test_the_key_is_taken_from_the_environment_and_is_never_shown(monkeypatch):
    monkeypatch.setenv("MINIGPT_API_KEY", "sk-secret")
    place = Elsewhere(connect="localhost:1").place(None)
    assert place.environment()["MINIGPT_API_KEY"] == "sk-secret"
    assert "sk-secret" not in repr(vars(Elsewhere(connect="localhost:1")))
    assert "sk-secret" not in repr(Elsewhere(connect="localhost:1", api_key="sk-secret"))


def test_without_any_of_them_the_engine_is_here_and_the_environment_can_say_how_ssh_is_reached(monkeypatch):
    assert Elsewhere().place(None) is None
    assert Elsewhere().place("generate") is None
    monkeypatch.setenv("MINIGPT_SSH", "ssh -p 2222")
    monkeypatch.setenv("MINIGPT_SSH_PYTHON", "/opt/python")
    command = Elsewhere(ssh="box").place(None).command
    assert command[:3] == ("ssh", "-p", "2222")
    assert "/opt/python -P -m minigpt_tui worker" in command[-1]


def test_connecting_without_httpx_says_what_to_install(monkeypatch, cli):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = cli("--connect", "localhost:1")
    assert result.status == 1
    assert "pip install 'minigpt-tui[connect]'" in result.err
