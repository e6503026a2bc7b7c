"""What `minigpt-tui serve` refuses before it serves, in one line each."""

from __future__ import annotations

import socket
import sys

import pytest


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4"])
def test_other_machines_need_a_key_or_that_it_is_said_that_none_is_wanted(cli, host, monkeypatch):
    monkeypatch.delenv("MINIGPT_API_KEY", raising=False)
    refused = cli("serve", "--host", host)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "MINIGPT_API_KEY" in refused.err
    assert "--no-auth" in refused.err
    monkeypatch.setenv("HOST", host)
    obeyed = cli("serve")
    assert (obeyed.status, f"{host} (HOST in the environment) is reached" in obeyed.err) == (2, True)
    assert cli("serve", "--api-key", "").status == 2
    assert "choose one" in cli("serve", "--api-key", "k", "--no-auth").err


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(cli, monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("PORT", str(listener.getsockname()[1]))
        taken = cli("serve")
    assert (taken.status, taken.err.count("\n")) == (1, 1)
    assert "choose another with --port" in taken.err


def test_a_model_that_is_not_there_is_told_in_one_line(cli, tiny_model):
    for words in (["--model", "no-such"], ["--model", "tiny", "--model", str(tiny_model)]):
        unknown = cli("serve", "--port", 0, *words)
        assert unknown.status in (1, 2)
        assert unknown.is_one_error_line
        assert unknown.err.count("\n") == 1


def test_without_the_extra_the_line_that_installs_it_is_told(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "minigpt_tui.server.running", raising=False)
    missing = cli("serve")
    assert (missing.status, missing.err.count("\n")) == (1, 1)
    assert "pip install 'minigpt-tui[serve]'" in missing.err
