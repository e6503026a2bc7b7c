"""One sitting in a real terminal, from a text on disk to a text that is written again: trained, played, looked into,
forked, compared, exported and replayed, by keys alone."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("pty", reason="a terminal of this kind is not on every system")

from terminal import Terminal
from tiny_models import TINY_TEXT

TRAINED = 90
"""Steps of the run, a second of them."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "fox.txt").write_text(TINY_TEXT * 10)
    return tmp_path


def app(home: Path) -> Terminal:
    environment = {"MINIGPT_HOME": str(home / "home"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return Terminal([sys.executable, "-m", "minigpt_tui", "--device", "cpu", "--precision", "fp32"], environment)


def go_to(terminal: Terminal, field: str) -> None:
    """Go to a field of the form."""
    for _ in range(30):
        here = marked(terminal.text())
        if here == field:
            return
        terminal.press("tab")
        terminal.until(lambda shown: marked(shown) not in ("", here))  # noqa: B023 - asked before it changes
    raise AssertionError(f"there is no field {field}")


def marked(shown: str) -> str:
    """The field of the form that has the focus."""
    found = re.search(r"› (\w+)", shown)
    return found[1] if found else ""


def has_ended(shown: str) -> bool:
    """Whether the text on Play has been written to its end."""
    return "done ·" in shown or "ended by itself ·" in shown


def place(shown: str) -> str | None:
    """Where the cursor is, once it is told what was drawn there."""
    told, cursor = re.search(r"drawn at (\S+)", shown), re.search(r"(\S+) of \S+ ─╯", shown)
    return told[1] if told and cursor and told[1] == cursor[1] else None


def test_a_sitting_from_a_text_on_disk_to_a_text_that_is_written_again(home):
    with app(home) as terminal:
        terminal.until("1 of 3")  # the first steps of a first start
        terminal.press("f4")
        terminal.until("No run yet")
        terminal.press("a")
        terminal.until("Start a run")
        terminal.type(str(home / "fox.txt"))
        terminal.until("alphabet of 33")
        for field, value in {"n_layer": 1, "n_head": 2, "n_embd": 32, "block_size": 64, "steps": TRAINED}.items():
            go_to(terminal, field)
            terminal.type(str(value))
        terminal.press("tab")
        terminal.until(f"{TRAINED} steps")
        terminal.press("ctrl+s")
        terminal.until("finished", 60)

        terminal.press("y")
        terminal.until("fox:best")
        terminal.press(*"best")
        terminal.until("fox:best")
        terminal.press("enter")
        terminal.until(lambda shown: "fox:best ·" in shown and "enter generate" in shown, 60)
        terminal.type("THE FOX:")
        terminal.press("enter")
        terminal.until("2 of 3")
        terminal.press("T")
        terminal.until("temperature 0.85")  # the mark in the text
        terminal.press(">")
        first = terminal.until(has_ended)
        assert "temperature 0.85" in first

        terminal.press("i")
        end = place(terminal.until(place))
        terminal.press("up")
        above = place(terminal.until(lambda shown: place(shown) not in (None, end)))
        terminal.press("left")
        if "›●" in terminal.until(lambda shown: place(shown) not in (None, end, above)):
            terminal.press("]")  # what is likeliest is marked, which here is what was drawn
            terminal.until(lambda shown: "›●" not in shown)
        terminal.press("enter")  # forks with another token than was drawn
        terminal.until(lambda shown: "branch 2 of 2" in shown and has_ended(shown))

        terminal.press("f3")
        terminal.until("one seed for all")  # the prompt there; the word Compare is on all screens
        terminal.type("THE FOX:")
        terminal.press("enter")
        terminal.until(lambda shown: len(re.findall(r"tok/s", shown)) >= 2)

        terminal.press("f5")
        terminal.until("History · 4")
        terminal.press("e")
        terminal.until("export 4 to")
        terminal.type(str(home / "history.json"))
        terminal.press("enter")
        terminal.until(lambda shown: "export 4 to" not in shown)
        terminal.press("r")
        terminal.until("the same text, to the letter")
        terminal.press("ctrl+q")
        assert terminal.ends() == 0

    with app(home) as terminal:  # and all of it is there the next time
        terminal.until("branch")
        terminal.press("ctrl+q")
        assert terminal.ends() == 0
    exported = [json.loads(line) for line in (home / "history.json").read_text().splitlines()]
    assert len(exported) == 4
    assert all(entry["prompt"].startswith("THE FOX:") for entry in exported)
    assert {entry["source"] for entry in exported} == {"play", "compare"}
