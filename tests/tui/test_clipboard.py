"""Copying says the truth: through the terminal where it can, into a file where it cannot or would cut."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_play_screen import WIDE, begin, settled, shown

from minigpt_tui import clipboard
from minigpt_tui.config_edit import set_value

pytest_plugins = ("play_fixtures",)

texts = st.text(max_size=2000)


def copied(sequence: str) -> str:
    [payload] = re.findall("\x1b\\]52;c;([A-Za-z0-9+/=]*)\x07", sequence)
    return base64.b64decode(payload).decode()


@given(texts.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text)))
def test_a_terminal_is_sent_the_whole_text(text):
    assert copied(clipboard.osc52(text, {"TERM": "xterm"})) == text


@given(texts)
def test_screen_is_sent_pieces_that_it_passes_on_and_that_are_the_same_when_joined(text):
    sequence = clipboard.osc52(text, {"TERM": "screen", "STY": "1.x"})
    pieces = re.findall("\x1bP(.*?)\x1b\\\\", sequence, re.DOTALL)
    assert "".join(pieces) == clipboard.osc52(text, {})
    assert "".join(f"\x1bP{piece}\x1b\\" for piece in pieces) == sequence
    assert all(len(piece) <= clipboard.SCREEN_CHUNK for piece in pieces)


@given(texts)
def test_tmux_is_sent_one_that_it_takes_and_one_that_it_passes_on(text):
    plain, sequence = clipboard.osc52(text, {}), clipboard.osc52(text, {"TMUX": "/tmp/tmux,1,0"})
    assert sequence.startswith(plain)
    wrapped = sequence.removeprefix(plain)
    assert wrapped.startswith("\x1bPtmux;")
    assert wrapped.endswith("\x1b\\")
    assert wrapped[len("\x1bPtmux;") : -2].replace("\x1b\x1b", "\x1b") == plain


@given(texts)
def test_the_size_is_known_before_it_is_made(text):
    payload = clipboard.osc52(text, {}).removeprefix("\x1b]52;c;").removesuffix("\x07")
    assert clipboard.sequence_size(text) == len(payload)


@pytest.mark.parametrize(
    ("environment", "can"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "tmux-256color", "TMUX": "x"}, True),
        ({}, True),
        ({"TERM": "linux"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, False),
    ],
)
def test_terminals_that_have_no_clipboard_are_known(environment, can):
    assert clipboard.through_terminal("x", "auto", 1000, environment) is can
    assert clipboard.through_terminal("x", "osc52", 1000, environment)
    assert not clipboard.through_terminal("x", "file", 1000, environment)


def test_a_text_that_the_terminal_would_cut_goes_into_the_file():
    limit = 74_994
    assert clipboard.through_terminal("x" * (limit // 4 * 3), "osc52", limit, {})
    assert not clipboard.through_terminal("x" * (limit // 4 * 3 + 1), "osc52", limit, {})
    assert not clipboard.through_terminal("é" * (limit // 4 * 3 - 10), "auto", limit, {})  # bytes count, not letters


@pytest.fixture
def sent(make_app, client, monkeypatch):
    """What the app sends its terminal when a text is copied, and what it says of it."""

    async def copy(text: str = "", **environment: str) -> tuple[str, str]:
        for name in ("TMUX", "STY", "TERM_PROGRAM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"TERM": "xterm-256color"} | environment).items():
            monkeypatch.setenv(name, value)
        written: list[str] = []
        async with make_app().run_test(size=WIDE) as pilot:
            stream = await begin(pilot, client, "a", text or "bcd")
            stream.finish()
            await settled(pilot)
            monkeypatch.setattr(pilot.app._driver, "write", written.append)
            await pilot.press("y")
            await pilot.pause()
            return "".join(part for part in written if "]52;" in part), shown(pilot.app, "#status")

    return copy


async def test_the_app_copies_through_the_terminal_and_says_so(sent):
    sequence, said = await sent()
    assert copied(sequence) == "abcd"
    assert "copied 4 characters" in said


async def test_inside_tmux_the_app_wraps_it(sent):
    sequence, _ = await sent(TMUX="/tmp/tmux-0/default,1,0", TERM="tmux-256color")
    assert "\x1bPtmux;\x1b\x1b]52;c;" in sequence


@pytest.mark.posix
async def test_where_the_terminal_cannot_the_text_is_in_a_file_and_the_app_says_where(sent):
    sequence, said = await sent(TERM="linux")
    assert sequence == ""
    assert clipboard.copied_file().read_text() == "abcd"
    assert "4 characters saved to" in said
    assert clipboard.copied_file().parent.stat().st_mode & 0o077 == 0


async def test_what_is_too_long_is_in_a_file_and_the_app_says_why(sent):
    set_value("copy_limit", 100)
    text = "long " * 100
    sequence, said = await sent(text)
    assert sequence == ""
    assert clipboard.copied_file().read_text() == "a" + text
    assert "501 characters, too many for the terminal, saved to" in said


async def test_a_text_that_can_go_nowhere_is_told(sent, own_home):
    set_value("clipboard", "file")
    (own_home / "state").mkdir(parents=True)
    clipboard.copied_file().mkdir()
    _, said = await sent()
    assert "it could not be copied" in said


async def test_rows_are_selected_by_keys_and_copied(make_app, client, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("TMUX", "STY"):
        monkeypatch.delenv(name, raising=False)
    written: list[str] = []
    async with make_app().run_test(size=WIDE) as pilot:
        rows = [f"row {number}\n" for number in range(60)]
        stream = await begin(pilot, client, "a", "\n" + "".join(rows))
        stream.finish()
        await settled(pilot)
        monkeypatch.setattr(pilot.app._driver, "write", written.append)

        async def copy() -> str:
            written.clear()
            await pilot.press("y")
            await pilot.pause()
            return copied("".join(part for part in written if "]52;" in part))

        await pilot.press("ctrl+a")
        assert await copy() == "a\n" + "".join(rows).rstrip("\n")
        await pilot.press("escape", "home", "shift+down", "shift+down", "shift+down", "shift+up")
        assert await copy() == "a\nrow 0"
        await pilot.press("shift+up", "shift+up")  # none is left, so all of it is copied
        assert await copy() == "a\n" + "".join(rows)
        await pilot.press("end", "shift+up", "shift+up")
        assert await copy() == "row 59"  # and the empty last row
        top = pilot.app.play._text.scroll_offset.y
        await pilot.press(*["shift+up"] * 40)
        assert pilot.app.play._text.scroll_offset.y < top  # what is selected is in view
        assert (await copy()).startswith("row 19\n")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not here")
def test_a_real_tmux_takes_it(tmp_path):
    (tmp_path / "conf").write_text("set -g set-clipboard on\n")
    write = "import os, sys, time; from minigpt_tui.clipboard import osc52; "
    write += "sys.stdout.write(osc52('h\\u00e9llo', os.environ)); sys.stdout.flush(); time.sleep(20)"
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", str(tmp_path / "conf")]
    command = shlex.join(["env", f"PYTHONPATH={os.pathsep.join(sys.path)}", sys.executable, "-c", write])
    subprocess.run([*tmux, "new-session", "-d", command], check=True)
    try:
        for _ in range(100):
            shown = subprocess.run([*tmux, "show-buffer"], capture_output=True, text=True)
            if shown.stdout:
                break
            time.sleep(0.05)
        assert shown.stdout == "héllo"
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
