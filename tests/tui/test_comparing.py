"""What a comparison is made of, without a screen: where texts part, their figures, and sweeps as they are typed."""

from __future__ import annotations

import math

import pytest

from engine.config import SamplingParams
from engine.errors import InvalidSettingError
from engine.inference.stream import Token
from engine.worker.protocol import Done, Started, Tokens
from minigpt_tui.comparing.checkpoints import evenly
from minigpt_tui.comparing.column import Column
from minigpt_tui.comparing.distinct import DistinctGrams, common_unit
from minigpt_tui.comparing.marks import Marks
from minigpt_tui.comparing.parting import Parting
from minigpt_tui.comparing.sweep import parse_sweep

IDS: dict[str, int] = {}
"""The vocabulary of these tests."""


def column(prompt: str = "ab") -> Column:
    """A column whose text has begun."""
    made = Column("", SamplingParams())
    ids = tuple(range(len(prompt)))
    made.writing.start(Started(id=1, prompt=prompt, prompt_tokens=ids, seed=7), prompt, SamplingParams(seed=7))
    made.begin("")
    return made


def write(to: Column, *pieces: str, logprob: float = -1.0) -> None:
    """Let it go on with a token for each piece."""
    place = len(to.writing.trace)
    tokens = tuple(
        Token(token=IDS.setdefault(piece, len(IDS)), position=2 + place + n, text=piece, piece=piece, logprob=logprob)
        for n, piece in enumerate(pieces)
    )
    to.writing.apply([Tokens(id=1, tokens=tokens, context=9)])
    to.take()


def finish(of: Column, reason: str) -> None:
    count = len(of.writing.trace)
    of.writing.apply(
        [
            Done(
                id=1, finish_reason=reason, text="", prompt_tokens=2, new_tokens=count, seed=7,
                tokens_per_second=1.0, time_to_first_token=0.1,
            )
        ]
    )  # fmt: skip
    of.end()


def compared(first: Column, other: Column, parting: Parting) -> Parting:
    parting.update(other.writing, other.start, first.writing, first.start)
    return parting


def test_texts_part_at_the_first_token_that_is_another():
    first, other = column(), column("abc")  # another model may have left out a character of the prompt
    write(first, "The", " fox", " ran", " home")
    write(other, "The", " fox", " sat", " home")
    parting = compared(first, other, Parting(by_token=True))
    assert parting.place == 2
    assert (other.start, parting.first, parting.other_first) == (3, 3 + 7, 2 + 7)
    assert parting.spans == [(10, 14)]


def test_by_characters_the_place_is_within_a_token():
    first, other = column(), column()
    write(first, "The", " fox", " ran")
    write(other, "The fox r", "u", "ns")
    parting = compared(first, other, Parting(by_token=False))
    assert parting.place == 9
    assert parting.first == other.start + 9


def test_it_is_the_same_whether_texts_are_compared_at_once_or_as_they_come():
    pieces = [*"And the king, violent be gone"], [*"And the lord, violent he done"]
    for by_token in (True, False):
        whole, bits = (column(), column()), (column(), column())
        at_once, step_by_step = Parting(by_token=by_token), Parting(by_token=by_token)
        for text, to in zip(pieces, whole, strict=True):
            write(to, *text)
        compared(*whole, at_once)
        for letters in zip(*pieces, strict=True):
            for letter, to in zip(letters, bits, strict=True):
                write(to, letter)
                compared(*bits, step_by_step)
        assert step_by_step.spans == at_once.spans
        assert (step_by_step.first, step_by_step.place) == (at_once.first, at_once.place) == (10, 8)


def test_a_letter_by_chance_is_no_agreement_and_a_word_is():
    first, other = column(""), column("")
    write(first, *"x1a2 and so on y")
    write(other, *"x3a4 and so on z")
    spans = compared(first, other, Parting(by_token=True)).spans
    assert [other.text[start:end] for start, end in spans] == ["3a4", "z"]


def test_a_text_that_ends_by_itself_parts_where_the_other_goes_on():
    longer, shorter = column(), column()
    write(longer, *"abcdef")
    write(shorter, *"abc")
    parting = compared(longer, shorter, Parting(by_token=True))
    assert parting.first is None  # it may yet go on
    finish(shorter, "stop")
    assert compared(longer, shorter, parting).place == 3
    assert parting.first == shorter.writing.document.length

    parting = compared(shorter, longer, Parting(by_token=True))
    assert parting.place == 3
    assert [longer.writing.document.text_between(*span) for span in parting.spans] == ["def"]
    write(longer, *"gh")
    compared(shorter, longer, parting)
    assert [longer.writing.document.text_between(*span) for span in parting.spans] == ["defgh"]


