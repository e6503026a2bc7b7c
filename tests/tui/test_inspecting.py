"""What a text tells of its tokens: places, levels, and what heads looked at."""

from __future__ import annotations

import math
import struct

import pytest
from scripted_client import inspected

from engine.config import SamplingParams
from engine.inference.stream import ScoredToken, Token
from engine.worker.protocol import Done, Inspected, ParamsChanged, Scored, Started, Tokens
from minigpt_tui.inspecting import LEVELS, Figures, Measure, TokenPlaces, bits, heads_of, shade, strongest
from minigpt_tui.text_document import Kind
from minigpt_tui.writing import Writing


def written(prompt: str, ids: tuple[int, ...], *pieces: tuple[str, str]) -> Writing:
    """A text of pieces, each with what the engine released with it."""
    writing = Writing()
    writing.start(Started(id=1, prompt=prompt, prompt_tokens=ids, seed=1), prompt, SamplingParams())
    tokens = tuple(
        Token(token=n, position=len(ids) + n, text=text, piece=piece, logprob=-1.0 - n, rank=n + 1, entropy=0.5 * n)
        for n, (piece, text) in enumerate(pieces)
    )
    writing.apply([Tokens(id=1, tokens=tokens, context=len(tokens))])
    return writing


def shown(writing: Writing, places: TokenPlaces) -> list[str]:
    return [writing.document.text_between(*places.span(position)) for position in range(places.first, places.count)]


def test_each_token_stands_where_its_own_piece_does_also_while_a_stop_string_was_forming():
    # "EN" was held back as the beginning of "END", and came out with "x".
    writing = written("ab", (1, 2), ("E", ""), ("N", ""), ("x", "ENx"), (" the", " the"))
    places = TokenPlaces(writing)
    assert shown(writing, places) == ["a", "b", "E", "N", "x", " the"]
    for position in range(places.count):
        start, end = places.span(position)
        assert {places.position_at(offset) for offset in range(start, end)} == {position}
    assert places.span(places.count) == (writing.document.length,) * 2
    assert places.position_at(writing.document.length) == places.count


def test_tokens_of_one_character_share_its_place():
    writing = written("", (0,), ("a", "a"), ("\ufffd", ""), ("\ufffd", "é"), ("b", "b"))
    places = TokenPlaces(writing)
    assert shown(writing, places)[1:] == ["a", "é", "é", "b"]
    assert places.figures(2).rank != places.figures(3).rank


def test_the_text_of_a_stop_string_has_no_place_until_the_text_goes_on():
    writing = written("a", (1,), ("b", "b"), ("E", ""), ("N", ""))
    writing.apply([done("stop")])
    places = TokenPlaces(writing)
    assert shown(writing, places) == ["a", "b", "", ""]
    writing.resume(Started(id=2, prompt="abEN", prompt_tokens=(1, 0, 1, 2), seed=1), SamplingParams())
    assert shown(writing, places) == ["a", "b", "E", "N"]


def done(reason: str) -> Done:
    return Done(
        id=1, finish_reason=reason, text="", prompt_tokens=1, new_tokens=3, seed=1, tokens_per_second=1.0,
        time_to_first_token=0.1,
    )  # fmt: skip


def test_marks_belong_to_no_token():
    writing = written("a", (1,), ("b", "b"))
    writing.apply([ParamsChanged(id=1, position=2, params=SamplingParams(temperature=1.5))])
    token = Token(token=9, position=2, text="c", piece="c", logprob=-1.0, rank=1, entropy=1.0)
    writing.apply([Tokens(id=1, tokens=(token,), context=3)])
    document, places = writing.document, TokenPlaces(writing)
    assert "⟨" in "".join(piece.text for piece in document.pieces(0))
    assert shown(writing, places) == ["a", "b", "c"]
    assert places.position_at(document.length - 2) == 2  # in the mark: what comes behind it
    stretches = places.levels(0, document.length, Measure.RANK)
    assert [document.text_between(start, end) for start, end, _ in stretches] == ["b", "c"]
    assert stretches[1][1] - stretches[1][0] == 1


