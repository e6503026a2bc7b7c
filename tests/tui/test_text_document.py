"""The wrapped document: the same rows however the text came, none too wide, and no letter lost."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import wcwidth
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

import minigpt_tui
from minigpt_tui import text_document
from minigpt_tui.text_document import CHARACTERS_PER_CELL, Kind, TextDocument, cells, wrap
from minigpt_tui.visible import visible

PIECES = ["a", "word ", "longer-word ", " ", "   ", "\n", "\t", "é", "e\u0301", "漢字", "👩\u200d💻", "❤\ufe0f", "🇩🇪",
          "\x1b[31m", "\x9b", "\r", "\0", "☃", "क्षि", "\u200d", "\ufe0f", "[red]", "\u0301", "©\ufe0f",
          "привет", "🇩", "🇪", "👍🏽", "🏽", "1\ufe0f\u20e3", "שלום", "مرحبا",
          "👨\u200d👩\u200d👧", "각", "ᄀ", "ᅡ", "ด้้"]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30)
widths = st.integers(4, 40)


def rows_of(document: TextDocument) -> list[str]:
    starts = [document.row_start(row) for row in range(document.row_count)]
    return [document.text_between(start, end) for start, end in pairwise([*starts, document.length])]


@given(texts, widths)
@example(["word ", "word"], 4)
@example(["❤", "\ufe0f"], 4)
@example(["👩", "\u200d", "💻"], 4)
@example(["abcd", " ", " ", "\u0301", "x"], 4)
def test_text_that_comes_in_pieces_is_wrapped_as_if_it_had_come_at_once(chunks, width):
    document = TextDocument(width)
    for chunk in chunks:
        document.append(chunk, Kind.GENERATED)
    assert rows_of(document) == wrap("".join(chunks), width)


@given(texts, widths)
@example(["❤\ufe0f", "\t", " "], 4)
@example(["\u200d", "\u200d", "[red]"], 4)
@example(["\u200d[red]"], 4)
def test_no_row_is_wider_than_the_pane_and_no_letter_is_lost(chunks, width):
    document = TextDocument(width)
    for chunk in chunks:
        document.append(chunk, Kind.GENERATED)
    assert document.text() == "".join(chunks)
    for row in range(document.row_count):
        shown = "".join(piece.text for piece in document.pieces(row))
        assert cell_len(shown.removesuffix(" ")) <= width
        assert cell_len(shown) <= width + 1
        assert shown == visible(shown)
        assert "\n" not in shown
        assert "\t" not in shown


@given(texts, widths, widths)
def test_another_width_wraps_as_if_it_had_always_been_so(chunks, width, other):
    document = TextDocument(width)
    document.append("".join(chunks), Kind.GENERATED)
    assert document.resize(other) is (width != other)
    assert rows_of(document) == wrap("".join(chunks), other)


@given(texts, st.data())
def test_truncating_leaves_what_was_there_before(chunks, data):
    text = "".join(chunks)
    document = TextDocument(11)
    document.append(text, Kind.GENERATED)
    offset = data.draw(st.integers(0, len(text)))
    document.truncate(offset)
    assert document.text() == text[:offset]
    document.append("x", Kind.PROMPT)
    assert document.text() == text[:offset] + "x"


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(list(Kind))), max_size=20), widths)
def test_marks_are_shown_and_are_no_part_of_the_text(parts, width):
    document = TextDocument(width)
    for text, kind in parts:
        document.append(text, kind)
    assert document.text() == "".join(text for text, kind in parts if kind is not Kind.MARK)
    shown = [piece for row in range(document.row_count) for piece in document.pieces(row)]
    for kind in Kind:
        written = "".join(text for text, other in parts if other is kind)
        there = "".join(piece.text for piece in shown if piece.kind is kind)
        squeeze = str.maketrans("", "", "\n\t ")
        assert visible(written).translate(squeeze) == there.translate(squeeze)


@given(texts, widths, st.data())
def test_a_place_on_the_screen_leads_back_to_its_letter(chunks, width, data):
    document = TextDocument(width)
    document.append("".join(chunks), Kind.GENERATED)
    row = data.draw(st.integers(0, document.row_count - 1))
    text = rows_of(document)[row].removesuffix("\n")
    shown = "".join(piece.text for piece in document.pieces(row))
    start = document.row_start(row)
    assert document.offset_of(row, 0) == start
    assert document.offset_of(row, len(shown) + 5) == start + len(text)
    for index, character in enumerate(shown):
        place = document.offset_of(row, index) - start
        assert text[place] == "\t" or visible(text[place]) == character


SIGNS = ["🇩🇪", "👍🏽", "☝🏽", "👩\u200d💻", "👨\u200d👩\u200d👧", "❤\ufe0f", "1\ufe0f\u20e3", "e\u0301", "한"]


@given(st.lists(st.sampled_from(SIGNS), min_size=1, max_size=20), widths)
def test_what_is_drawn_as_one_sign_is_never_cut_in_two(signs, width):
    rows = wrap("".join(signs), width)
    left = list(signs)
    for row in rows:
        while row:
            assert row.startswith(left[0])
            row = row.removeprefix(left.pop(0))
    assert not left


@given(st.lists(st.sampled_from([*SIGNS, "a", "word ", "漢字", "क्षि", "привет", "שלום", "مرحبا", "ด้้", "…"])))
def test_cells_are_those_that_terminals_take(chunks):
    assert cells("".join(chunks)) == wcwidth.wcswidth("".join(chunks))


def test_words_stay_whole_where_they_fit():
    assert wrap("to be or not to be", 8) == ["to be or ", "not to ", "be"]
    assert wrap("immediately so", 6) == ["immedi", "ately ", "so"]
    assert wrap("one\n\ntwo\n", 10) == ["one\n", "\n", "two\n", ""]


def test_control_characters_are_shown_as_symbols_and_markup_as_it_is():
    document = TextDocument(40)
    document.append("a\x1b[31mb\x07[red]", Kind.GENERATED)
    assert [(piece.text, piece.symbol) for piece in document.pieces(0)] == [
        ("a", False), ("␛", True), ("[31mb", False), ("␇", True), ("[red]", False),
    ]  # fmt: skip


def test_marks_that_take_no_cell_do_not_make_a_row_grow_for_ever():
    document = TextDocument(10)
    for _ in range(40):
        document.append("\u0301" * 25, Kind.GENERATED)
    rows = rows_of(document)
    assert max(map(len, rows)) == 10 * CHARACTERS_PER_CELL
    assert rows == wrap("\u0301" * 1000, 10)
    words = wrap("so " + "e" + "\u0301" * 500, 10)
    assert words[0] == "so "
    assert max(map(len, words)) <= 10 * CHARACTERS_PER_CELL


def test_sequences_take_the_cells_that_the_drawing_library_gives_them(monkeypatch):
    """Older releases of rich neither join emoji nor widen them."""
    forget_widths()
    monkeypatch.setattr(text_document, "cell_len", lambda text: sum(map(cell_len, text)))
    assert wrap("👩\u200d💻" * 2, 4) == ["👩\u200d💻", "👩\u200d💻"]
    assert wrap("❤\ufe0f" * 4, 4) == ["❤\ufe0f" * 4]
    forget_widths()


def forget_widths():
    text_document._joiner_joins.cache_clear()
    text_document._widened_by_selector.cache_clear()


def test_nothing_private_of_another_package_is_imported():
    """What is private may be gone in a release that the requirements allow."""
    for path in Path(minigpt_tui.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                private = [part for part in module.split(".") if part.startswith("_") and not part.endswith("__")]
                assert not private, f"{path} imports {module}"
