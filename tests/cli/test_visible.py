"""Text on a terminal never steers it, and what is harmless stays as it is."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt_tui.visible import UNSAFE, visible, visible_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("bell\x07 null\0 back\b del\x7f", "bell␇ null␀ back␈ del␡"),
        ("over\rwritten", "over␍written"),
        ("c1 \x9b31m \x85", "c1 ␦31m ␤"),
        ("a\u202eb\u2066c\u200fd", "a␦b␦c␦d"),
        ("line\u2028end", "line␤end"),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_controls_become_symbols(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["two\nlines\tand a tab", "नमस्ते", "👩\u200d🚀 ❤\ufe0f 🏴\U000e0067\U000e007f", "[red]a[/]", "é ﷺ שלום"]
)
def test_all_else_stays(text):
    assert visible(text) == text


@given(st.text(st.characters()))
def test_no_control_is_left_and_offsets_stay_true(text):
    shown = visible(text)
    assert len(shown) == len(text)
    assert not UNSAFE.search(shown)
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in shown)
    assert visible(shown) == shown


def test_a_message_stays_on_one_line():
    assert visible_line("a\nb\t c\x1b") == "a b c␛"