def test_a_text_of_another_length_alone_does_not_part():
    longer, shorter = column(), column()
    write(longer, *"abcdef")
    write(shorter, *"abc")
    finish(shorter, "length")
    assert compared(longer, shorter, Parting(by_token=True)).first is None


def test_half_characters_do_not_shift_the_place():
    first, other = column(""), column("")
    for to, last in ((first, "x"), (other, "y")):
        halves = (0, "\ufffd", ""), (1, "\ufffd", "é"), (ord(last), last, last)
        tokens = tuple(
            Token(token=id, position=n, text=text, piece=piece, logprob=-1.0)
            for n, (id, piece, text) in enumerate(halves)
        )
        to.writing.apply([Tokens(id=1, tokens=tokens, context=3)])
    assert compared(first, other, Parting(by_token=True)).first == 1


def test_marks_of_a_row_say_what_is_the_same_and_where_it_parts():
    marks = Marks(partings=(6,), new_from=2, differing=[(6, 8), (12, 14)])
    assert marks.stretches(0, 10, is_last=False) == [(2, 6, "same"), (8, 10, "same"), (6, 7, "parting")]
    assert marks.stretches(10, 15, is_last=True) == [(0, 2, "same"), (4, 5, "same")]
    assert Marks(partings=(5,)).stretches(0, 5, is_last=False) == []
    assert Marks(partings=(5,)).stretches(0, 5, is_last=True) == [(5, 6, "parting")]  # behind the end of the text


def test_loss_is_the_mean_surprisal_of_what_was_written():
    it = column()
    assert it.loss is None
    write(it, "a", "b", logprob=-1.0)
    write(it, "c", "d", logprob=-2.0)
    assert it.loss == pytest.approx(1.5)
    assert it.perplexity == pytest.approx(math.exp(1.5))


def test_distinct_n_is_the_share_of_different_ngrams():
    grams = DistinctGrams()
    for piece in ("to b", "e or not t", "o be"):  # cut anywhere
        grams.add(piece)
    grams.end()
    assert grams.words == 6
    assert grams.shares("words") == pytest.approx((4 / 6, 4 / 5, 4 / 4))  # to be or not; to be, be or, or not, not to
    assert grams.shares("characters")[0] == pytest.approx(len(set("to be or not to be")) / 18)


def test_an_empty_text_has_no_ngrams():
    assert DistinctGrams().shares("words") == (0.0, 0.0, 0.0)


def test_characters_are_counted_where_there_are_no_words():
    prose, chinese = DistinctGrams(), DistinctGrams()
    prose.add("the fox went to the river and said nothing ")
    chinese.add("狐狸去了河边什么也没说然后它又走了回去一直到天黑都没有回来")
    assert common_unit([prose]) == "words"
    assert common_unit([chinese]) == "characters"


def test_checkpoints_are_chosen_evenly_with_the_first_and_the_last():
    assert evenly(range(12), 4) == [0, 4, 7, 11]
    assert evenly(range(3), 4) == [0, 1, 2]


def test_a_sweep_is_a_grid_over_its_values():
    sweep = parse_sweep("temperature 0.4 0.8 x top-p 0.5 0.9 1")
    cells = sweep.cells(SamplingParams(top_k=5))
    assert [(cell.temperature, cell.top_p) for cell in cells] == [
        (0.4, 0.5), (0.4, 0.9), (0.4, 1.0), (0.8, 0.5), (0.8, 0.9), (0.8, 1.0),
    ]  # fmt: skip
    assert {cell.top_k for cell in cells} == {5}


def test_a_sweep_over_one_setting_takes_words_for_values_and_any_name():
    assert [cell.top_k for cell in parse_sweep("top-k 5 off").cells(SamplingParams())] == [5, 0]
    assert [cell.max_new_tokens for cell in parse_sweep("new tokens 50 1,000").cells(SamplingParams())] == [50, 1000]
    assert parse_sweep("repetition_penalty 1 1.2").rows.parameter.field == "repetition_penalty"
    assert parse_sweep("temp 0 1, top-p .5 1").columns.parameter.field == "top_p"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "nothing is swept"),
        ("temperature 1", "has 1 value"),
        ("temperature", "has no values"),
        ("temperature 0 1 2 3 4", "has 5 values"),
        ("temperature 0.5 0.5", "twice"),
        ("temperature 0 1 x temp 0 1", "twice"),
        ("temperature 0 1 x top-p 0.1 1 x min-p 0 0.1", "two settings at most"),
        ("temperatur 0 1", "cannot be swept"),
        ("seed 1 2", "cannot be swept"),
        ("temperature warm 1", "temperature"),
        ("top-p 0.5 7", "top_p"),
    ],
)
def test_what_is_no_sweep_is_said_in_words(typed: str, said: str):
    with pytest.raises(InvalidSettingError) as problem:
        parse_sweep(typed)
    assert said in problem.value.message
    assert problem.value.hint
