"""What the library guesses is what Python guesses, so that a text has as few passes wherever it is written."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from drafted import load_drafted, write_down
from hypothesis import given, settings
from hypothesis import strategies as st
from test_draft import random_ids

from engine.config import SamplingParams
from engine.inference.draft import Draft, match_length
from engine.inference.draft_table import DraftTable, build_table
from engine.inference.generator import Generation
from engine.inference.native import building
from engine.inference.native.guessing import MOST_GUESSES, ROOMS, NativeDraft, fits, guess

LIBRARY = building.find().library
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="there is no C compiler")


def guessed(draft, text, noise, temperature, count):
    draft.want(text, noise.data_ptr(), temperature, count)
    guess(LIBRARY, [draft])
    return draft.guesses


def noise_of(seed, count, vocab_size):
    numbers = np.random.default_rng(seed).gumbel(size=(count, vocab_size)).astype(np.float32)
    return torch.from_numpy(numbers)


@settings(deadline=None, max_examples=80)
@given(
    st.data(),
    st.sampled_from([1, 2, 3, 66, 256, 257, 1025, 5000]),
    st.sampled_from([0.0, 0.01, 0.8, 1.0, 100.0]),
    st.integers(0, 2**32),
)
def test_they_are_those_of_python(data, vocab_size, temperature, seed):
    few = st.integers(0, vocab_size - 1) | st.integers(0, min(3, vocab_size - 1))
    table = build_table(np.array(data.draw(st.lists(few, max_size=120)), np.uint32), vocab_size)
    text = data.draw(st.lists(few, min_size=1, max_size=40)) * data.draw(st.integers(1, 3))
    native, python = NativeDraft(LIBRARY, table, vocab_size), Draft(table, text)
    for turn in range(4):
        count = data.draw(st.integers(1, 7))
        noise = noise_of(seed + turn, count, vocab_size)
        found = guessed(native, text, noise, temperature, count)
        assert found == python.guess(text, noise.tolist(), temperature, count)
        text += [*found, *data.draw(st.lists(few, max_size=5))]


def test_they_are_those_of_python_in_a_text_that_repeats_itself_at_length():
    table = build_table(random_ids(0, 5000, 66), 66)
    verse = random_ids(1, 70, 66).tolist()
    text, native = verse[:], NativeDraft(LIBRARY, table, 66)
    python = Draft(table, text)
    came_true = 0
    for place in range(0, 140, 5):
        noise = noise_of(place, 5, 66)
        found = guessed(native, text, noise, 0.8, 5)
        assert found == python.guess(text, noise.tolist(), 0.8, 5)
        following = (verse * 3)[place : place + 5]
        came_true += found == following
        text += following
    assert came_true > 10


@pytest.mark.parametrize("vocab_size", [1 << 20, (1 << 20) + 1])
def test_large_vocabularies_have_their_ids_looked_up_whole(vocab_size):
    ids = random_ids(3, 3000, 40).astype(np.uint32) + np.uint32(vocab_size - 40)
    table = build_table(ids, vocab_size)
    assert fits(table)
    text, none = ids[:200].tolist(), torch.empty(0)
    python = Draft(table, text).guess(text, [], 0.0, 5)
    assert guessed(NativeDraft(LIBRARY, table, vocab_size), text, none, 0.0, 5) == python
    assert len(python) == 5


def test_a_vocabulary_whose_matches_do_not_fit_is_guessed_by_python():
    assert fits(build_table(np.zeros(10, np.uint32), 1 << 21))
    assert not fits(build_table(np.zeros(10, np.uint32), (1 << 21) + 1))


def test_a_table_that_has_a_context_many_times_is_laid_out_and_guesses_as_it_does_in_python():
    count = 20_003
    arrays = {
        "counts": np.array([1, count], np.uint32),
        "oldest": np.full(1 + count, 5, np.uint8),
        "children": np.array([count], np.uint32),
        "widths": np.ones(1 + count, np.uint8),
        "ids": (np.arange(1 + count) % 7).astype(np.uint8),
        "shares": np.zeros(1 + count, np.uint8),
    }
    table, none = DraftTable(66, arrays), torch.empty(0)
    found = guessed(NativeDraft(LIBRARY, table, 66), [5], none, 0.0, 1)
    assert found == Draft(table, [5]).guess([5], [], 0.0, 1) == [count % 7]


def test_many_texts_guess_in_one_call_and_none_for_another():
    table = build_table(random_ids(0, 6000, 50) % 9, 50)
    texts = [random_ids(seed, 60, 9).tolist() for seed in range(30)]
    noise = [noise_of(seed, 4, 50) for seed in range(30)]
    drafts = [NativeDraft(LIBRARY, table, 50) for _ in texts]
    for draft, text, rows, count in zip(drafts, texts, noise, [1, 2, 3, 4, 0] * 6, strict=True):
        draft.want(text, rows.data_ptr(), 0.8, count)
    guess(LIBRARY, drafts)
    for draft, text, rows, count in zip(drafts, texts, noise, [1, 2, 3, 4, 0] * 6, strict=True):
        assert draft.guesses == Draft(table, text).guess(text, rows.tolist(), 0.8, count)


def test_no_more_are_made_than_there_is_room_for():
    table = build_table(np.array([0, 1] * 300, np.uint8), 2)
    assert len(guessed(NativeDraft(LIBRARY, table, 2), [0, 1], torch.zeros(20, 2), 0.8, 20)) == MOST_GUESSES


@pytest.mark.parametrize("vocab_size", [256, 50257])
def test_places_are_told_apart_by_all_tokens_before_them(vocab_size):
    table = build_table(random_ids(0, 3000, vocab_size), vocab_size)
    alike = random_ids(1, match_length(vocab_size) - 1, vocab_size).tolist()
    befores, behinds = random_ids(2, 400, vocab_size).reshape(2, 40, 5).tolist()
    text = [id for before, behind in zip(befores, behinds, strict=True) for id in (*before, *alike, *behind)]
    none, came_true = torch.empty(0), 0
    for before, behind in zip(befores, behinds, strict=True):
        again = [*text, *before, *alike]
        found = guessed(NativeDraft(LIBRARY, table, vocab_size), again, none, 0.0, 4)
        assert found == Draft(table, again).guess(again, [], 0.0, 4)
        came_true += found == behind[:4]
    assert came_true > 35


def test_a_long_text_forgets_what_was_long_ago():
    table = build_table(random_ids(0, 3000, 66), 66)
    verse = random_ids(1, 40, 66).tolist()
    draft, none = NativeDraft(LIBRARY, table, 66), torch.empty(0)
    text = [*verse, *random_ids(2, 30, 66).tolist()]
    assert guessed(draft, [*text, *verse[:12]], none, 0.0, 4) == verse[12:16]
    text += verse[:12]
    for seed in range(8):
        text += random_ids(3 + seed, ROOMS, 66).tolist()
        guessed(draft, text, none, 0.0, 4)
    again = guessed(draft, [*text, *verse[:12]], none, 0.0, 4)
    assert again != verse[12:16]


def test_the_table_goes_with_the_model_that_it_belongs_to():
    table = build_table(random_ids(0, 1000, 66), 66)
    one, other = NativeDraft(LIBRARY, table, 66), NativeDraft(LIBRARY, table, 66)
    assert one._table is other._table
    gone = weakref.ref(one._table)
    del table
    gc.collect()
    assert guessed(one, [1, 2, 3], torch.zeros(3, 66), 0.8, 3)  # as long as a text uses it
    del one, other
    gc.collect()
    assert gone() is None


def test_a_model_with_a_table_has_its_texts_guessed_by_the_library(tiny_model):
    model = load_drafted("tiny", "fp32")
    generation = Generation(model, model.tokenizer.encode("The fox"), SamplingParams(seed=1, max_new_tokens=80))
    assert isinstance(generation._draft, NativeDraft)
    plain = Generation(
        model, model.tokenizer.encode("The fox"), SamplingParams(seed=1, max_new_tokens=80), speculate=False
    )
    assert write_down(generation) == write_down(plain)
