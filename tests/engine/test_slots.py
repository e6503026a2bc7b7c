"""What a model has read need not be read again: a text that goes on from another, or begins as it does, costs what is
new in it, and is the same; and texts that have gone leave nothing behind.
"""

from __future__ import annotations

import itertools

import psutil
import pytest
import torch
from drafted import AnyRows, count_rows, write_down
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoder import Owner

from engine.checkpoints import LoadedModel, load_model
from engine.config import ENDLESS, ModelConfig, SamplingParams
from engine.inference.decoder import Decoder
from engine.inference.generator import Generation
from engine.inference.slots import WORTH_COPYING, Slots, zeros

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=10, seed=0)
PROMPT = "The fox went to the river, and the river"


@pytest.fixture(scope="module")
def models(tiny_model) -> tuple[LoadedModel, LoadedModel]:
    return load_model("tiny", "cpu", "fp32"), load_model("tiny", "cpu", "fp32")


def forgetful(model: LoadedModel) -> LoadedModel:
    """The model as if it had read nothing."""
    model.decoder = Decoder(model.gpt, model.precision)
    return model


@pytest.fixture
def model(models) -> LoadedModel:
    """A model that has read nothing."""
    return forgetful(models[0])


@pytest.fixture(scope="module")
def written_afresh(models):
    """What a model writes that has read nothing."""
    return lambda ids, params=GREEDY: write_down(begin(forgetful(models[1]), ids, params))[-1]


def begin(model, ids, params=GREEDY, **options):
    return Generation(model, ids, params, **{"speculate": False, **options})


@pytest.mark.parametrize("change", ["continued", "regenerated", "forked", "edited at its end", "edited", "shortened"])
def test_only_what_changed_is_read_again(model, written_afresh, monkeypatch, change):
    prompt = model.tokenizer.encode(PROMPT)
    text = write_down(begin(model, prompt))[-1]
    held = len(text) - 1  # the last token was drawn, and not read
    ids, new = {
        "continued": (text, len(text) - held),
        "regenerated": (prompt, 1),
        "forked": (text[:-3], 1),
        "edited at its end": ([*text[:-4], *model.tokenizer.encode("who goes")], 8),
        "edited": ([*text[:20], text[20] + 1, *text[21:]], len(text) - 20),
        "shortened": (prompt[:9], 1),
    }[change]
    expected = written_afresh(ids)
    rows = count_rows(monkeypatch)
    assert write_down(begin(model, ids))[-1] == expected
    assert rows == [new] + [1] * 9
    assert len(model.decoder.slots) == 1


def test_a_text_of_nothing_in_common_is_read_whole(model, written_afresh, monkeypatch):
    write_down(begin(model, model.tokenizer.encode(PROMPT)))
    ids = model.tokenizer.encode("and more")
    rows = count_rows(monkeypatch)
    assert write_down(begin(model, ids))[-1] == written_afresh(ids)
    assert len(ids) in rows


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_whatever_was_read_before_a_text_is_the_same(models, written_afresh, data):
    """Also where guesses were read that did not come true, and texts end, are dropped, or go on beside it."""
    model = forgetful(models[0])
    model.tempo = AnyRows(data.draw(st.integers(0, 1000)))
    going_on: list[Generation] = []
    texts = [model.tokenizer.encode(PROMPT), [1]]
    for _ in range(data.draw(st.integers(2, 6))):
        before = data.draw(st.sampled_from(texts))
        ids = before[: data.draw(st.integers(1, len(before)))] + data.draw(st.lists(st.integers(1, 30), max_size=3))
        params = SamplingParams(
            temperature=data.draw(st.sampled_from([0.0, 1.2])),
            max_new_tokens=data.draw(st.integers(1, 90)),
            seed=data.draw(st.integers(0, 3)),
        )
        expected = written_afresh(ids, params)
        generation = begin(model, ids, params, speculate=data.draw(st.booleans()))
        list(itertools.islice(generation, data.draw(st.integers(0, 90))))
        assert generation.tokens == expected[: len(generation.tokens)]
        texts.append(generation.tokens)
        if data.draw(st.booleans()):
            going_on.append(generation)
        if going_on and data.draw(st.booleans()):
            earlier = going_on.pop(0)
            seen = list(earlier.tokens)
            list(earlier)
            assert earlier.tokens == written_afresh(earlier.prompt_tokens, earlier.params)
            assert earlier.tokens[: len(seen)] == seen
        del generation
    assert sum(slot.in_use for slot in model.decoder.slots[:]) <= len(going_on)


def test_a_slot_is_free_again_when_its_text_ends(model):
    ended = begin(model, [1])
    assert not model.decoder.slots[:]
    next(ended)
    assert [slot.in_use for slot in model.decoder.slots[:]] == [True]
    list(ended)
    assert ended.finish_reason == "length"
    assert [slot.in_use for slot in model.decoder.slots[:]] == [False]
    cancelled = begin(model, [1])
    next(cancelled)
    cancelled.cancel()
    assert [slot.in_use for slot in model.decoder.slots[:]] == [False]


def test_a_slot_is_free_again_when_its_text_is_dropped(model):
    dropped = begin(model, [1])
    next(dropped)
    assert [slot.in_use for slot in model.decoder.slots[:]] == [True]
    del dropped
    assert [slot.in_use for slot in model.decoder.slots[:]] == [False]