def test_a_prompt_of_longer_tokens_has_places_once_the_engine_has_told_them():
    writing = written("the fox ", (5, 6), ("ran", "ran"))
    places = TokenPlaces(writing)
    assert places.first == 2
    assert places.position_at(1) == 2
    assert places.figures(1) is None
    scored = Scored(
        id=1, loss=2.0, perplexity=7.4, bits_per_byte=1.0, tokens=(ScoredToken(" fox ", -2.0, 4, 1.5),),
        text="the fox ", ids=(5, 6), ends=(3, 8),
    )  # fmt: skip
    places = TokenPlaces(writing, scored)
    assert places.first == 0
    assert shown(writing, places) == ["the", " fox ", "ran"]
    assert [places.position_at(offset) for offset in (0, 2, 3, 7, 8)] == [0, 0, 1, 1, 2]
    assert places.figures(0) is None
    assert places.figures(1) == Figures(-2.0, 4, 1.5)
    for ids, text in (((5, 7), "the fox "), ((5, 6), "the fix ")):  # of another prompt; of what is not shown like that
        other = Scored(
            id=1, loss=0, perplexity=1, bits_per_byte=0, tokens=scored.tokens, text=text, ids=ids, ends=(3, 8)
        )
        assert TokenPlaces(writing, other).first == 2


@pytest.mark.parametrize("measure", [Measure.PROBABILITY, Measure.ENTROPY, Measure.RANK])
def test_levels_go_from_surprising_to_expected_over_the_whole_scale(measure):
    surprises = [Figures(math.log(0.9995) * 4**n, 2**n, 0.05 * 2**n) for n in range(12)]
    levels = [measure.level(figures) for figures in surprises]
    assert levels == sorted(levels, reverse=True)
    assert {0, LEVELS - 1} <= set(levels) <= set(range(LEVELS))
    assert len(measure.labels) == LEVELS == len(measure.bounds) + 1


def test_heads_and_their_means_are_the_engines_shares():
    answer = inspected(tuple(range(9)), 7, SamplingParams(), 0, attention=True, lens=True)
    heads = heads_of(answer, 4, 4)
    assert (heads.n_layer, heads.n_head, heads.length) == (4, 4, 7)
    raw = struct.unpack(f"<{4 * 4 * 7}e", answer.attention)
    assert heads.of(2, 3) == raw[(2 * 4 + 3) * 7 : (2 * 4 + 4) * 7]
    assert heads.of(1, None) == pytest.approx([sum(heads.of(1, head)[n] for head in range(4)) / 4 for n in range(7)])
    assert sum(heads.of(None, None)) == pytest.approx(1.0, abs=1e-2)
    shares = heads.of(3, 1)
    (_, share), *_ = strongest(shares, 3)
    assert share == max(shares) == heads.peak(3, 1)
    assert 1 <= heads.distance(shares) <= 7
    assert shade(share, share) == LEVELS - 1
    assert shade(0.0, share) == 0
    assert heads_of(answer, 4, 5) is None  # of another model
    assert heads_of(Inspected(id=1, position=1, entropy=0.0, distribution=(), window_start=0), 4, 4) is None


def test_bits_are_never_below_zero():
    assert bits(math.log(8)) == pytest.approx(3.0)
    assert bits(-1e-9) == 0.0


def test_a_recorded_text_that_goes_on_has_its_places_behind_the_stop_string_that_is_shown_now():
    writing = written("abEN", (1, 2, 3, 4))
    writing.document.truncate(2)  # the stop string was never shown
    writing.text_start = 2
    writing.resume(Started(id=2, prompt="abEN", prompt_tokens=(1, 2, 3, 4), seed=1), SamplingParams())
    token = Token(token=9, position=4, text="c", piece="c", logprob=-1.0, rank=1, entropy=1.0)
    writing.apply([Tokens(id=2, tokens=(token,), context=5)])
    assert shown(writing, TokenPlaces(writing)) == ["a", "b", "E", "N", "c"]


def test_a_colour_never_parts_what_is_drawn_as_one_sign():
    document = Writing().document
    document.append("e\u0301a👩\u200d💻\tb", Kind.GENERATED)
    for cuts in ([1], [4], [5], [1, 2, 4, 5, 6, 7]):
        pieces = document.placed(0, cuts)
        assert "".join(piece.text for _, piece in pieces).startswith("e\u0301a👩\u200d💻")
        assert not {offset for offset, _ in pieces} & {1, 4, 5}
    assert [offset for offset, _ in document.placed(0, [2, 3])] == [0, 2, 3, 6, 7]
    assert document.column_of(document.length - 1) == len("xa" + "  ") + (4 - 4 % 4)
    assert [document.offset_in_cells(0, column) for column in (0, 1, 2)] == [0, 2, 3]
    assert document.offset_in_cells(0, 500) == document.length
