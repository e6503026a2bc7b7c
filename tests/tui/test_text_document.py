"""The wrapped document: the same rows however the text came, none too wide, and no letter lost."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from minigpt_tui.text_document import Kind, TextDocument, wrap
from minigpt_tui.visible import visible

PIECES = ["a", "word ", "longer-word ", " ", "   ", "\n", "\t", "é", "e\u0301", "漢字", "👩\u200d💻", "❤\ufe0f", "🇩🇪",
          "\x1b[31m", "\x9b", "\r", "\0", "☃", "क्षि", "\u200d", "\ufe0f", "[red]", "\u0301", "©\ufe0f",
          "привет"]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30)
widths = st.integers(4, 40)


@given(texts, widths)
@example(["word ", "word"], 4)
@example(["❤", "\ufe0f"], 4)
@example(["👩", "\u200d", "💻"], 4)
@example(["abcd", " ", " ", "\u0301", "x"], 4)
def test_text_that_comes_in_pieces_is_wrapped_as_if_it_had_come_at_once(chunks, width):
    document = TextDocument(width)
    for chunk in chunks:
        document.append(chunk, Kind.GENERATED)
    assert [document.row_text(row) for row in range(document.row_count)] == wrap("".join(chunks), width)


@given(texts, widths)
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
    assert [document.row_text(row) for row in range(document.row_count)] == wrap("".join(chunks), other)


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
    text = document.row_text(row).removesuffix("\n")
    shown = "".join(piece.text for piece in document.pieces(row))
    start = document.row_start(row)
    assert document.offset_of(row, 0) == start
    assert document.offset_of(row, len(shown) + 5) == start + len(text)
    for index, character in enumerate(shown):
        place = document.offset_of(row, index) - start
        assert text[place] == "\t" or visible(text[place]) == character


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
