"""What is written is a pure function of model, prompt, settings and seed, however it is streamed or resumed."""

from __future__ import annotations

import collections
import itertools
import math

import numpy as np
import pytest
import torch
from drafted import count_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_tiny

from engine.checkpoints import load_model
from engine.config import ENDLESS, SamplingParams
from engine.errors import CheckpointError, DataError
from engine.inference.generator import Drawn, Generation
from engine.inference.noise import Noise, gumbel, philox
from engine.inference.sampling import draw, filter_logits
from engine.inference.stream import TextStream
from engine.inference.window import window_start


def filtered_row(logits, params, seen=()):
    """The filters on one row of logits, after a text of these ids."""
    mask = torch.zeros_like(logits, dtype=torch.bool)
    mask[torch.as_tensor(seen, dtype=torch.long)] = True
    return filter_logits(logits[None], params, mask[None])[0]


def draw_row(filtered, temperature, noise):
    return int(draw(filtered[None], temperature, noise[None]))


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_model("tiny", "cpu", "fp32")


def write(model, prompt="The fox", **params):
    generation = Generation(
        model, model.tokenizer.encode(prompt), SamplingParams(**{"seed": 1, "temperature": 1.2, **params})
    )
    written = list(generation)
    return generation, written, "".join(token.text for token in written) + generation.tail


# Noise


def test_philox_gives_the_published_words():
    """Known answers of Random123's kat_vectors for philox4x32-10."""
    for word, key, expected in (
        (0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0xFFFFFFFF, 0xFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ):
        counter = tuple(torch.tensor([word], dtype=torch.int64) for _ in range(4))
        assert tuple(int(out) for out in philox(counter, (key, key))) == expected


@given(seed=st.integers(0, 2**63 - 1), first=st.integers(0, 2**40), size=st.integers(1, 70))
@settings(max_examples=40, deadline=None)
def test_noise_is_the_same_however_it_is_asked_for(seed, first, size):
    block = gumbel(seed, first, 4, size)
    for row in range(4):
        assert torch.equal(gumbel(seed, first + row, 1, size)[0], block[row])
        noise = Noise(seed, size)
        assert torch.equal(noise.rows(first + row, 9)[: 4 - row], block[row:])
        assert np.array_equal(np.array(noise.plain_rows(first + row, 4 - row), dtype=np.float32), block[row:].numpy())
    assert torch.isfinite(block).all()


def test_neighbouring_seeds_and_positions_are_unrelated():
    base = gumbel(7, 0, 200, 50)
    for other in (gumbel(8, 0, 200, 50), gumbel(7, 1, 200, 50), gumbel(7 + 2**32, 0, 200, 50)):
        correlation = np.corrcoef(base.flatten().numpy(), other.flatten().numpy())[0, 1]
        assert abs(correlation) < 0.05  # 10,000 pairs: five standard deviations


def test_noise_is_gumbel_noise():
    numbers = gumbel(3, 0, 1000, 100).flatten()
    assert numbers.mean() == pytest.approx(0.5772, abs=0.02)
    assert numbers.std() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)


# Filters


