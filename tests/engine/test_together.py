"""Texts that are written together are, each of them, the one that it is alone."""

from __future__ import annotations

import pytest
from drafted import AnyRows, count_rows, load_drafted, write_down
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoder import TORCH, WEIGHTS_ALONE, decoder_in
from test_speculation import any_params, any_prompt
from tiny_models import make_tiny

from engine.checkpoints import load_model
from engine.config import ENDLESS, SamplingParams
from engine.inference import together
from engine.inference.decoder import CHUNK, Decoder
from engine.inference.generator import Generation
from engine.inference.together import read_together


@pytest.fixture(scope="module", params=["fp32", "int8", f"fp32{TORCH}", WEIGHTS_ALONE])
def model(request, tiny_model):
    found = load_drafted("tiny", request.param.split()[0].strip(","))
    found.decoder = decoder_in(request.param, found.gpt)
    if not found.decoder.rows_alike:
        pytest.skip("this build of torch has no packed products")
    return found


def begin(model, prompt, params, **options):
    return Generation(model, model.tokenizer.encode(prompt), params, **options)


def in_step(generations):
    """Write texts to their ends, a token of each at a time; None for one that has ended."""
    while True:
        while any(generation.is_waiting for generation in generations):
            read_together(generations)
        tokens = [next(generation, None) for generation in generations]
        if not any(token is not None for token in tokens) and all(each.finish_reason for each in generations):
            return
        yield tokens


def take_all(generations):
    """Write texts to their ends, and take all that is ready of each behind each pass."""
    while any(generation.finish_reason is None for generation in generations):
        read_together(generations)
        for generation in generations:
            list(generation.ready())


def told(generation, tokens):
    return tokens, generation.finish_reason, generation.tail, generation.tokens


texts = st.tuples(
    any_prompt,
    any_params,
    st.booleans(),  # whether guesses are read along
    st.sampled_from([0, 2]),  # alternatives
    st.integers(0, 60),  # tokens of the first before it joins
)


@settings(max_examples=12, deadline=None)
@given(wanted=st.lists(texts, min_size=2, max_size=6), rows=st.integers(0, 1000))
def test_texts_that_come_and_go_are_the_ones_that_each_is_alone(model, wanted, rows):
    alone = [
        write_down(begin(model, prompt, params, speculate=speculate, alternatives=alternatives))
        for prompt, params, speculate, alternatives, _ in wanted
    ]
    model.tempo = AnyRows(rows)
    joined: dict[int, tuple[Generation, list]] = {}
    turn = 0
    while len(joined) < len(wanted) or any(generation.finish_reason is None for generation, _ in joined.values()):
        for place, (prompt, params, speculate, alternatives, joins) in enumerate(wanted):
            if place not in joined and joins <= turn:
                joined[place] = begin(model, prompt, params, speculate=speculate, alternatives=alternatives), []
        read_together([generation for generation, _ in joined.values()])
        for generation, written in joined.values():
            if not generation.is_waiting and (token := next(generation, None)):
                written.append(token)
        turn += 1
    assert [told(*joined[place]) for place in range(len(wanted))] == alone


@settings(max_examples=10, deadline=None)
@given(wanted=st.lists(st.tuples(any_prompt, any_params), min_size=1, max_size=5), rows=st.integers(0, 1000))
def test_all_are_written_to_their_ends_a_token_of_each_at_a_time(model, wanted, rows):
    alone = [write_down(begin(model, prompt, params)) for prompt, params in wanted]
    model.tempo = AnyRows(rows)
    generations = [begin(model, prompt, params) for prompt, params in wanted]
    columns = zip(*in_step(generations), strict=True)
    for generation, column, (tokens, *_, last) in zip(generations, columns, alone, strict=True):
        assert list(column[: len(tokens)]) == tokens
        assert set(column[len(tokens) :]) <= {None}
        assert generation.tokens == last
    assert [told(each, text[0]) for each, text in zip(generations, alone, strict=True)] == alone


def test_more_texts_than_a_pass_holds_take_turns(model, monkeypatch):
    monkeypatch.setattr(together, "MOST_TOGETHER", 4)
    wanted = [SamplingParams(seed=seed, temperature=1.3, max_new_tokens=20) for seed in range(11)]
    generations = [begin(model, "The fox", params) for params in wanted]
    assert len([row for row in in_step(generations) if any(row)]) == 20
    for generation, params in zip(generations, wanted, strict=True):
        assert generation.tokens == write_down(begin(model, "The fox", params))[-1]


