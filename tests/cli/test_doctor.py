"""`doctor`: a line for everything that a start needs, what mends it, and 1 when something is broken."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from minigpt_tui.cli import doctor


@pytest.fixture
def whole(monkeypatch, own_home, tiny_model):
    """A machine on which all is well, with torch looked at once and not anew by each test."""
    answer = {
        "version": "2.13.0",
        "seconds": 1.0,
        "threads": 2,
        "built_for": None,
        "cuda": "",
        "memory": 0,
        "mps": False,
    }
    done = subprocess.CompletedProcess([], 0, json.dumps(answer), "")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: done)
    bundled = own_home.parent / "bundled"
    shutil.copytree(tiny_model, bundled / "shakespeare")
    monkeypatch.setattr("engine.folders.bundled_checkpoints", lambda: bundled)
    monkeypatch.setattr(doctor, "bundled_checkpoints", lambda: bundled)
    return bundled


def findings(result):
    return [json.loads(line) for line in result.out.splitlines()]


def failures(result):
    return [finding for finding in findings(result) if finding["state"] == "fail"]


def test_where_all_is_well_it_says_so_and_leaves_with_0(cli, whole):
    result = cli("doctor", "--json")
    assert failures(result) == []
    assert result.status == 0
    assert {"python", "torch", "device", "terminal", "folder", "model"} <= {f["subject"] for f in findings(result)}
    lines = cli("doctor").out.splitlines()
    assert all(line.split()[0] in ("ok", "warn") for line in lines)


def test_it_works_where_torch_is_missing_and_says_how_to_get_it(cli, whole, monkeypatch):
    broken = subprocess.CompletedProcess([], 1, "", "Traceback\nModuleNotFoundError: No module named 'torch'\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: broken)
    result = cli("doctor", "--json")
    assert result.status == 1
    (failure,) = failures(result)
    assert "No module named 'torch'" in failure["text"]
    assert "pip install torch" in failure["text"]


def test_it_tries_the_torch_that_is_installed(cli):
    (torch, device) = doctor.check_torch()
    assert (torch.subject, device.subject) == ("torch", "device")
    assert "imported in" in torch.text
    assert "threads" in device.text


def test_a_damaged_bundled_model_fails(cli, whole):
    weights = whole / "shakespeare" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    result = cli("doctor", "--json")
    assert result.status == 1
    (failure,) = failures(result)
    assert "shakespeare" in failure["text"]
    assert "install minigpt-tui again" in failure["text"]


@pytest.mark.posix
def test_folders_that_others_can_read_are_a_warning(cli, whole, own_home):
    (own_home / "data").mkdir(parents=True, mode=0o755)
    (own_home / "data").chmod(0o755)
    warned = [finding for finding in findings(cli("doctor", "--json")) if finding["state"] == "warn"]
    assert any("chmod 700" in finding["text"] for finding in warned)


def test_a_folder_that_is_a_file_fails(cli, whole, own_home):
    own_home.write_text("not a folder")
    result = cli("doctor", "--json")
    assert result.status == 1
    assert any("MINIGPT_HOME" in failure["text"] for failure in failures(result))


@pytest.mark.parametrize(
    ("environment", "state"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "ok"),
        ({"TERM": "xterm-256color"}, "ok"),
        ({"TERM": "vt100"}, "warn"),
        ({"TERM": "dumb"}, "fail"),
        ({"TERM": "vt100", "NO_COLOR": "1"}, "ok"),
    ],
)
def test_colours_of_the_terminal(environment, state, monkeypatch):
    for name in ("TERM", "COLORTERM", "NO_COLOR", "TMUX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert {finding.subject: finding.state for finding in doctor.check_terminal()}["colours"] == state