def reference(logits, params, seen):
    """The distribution of transformers' own processors, in their order."""
    from transformers.generation import logits_process as lp

    steps = []
    if params.repetition_penalty != 1.0:
        steps.append(lp.RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    steps.append(lp.TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        steps.append(lp.TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        steps.append(lp.TopPLogitsWarper(params.top_p))
    if params.min_p > 0.0:
        steps.append(lp.MinPLogitsWarper(params.min_p))
    scores = logits[None]
    for step in steps:
        scores = step(seen[None], scores)
    return scores[0].softmax(dim=-1)


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(2, 200),
    spread=st.floats(0.1, 8.0),
    penalty=st.sampled_from([1.0, 0.7, 1.3, 3.0]),
    temperature=st.floats(0.05, 3.0),
    top_k=st.sampled_from([0, 1, 2, 10, 1000]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_filters_give_the_distribution_of_transformers(seed, size, spread, penalty, temperature, top_k, top_p, min_p):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=generator) * spread
    seen = torch.randint(size, (20,), generator=generator)
    params = SamplingParams(repetition_penalty=penalty, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ours = filtered_row(logits, params, seen).softmax(dim=-1)
    assert torch.allclose(ours, reference(logits, params, seen), atol=1e-4)


def test_draws_follow_the_filtered_distribution():
    params = SamplingParams(temperature=1.3, top_p=0.9)
    logits = torch.randn(12, generator=torch.Generator().manual_seed(5)) * 2
    filtered = filtered_row(logits, params)
    expected = filtered.softmax(dim=-1)
    count = 20_000
    drawn = (filtered + gumbel(11, 0, count, 12)).argmax(dim=-1)
    shares = torch.bincount(drawn, minlength=12) / count
    assert draw_row(filtered, 1.3, gumbel(11, 0, 1, 12)[0]) == int(drawn[0])
    assert (shares - expected).abs().max() < 5 * math.sqrt(0.25 / count)
    assert (shares[expected == 0] == 0).all()


def test_zero_temperature_is_greedy_whatever_the_noise(model):
    _, first, _ = write(model, temperature=0.0, seed=1, max_new_tokens=30)
    _, second, _ = write(model, temperature=0.0, seed=2, max_new_tokens=30)
    assert [token.token for token in first] == [token.token for token in second]
    ids = model.tokenizer.encode("The fox")
    for token in first:
        assert token.token == int(model.gpt(torch.tensor([ids]))[0, -1].argmax())
        ids.append(token.token)


# One text


def test_the_same_seed_writes_the_same_text_and_another_another(model):
    texts = [write(model, seed=seed, max_new_tokens=300)[2] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@given(cut=st.integers(1, 149), seed=st.integers(0, 50))
@settings(max_examples=12, deadline=None)
def test_a_text_resumed_anywhere_goes_on_as_if_never_interrupted(model, cut, seed):
    whole, tokens, _ = write(model, seed=seed, max_new_tokens=150)
    prefix = [*whole.prompt_tokens, *(token.token for token in tokens[:cut])]
    cut = min(cut, len(tokens) - 1)
    params = SamplingParams(seed=seed, temperature=1.2, max_new_tokens=len(tokens) - cut)
    resumed = list(Generation(model, prefix, params))
    assert [token.token for token in resumed] == [token.token for token in tokens[cut:]]
    assert [token.position for token in resumed] == [token.position for token in tokens[cut:]]


@given(changes=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0.3, 0.9, 1.7])), min_size=1, max_size=3))
@settings(max_examples=12, deadline=None)
def test_a_change_of_settings_acts_from_the_next_token_on(model, changes):
    params = SamplingParams(seed=3, temperature=1.2, max_new_tokens=150)
    generation = Generation(model, model.tokenizer.encode("The"), params)
    for count, temperature in changes:
        written = list(itertools.islice(generation, count))
        if generation.finish_reason == "stop":  # the end-of-text token may be drawn
            return
        assert len(written) == count
        position = generation.position
        generation.set_params(generation.params.replace(temperature=temperature, seed=99))
        assert generation.seed == 3
        fresh = Generation(model, generation.tokens, SamplingParams(seed=3, temperature=temperature))
        fresh_token, token = next(fresh, None), next(generation, None)
        if token is None:
            assert fresh_token is None
            return
        assert token.token == fresh_token.token
        assert token.position == position


def test_a_text_goes_on_past_the_context_and_each_window_is_the_stated_one(model):
    generation, written, _ = write(model, max_new_tokens=200)
    assert len(written) == 200
    block = model.config.block_size
    for token in written:
        start = window_start(token.position, block)
        assert 0 <= start <= token.position
        assert block // 2 < token.position - start <= block or start == 0
        logits = model.gpt(torch.tensor([generation.tokens[start : token.position]]))[0, -1].float()
        filtered = filtered_row(logits, generation.params)
        assert token.token == draw_row(filtered, 0.8, gumbel(1, token.position, 1, model.config.vocab_size)[0])


def test_the_cost_of_a_token_does_not_grow_with_the_text(model, monkeypatch):
    read = count_rows(monkeypatch)
    generation = Generation(model, [1], SamplingParams(seed=1, max_new_tokens=1000), speculate=False)
    assert len(list(generation)) == 1000
    half = len(read) // 2
    assert sum(read[half:]) <= 2.2 * 500  # at most about two tokens read for each one written


def test_an_empty_prompt_begins_with_the_end_of_text_token(model):
    generation, written, text = write(model, prompt="", max_new_tokens=20)
    assert generation.prompt_tokens == (model.tokenizer.eot_id,)
    assert len(written) == 20
    assert written[0].position == 1
    assert "endoftext" not in text


def test_the_text_ends_with_reason_stop_when_the_end_of_text_token_is_drawn(tiny_model):
    model = load_model("tiny", "cpu", "fp32")
    with torch.no_grad():
        model.gpt.head.weight[model.tokenizer.eot_id] *= -1
    results = [write(model, seed=seed, temperature=2.0, max_new_tokens=400) for seed in range(3)]
    assert any(generation.finish_reason == "stop" for generation, _, _ in results)
    for _, written, _ in results:
        assert model.tokenizer.eot_id not in [token.token for token in written]


def test_endless_is_endless(model):
    generation = Generation(model, [1], SamplingParams(seed=1, max_new_tokens=ENDLESS))
    assert len(list(itertools.islice(generation, 700))) == 700
    assert generation.finish_reason is None
    generation.cancel()
    assert generation.finish_reason == "cancelled"
    assert next(generation, None) is None


def test_a_prompt_longer_than_the_context_is_read_from_its_end(model):
    generation, written, _ = write(model, prompt="The fox went to the river. " * 10, max_new_tokens=5)
    assert len(written) == 5
    assert generation.context <= model.config.block_size


def test_an_id_outside_the_vocabulary_is_refused(model):
    with pytest.raises(DataError, match="not in the vocabulary"):
        Generation(model, [10_000], SamplingParams())


def test_without_a_seed_one_is_drawn_and_told(model):
    first = Generation(model, [1], SamplingParams(max_new_tokens=50))
    again = Generation(model, [1], SamplingParams(max_new_tokens=50, seed=first.seed))
    assert [t.token for t in first] == [t.token for t in again]
    assert first.seed != Generation(model, [1], SamplingParams()).seed


# What is reported


def test_alternatives_carry_the_models_own_logprob_and_the_filtered_probability(model):
    params = SamplingParams(seed=1, temperature=0.5, top_k=3, max_new_tokens=5)
    ids = model.tokenizer.encode("The fox")
    for token in Generation(model, ids, params, alternatives=8):
        logits = model.gpt(torch.tensor([ids]))[0, -1].float()
        own = logits.log_softmax(dim=-1)
        drawn = filtered_row(logits, params).softmax(dim=-1)
        assert token.logprob == pytest.approx(float(own[token.token]), abs=1e-5)
        assert token.rank == int((own > own[token.token]).sum()) + 1
        assert token.entropy == pytest.approx(float(-(own.exp() * own).sum()), abs=1e-4)
        assert [a.token for a in token.top] == own.topk(8).indices.tolist()
        for alternative in token.top:
            assert alternative.logprob == pytest.approx(float(own[alternative.token]), abs=1e-5)
            assert alternative.drawn == pytest.approx(float(drawn[alternative.token]), abs=1e-5)
        assert sum(a.drawn > 0 for a in token.top) == 3
        ids.append(token.token)


def test_the_repetition_penalty_sees_the_whole_text(model):
    generation, written, _ = write(model, repetition_penalty=1.5, temperature=0.0, max_new_tokens=60)
    for token in written[::7]:
        before = generation.tokens[: token.position]
        start = window_start(token.position, model.config.block_size)
        logits = model.gpt(torch.tensor([before[start:]]))[0, -1].float()
        assert token.token == int(filtered_row(logits, generation.params, before).argmax())


# Text out of tokens


@given(text=st.text(max_size=60), sizes=st.lists(st.integers(1, 5), min_size=1))
def test_text_streams_as_whole_characters(text, sizes):
    data, stream, out, place = text.encode(), TextStream(), [], 0
    for size in itertools.cycle(sizes):
        if place >= len(data):
            break
        out.append(stream.push(data[place : place + size]))
        place += size
    out.append(stream.close())
    assert "".join(out) == text
    assert "�" not in "".join(out) or "�" in text


@given(
    text=st.text("ab", max_size=30),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    size=st.integers(1, 4),
)
@settings(max_examples=300)
def test_a_text_ends_before_its_first_stop_string_however_it_arrives(text, stop, size):
    stream = TextStream(stop)
    pieces = [stream.push(text[place : place + size].encode()) for place in range(0, len(text), size)]
    found = "".join(pieces) + stream.close()
    # the stop strings that the first pieces with one of them hold; the text ends before the leftmost of these
    seen = next((text[:end] for end in range(size, len(text) + size, size) if any(s in text[:end] for s in stop)), "")
    ends = [seen.find(string) for string in stop if string in seen]
    assert found == (text[: min(ends)] if ends else text)
    assert all(string not in found for string in stop)
    assert text.startswith(found)
    assert stream.stopped == bool([string for string in stop if string in text])


def test_overlapping_stop_strings_are_found():
    stream = TextStream(["aab"])
    assert "".join(stream.push(char.encode()) for char in "xaaab!") == "xa"
    assert stream.stopped


def test_a_stop_string_ends_the_text_and_is_not_part_of_it(model):
    _, _, text = write(model, max_new_tokens=300)
    stop = text[40:42]
    generation, written, stopped = write(model, max_new_tokens=300, stop=(stop,))
    assert stopped == text[: text.find(stop)]
    assert generation.finish_reason == "stop"
    assert len(written) == text.find(stop) + 2


@pytest.fixture(scope="module")
def bytes_model(home):
    make_tiny("tiny-bytes", tokenizer="byte", steps=1)
    return load_model("tiny-bytes", "cpu", "fp32")


@given(
    text=st.text("abé☃🙂", max_size=20),
    ends_at=st.none() | st.integers(0, 30),
    stop=st.lists(st.text("ab☃", min_size=1, max_size=3), max_size=2),
    limit=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 8), min_size=1),
)
@settings(max_examples=200, deadline=None)
def test_what_is_ready_is_the_same_text_at_once_and_token_by_token(bytes_model, text, ends_at, stop, limit, sizes):
    ids = [*bytes_model.tokenizer.encode(text), 0xE2]  # the last one begins a character
    if ends_at is not None:
        ids.insert(ends_at, bytes_model.tokenizer.eot_id)
    params = SamplingParams(seed=1, stop=tuple(stop), max_new_tokens=limit)
    one, other = (Generation(bytes_model, (), params) for _ in range(2))
    place, size = 0, itertools.cycle(sizes)
    while place < len(ids) and one.is_waiting:
        assert other.is_waiting
        count = next(size)
        drawn = [Drawn(id, -1.0, ()) for id in ids[place : place + count]]
        place += count
        one.take(0, drawn)
        other.take(0, drawn)
        told = ""
        while not other.is_waiting and other.finish_reason is None:
            told += other.ready_text()
        assert told == "".join(token.text for token in one.ready())
        assert other.tokens == one.tokens
    assert other.finish_reason == one.finish_reason
    assert other.tail == one.tail