def test_texts_share_their_passes(model, monkeypatch):
    model.tempo = AnyRows()
    generations = [begin(model, "The fox", SamplingParams(seed=seed, max_new_tokens=40)) for seed in range(8)]
    passes = count_rows(monkeypatch)
    assert len(list(in_step(generations))) == 40
    prompts = 1 if model.decoder.is_native else 8
    assert len(passes) <= prompts + 39


def test_prompts_are_read_in_the_passes_of_texts_that_go_on(model, monkeypatch):
    if not model.decoder.is_native:
        pytest.skip("torch reads each prompt by itself")
    model.tempo = AnyRows()
    params = [SamplingParams(seed=seed, temperature=1.2, max_new_tokens=25) for seed in range(6)]
    alone = [write_down(begin(model, "The river"[: 3 + each], params[each]))[-1] for each in range(6)]
    generations = [begin(model, "The river"[: 3 + each], params[each], speculate=False) for each in range(6)]
    passes = count_rows(monkeypatch)
    for each in range(6):  # one more with each pass
        read_together(generations[: each + 1])
        for generation in generations[: each + 1]:
            assert len(list(generation.ready())) == 1
    assert len(passes) == 6
    take_all(generations)
    assert [generation.tokens for generation in generations] == alone


def test_texts_of_different_temperatures_are_drawn_in_one_call(model, monkeypatch):
    if not model.decoder.is_native:
        pytest.skip("torch draws texts of one temperature together")
    params = [
        SamplingParams(seed=seed, temperature=temperature, max_new_tokens=40)
        for seed, temperature in enumerate((0.0, 0.3, 0.8, 1.0, 1.7))
    ]
    alone = [write_down(begin(model, "I go", each))[-1] for each in params]
    calls, draw = [], together.native_draw
    monkeypatch.setattr(together, "native_draw", lambda *arguments: calls.append(1) or draw(*arguments))
    generations = [begin(model, "I go", each) for each in params]
    passes = count_rows(monkeypatch)
    take_all(generations)
    assert [generation.tokens for generation in generations] == alone
    assert len(calls) == len(passes)


def test_prompts_that_are_more_than_a_pass_reads_are_read_first_come_first_served(home, monkeypatch):
    make_tiny("tiny-long", steps=1, block_size=640, batch_size=1)
    model = load_model("tiny-long", "cpu", "fp32")
    if not model.decoder.is_native:
        pytest.skip("torch reads each prompt by itself")
    prompts = [f"{each} goes to the river " * 8 for each in ("fox", "dog", "man", "owl")]  # some 180 tokens each
    lengths = [len(model.tokenizer.encode(prompt)) for prompt in prompts]
    assert CHUNK < sum(lengths[:2]) < 2 * CHUNK < sum(lengths[:3]) < sum(lengths) < 3 * CHUNK
    params = SamplingParams(seed=1, max_new_tokens=10)
    alone = [write_down(begin(model, prompt, params))[-1] for prompt in prompts]
    fresh = load_model("tiny-long", "cpu", "fp32")
    generations = [begin(fresh, prompt, params) for prompt in prompts]
    passes = count_rows(monkeypatch)
    ready = []
    while any(generation.is_waiting for generation in generations):
        read_together(generations)
        ready.append([not generation.is_waiting for generation in generations])
    assert ready == [[True, False, False, False], [True, True, False, False], [True] * 4]
    assert max(passes) <= CHUNK
    take_all(generations)
    assert [generation.tokens for generation in generations] == alone


def test_a_beginning_that_texts_share_is_read_once(home, monkeypatch):
    make_tiny("tiny-long", steps=1, block_size=640, batch_size=1)
    model = load_model("tiny-long", "cpu", "fp32")
    if not model.decoder.is_native:
        pytest.skip("torch reads each prompt by itself")
    one, other = "the fox went " * 25, "a dog said " * 10
    ids = [model.tokenizer.encode(prompt) for prompt in (one, one, other, other, other + "I go")]
    assert CHUNK < len(ids[0]) < 2 * CHUNK - len(ids[2])
    params = [SamplingParams(seed=seed, max_new_tokens=5) for seed in range(5)]
    alone = [write_down(Generation(model, *each))[-1] for each in zip(ids, params, strict=True)]
    fresh = load_model("tiny-long", "cpu", "fp32")
    generations = [Generation(fresh, *each, speculate=False) for each in zip(ids, params, strict=True)]
    passes, read = [], Decoder.read_once
    monkeypatch.setattr(
        Decoder, "read_once", lambda self, rows, *rest: passes.append([*map(len, rows)]) or read(self, rows, *rest)
    )
    while any(generation.is_waiting for generation in generations):
        read_together(generations)
    assert passes == [[CHUNK], [len(ids[0]) - CHUNK, len(ids[2])], [1, 1, 4]]
    take_all(generations)
    assert [generation.tokens for generation in generations] == alone


