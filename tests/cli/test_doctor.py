"""`doctor`: a line for everything that a start needs, what mends it, and 1 when something is broken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from engine.inference.native import building
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
    built_with(monkeypatch, 3)
    bundled = own_home.parent / "bundled"
    shutil.copytree(tiny_model, bundled / "shakespeare")
    monkeypatch.setattr("engine.folders.bundled_checkpoints", lambda: bundled)
    monkeypatch.setattr(doctor, "bundled_checkpoints", lambda: bundled)
    return bundled


def built_with(monkeypatch, kinds):
    """Kernels are there, with instructions for these kinds of numbers."""
    library = SimpleNamespace(built_for=lambda: kinds)
    monkeypatch.setattr(building, "find", lambda: building.Native(library, "pass-1", "built by /usr/bin/cc"))
    monkeypatch.setattr(building, "find_compiler", lambda: ["/usr/bin/cc"])
    monkeypatch.setattr(building, "version", lambda compiler: "cc (Debian 12.2.0-14) 12.2.0")


def findings(result):
    return [json.loads(line) for line in result.out.splitlines()]


def failures(result):
    return [finding for finding in findings(result) if finding["state"] == "fail"]


def test_where_all_is_well_it_says_so_and_leaves_with_0(cli, whole):
    result = cli("doctor", "--json")
    assert failures(result) == []
    assert result.status == 0
    subjects = {finding["subject"] for finding in findings(result)}
    assert {"python", "torch", "device", "kernels", "terminal", "folder", "model"} <= subjects
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


@pytest.mark.parametrize(
    ("kinds", "has"),
    [
        (3, "instructions for bf16 and int8"),
        (2, "instructions for int8"),
        (0, "no instructions for bf16 and int8"),
    ],
)
def test_kernels_that_were_built_are_told_with_what_the_processor_has(kinds, has, monkeypatch):
    built_with(monkeypatch, kinds)
    text = f"built by cc (Debian 12.2.0-14) 12.2.0 for this processor, with {has}"
    assert list(doctor.check_kernels()) == [("kernels", "ok", text)]


def test_it_finds_the_kernels_that_are_here_without_torch():
    (finding,) = doctor.check_kernels()
    if building.find().library is not None:
        assert finding.state == "ok"
        assert finding.text.startswith(
            f"built by {building.version(building.find_compiler())} for this processor, with "
        )
    script = (
        "import sys; sys.modules['torch'] = None; from minigpt_tui.cli import doctor; print(*doctor.check_kernels())"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(finding)


@pytest.mark.parametrize(
    ("says", "mend", "state"),
    [("there is no C compiler", "install gcc or clang", "warn"), ("MINIGPT_NATIVE is off", "", "ok")],
)
def test_without_kernels_it_says_why_and_what_to_do(says, mend, state, cli, whole, monkeypatch):
    monkeypatch.setattr(building, "find", lambda: building.Native(None, "", says, mend))
    result = cli("doctor", "--json")
    (finding,) = (finding for finding in findings(result) if finding["subject"] == "kernels")
    assert finding["state"] == state
    assert finding["text"].startswith(f"{says}, so on the CPU PyTorch alone writes texts")
    assert finding["text"].endswith(mend)
    assert result.status == 0


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