def test_what_was_written_before_there_is_no_number_is_not_lost(model):
    generation = Generation(model, (), SamplingParams(seed=1))
    generation.take(0, [Drawn(1, -1.0, ()), Drawn(2, -1.0, ()), Drawn(3, math.nan, ())])
    piece = model.tokenizer.piece
    assert [generation.ready_text(), generation.ready_text()] == [piece(1), piece(2)]
    with pytest.raises(CheckpointError, match="no number"):
        generation.ready_text()


@pytest.mark.parametrize("text", ["☃é☃", "naïve 日本 🙂 end"])
def test_a_text_taken_up_inside_a_character_ends_it_whole(bytes_model, text):
    model = bytes_model
    ids = model.tokenizer.encode(text)
    for cut in range(1, len(ids)):
        stream = Generation(model, ids[:cut], SamplingParams())._stream
        rest = "".join(stream.push(model.tokenizer.token_bytes(token)) for token in ids[cut:]) + stream.close()
        whole_before = text.encode()[:cut].decode("utf-8", "ignore")
        assert whole_before + rest == text


def test_a_model_that_answers_with_no_number_is_named(tiny_model):
    model = load_model("tiny", "cpu", "fp32")
    with torch.no_grad():
        model.gpt.head.weight[3] = float("nan")
    with pytest.raises(CheckpointError, match="no number"):
        write(model)


@pytest.mark.parametrize("temperature", [1e-40, 1e-20, 1e-3])
def test_the_smallest_temperatures_are_greedy_and_not_broken(temperature):
    logits = torch.tensor([1.0, 5.0, 5.1, -3.0])
    for top_p in (1.0, 0.9):
        filtered = filtered_row(logits, SamplingParams(temperature=temperature, top_p=top_p))
        assert not torch.isnan(filtered).any()
        assert draw_row(filtered, temperature, gumbel(1, 0, 1, 4)[0]) == 2


def test_bytes_that_are_no_text_become_replacement_characters(home):
    make_tiny("tiny-bytes", tokenizer="byte", steps=1)
    model = load_model("tiny-bytes", "cpu", "fp32")
    _, written, text = write(model, max_new_tokens=200, temperature=3.0)
    raw = b"".join(model.tokenizer.token_bytes(token.token) for token in written)
    assert text == raw.decode("utf-8", "replace")
    kinds = collections.Counter(len(token.text) for token in written)
    assert kinds[0] or "�" in text