def test_many_texts_guess_too_and_need_fewer_passes(model, monkeypatch):
    """Also where some of them are at the edge of their windows, and have no room for guesses."""
    wanted = [SamplingParams(seed=seed, max_new_tokens=150) for seed in range(20)]  # of a window of 64
    prompts = ["The fox went to the river, and the river said"[: 3 + 2 * place] for place in range(20)]
    alone = [
        write_down(begin(model, prompt, params, speculate=False))
        for prompt, params in zip(prompts, wanted, strict=True)
    ]
    model.tempo = AnyRows(3)
    generations = [begin(model, prompt, params) for prompt, params in zip(prompts, wanted, strict=True)]
    passes = count_rows(monkeypatch)
    take_all(generations)
    assert [generation.tokens for generation in generations] == [text[-1] for text in alone]
    prompts = 1 if model.decoder.is_native else 20
    assert max(passes[prompts:]) >= 4
    written = max(generation.new_tokens for generation in generations)
    shared = [rows for rows in passes if rows <= 8]
    assert len(shared) < written


def test_one_that_is_cancelled_leaves_the_others_alone(model):
    wanted = [SamplingParams(seed=seed, temperature=1.2, max_new_tokens=100) for seed in range(4)]
    alone = [write_down(begin(model, "river", params)) for params in wanted]
    generations = [begin(model, "river", params) for params in wanted]
    rows = []
    for row in in_step(generations):
        rows.append(row)
        if len(rows) == 30:
            generations[1].cancel()
    for place, (generation, column) in enumerate(zip(generations, zip(*rows, strict=True), strict=True)):
        if place == 1:
            assert generation.finish_reason == "cancelled"
            assert list(column[:30]) == alone[1][0][:30]
            assert set(column[30:]) == {None}
        else:
            assert told(generation, list(column)) == alone[place]


def test_a_change_of_settings_of_one_is_none_of_the_others(model):
    wanted = [SamplingParams(seed=seed, temperature=1.0, max_new_tokens=90) for seed in range(3)]
    other = SamplingParams(temperature=0.0, repetition_penalty=1.4, max_new_tokens=90)
    alone = [
        write_down(begin(model, "I go", params), {40: other} if place == 2 else None)
        for place, params in enumerate(wanted)
    ]
    generations = [begin(model, "I go", params) for params in wanted]
    for count, _ in enumerate(in_step(generations), start=1):
        if count == 40:
            generations[2].set_params(other)
    assert [generation.tokens for generation in generations] == [text[-1] for text in alone]


def test_a_long_prompt_is_read_in_pieces_while_the_others_go_on(home, monkeypatch):
    make_tiny("tiny-long", steps=1, block_size=640, batch_size=1)
    model = load_model("tiny-long", "cpu", "fp32")
    params = SamplingParams(seed=1, max_new_tokens=30)
    prompts = ("The fox", "and more to say " * 39, "I go")
    alone = [write_down(begin(model, prompt, params)) for prompt in prompts]
    model = load_model("tiny-long", "cpu", "fp32")  # which has read nothing
    short, long, other = generations = [begin(model, prompt, params) for prompt in prompts]
    read_together([short, other])
    passes = count_rows(monkeypatch)
    written: list[int] = []
    while long.is_waiting:
        before = short.new_tokens
        next(short), next(other)
        read_together(generations)
        assert not short.is_waiting
        assert not other.is_waiting
        written.append(short.new_tokens - before)
    assert written == [1, 1, 1]  # 624 tokens in pieces of 256
    assert max(passes) == CHUNK
    for generation in generations:
        list(generation)
    assert [generation.tokens for generation in generations] == [text[-1] for text in alone]


def test_texts_that_have_ended_are_left_alone(model):
    generations = [begin(model, "The", SamplingParams(seed=1, max_new_tokens=count)) for count in (1, ENDLESS)]
    rows = in_step(generations)
    for _ in range(100):
        next(rows)
    assert generations[0].finish_reason == "length"
    assert generations[0].new_tokens == 1
    assert generations[1].new_tokens == 100
    assert list(in_step(generations[:1])) == []