def test_a_text_that_ended_long_ago_takes_no_slot_from_another_when_it_is_dropped(model, written_afresh):
    ended = begin(model, [1])
    list(ended)
    other = begin(model, [1, 2, 3], SamplingParams(temperature=1.2, seed=3, max_new_tokens=80))
    next(other)
    assert len(model.decoder.slots) == 1
    del ended
    assert [slot.in_use for slot in model.decoder.slots[:]] == [True]
    third = begin(model, [4, 5])
    list(third)
    list(other)
    assert other.tokens == written_afresh([1, 2, 3], other.params)


def test_the_beginning_of_a_text_that_is_still_being_written_is_copied(model, written_afresh, monkeypatch):
    params = SamplingParams(temperature=1.0, seed=2, max_new_tokens=60)
    expected = written_afresh(model.tokenizer.encode(PROMPT), params)
    first = begin(model, model.tokenizer.encode(PROMPT), params)
    list(itertools.islice(first, 10))
    fork = first.tokens[: len(PROMPT) + 5]
    assert len(fork) > WORTH_COPYING
    rows = count_rows(monkeypatch)
    assert write_down(begin(model, fork))[-1] == written_afresh(fork)
    assert rows == [1] * 10 + [len(fork)] + [1] * 9  # the last ten passes are those of the model that read nothing
    list(first)
    assert first.tokens == expected  # whose place is its own still


def test_a_beginning_is_copied_whoever_asks_inside_of_inference_mode_or_outside():
    config = ModelConfig(n_layer=1, n_head=2, n_embd=32, block_size=100, vocab_size=66)
    slots, owners = Slots(config, torch.device("cpu"), torch.float32), [Owner() for _ in range(3)]
    with torch.inference_mode():  # as in a pass, for which the room was made
        first, second = (slots.take(owner, []) for owner in owners[:2])
        slots.layers[0][:, first.index, :, :50] = 7.0
        first.held = [1] * 50
        slots.release(second)
    third = slots.take(owners[2], [1] * 60)
    assert (third.index, third.held) == (second.index, [1] * 50)
    assert (slots.layers[0][:, third.index, :, :50] == 7.0).all()


def test_of_a_text_that_is_still_being_written_little_is_not_worth_copying(model, monkeypatch):
    first = begin(model, model.tokenizer.encode(PROMPT[:12]), SamplingParams(seed=2, max_new_tokens=ENDLESS))
    next(first)
    ids = model.tokenizer.encode(PROMPT[:12])
    rows = count_rows(monkeypatch)
    write_down(begin(model, ids))
    assert rows == [12] + [1] * 9


def test_of_free_slots_the_one_with_most_of_the_text_is_taken_and_else_the_one_longest_unused(model, monkeypatch):
    prompts = [model.tokenizer.encode(text) for text in ("The fox went", "and the river", "I go where")]
    generations = [begin(model, ids, SamplingParams(seed=1, max_new_tokens=5)) for ids in prompts]
    for generation in generations:
        next(generation)
    for generation in generations:
        list(generation)
    assert len(model.decoder.slots) == 4  # doubled, so that few texts make it grow
    rows = count_rows(monkeypatch)
    again = begin(model, prompts[1], SamplingParams(seed=1, max_new_tokens=5))
    list(again)
    assert again.tokens == generations[1].tokens
    assert rows == [1] * 5
    free = [begin(model, [30 - place]) for place in range(2)]
    for generation in free:
        next(generation)
    assert free[0].slot.index == 3  # which held nothing yet
    assert free[1].slot.index == 0  # the one that was used first


def test_memory_does_not_grow_when_texts_come_and_go(model):
    def bytes_held():
        return sum(layer.nbytes for layer in model.decoder.slots.layers)

    write_down(begin(model, [1]))
    before = bytes_held()
    for seed in range(40):
        generation = begin(model, [1 + seed % 20], SamplingParams(seed=seed, max_new_tokens=80))
        list(itertools.islice(generation, seed * 2))  # some end, some are dropped in the middle
        del generation
    assert len(model.decoder.slots) == 1
    assert bytes_held() == before
    for _ in range(5):
        pair = [begin(model, [2]), begin(model, [3])]
        for generation in pair:
            next(generation)
        del pair, generation
    assert len(model.decoder.slots) == 2
    assert bytes_held() == 2 * before


def test_room_for_many_texts_takes_memory_as_they_fill_it():
    config = ModelConfig(n_layer=4, n_head=12, n_embd=768, block_size=1024, vocab_size=66)
    process, owners = psutil.Process(), [Owner() for _ in range(16)]
    before, slots = process.memory_info().rss, Slots(config, torch.device("cpu"), torch.float32)
    for count, owner in enumerate(owners, start=1):
        slot = slots.take(owner, [count])
        slot.held = [0] * 50
        for layer in slots.layers:
            layer[:, slot.index, :, :50] = count
    nominal = sum(layer.nbytes for layer in slots.layers)
    assert nominal > 4e8
    assert process.memory_info().rss - before < nominal / 5  # 50 of 1,152 places, in whole pages
    for index in range(16):  # each kept what it had while room was made for others
        assert all((layer[:, index, :, :50] == index + 1).all() for layer in slots.layers)
        assert not any(layer[:, index, :, 64:70].any() for layer in slots.layers)


def test_where_there_is_no_room_at_all_it_is_said_so():
    with pytest.raises(MemoryError, match="no room for the keys and values of 72057594037927936 texts"):
        zeros((2, 1 << 56, 1), torch.device("cpu"), torch.float32)
