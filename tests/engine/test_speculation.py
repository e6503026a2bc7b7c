"""Guesses make a text come sooner and never change it: not a token, a logprob or its end."""

from __future__ import annotations

import itertools

import pytest
from drafted import AnyRows, count_rows, load_drafted, write_down
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoder import TORCH, WEIGHTS_ALONE, decoder_in
from tiny_models import TINY_TEXT, make_tiny

from engine import folders
from engine.config import SamplingParams
from engine.inference.draft import Draft
from engine.inference.generator import Generation
from engine.inference.native.guessing import NativeDraft

FAMILIES = ("gpt2", "nanochat", "qwen3", "llama")
PRECISIONS = ("fp32", "bf16", "int8", WEIGHTS_ALONE)

temperatures = st.just(0.0) | st.floats(0.3, 2.0)
any_params = st.builds(
    SamplingParams,
    temperature=temperatures,
    top_k=st.sampled_from([0, 0, 1, 3, 10]),
    top_p=st.sampled_from([1.0, 1.0, 0.9, 0.5]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.4]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 0.8, 1.3]),
    max_new_tokens=st.integers(1, 170),  # of a window of 64
    seed=st.integers(0, 2**63 - 1),
    stop=st.sampled_from([(), (), ("river",), ("e g", "X"), ("\n\n", "water")]),
)
any_prompt = st.tuples(st.integers(0, len(TINY_TEXT) - 1), st.integers(0, 100)).map(
    lambda cut: TINY_TEXT[cut[0] : cut[0] + cut[1]]
) | st.text("efghiorstw ,\n", max_size=100)


# What guesses change is the same in all families: each in two precisions, and one in all, also without a compiler.
MODELS = [("nanochat", precision) for precision in PRECISIONS]
MODELS += itertools.product([family for family in FAMILIES if family != "nanochat"], ["fp32", "int8"])
MODELS += [("nanochat", f"fp32{TORCH}"), ("nanochat", f"int8{TORCH}"), ("gpt2", f"fp32{TORCH}")]


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def model(request, home):
    family, precision = request.param
    name = f"guessed-{family}"
    if not (folders.user_checkpoints() / name).exists():
        make_tiny(name, family)
    found = load_drafted(name, precision.split()[0].strip(","))
    found.decoder = decoder_in(precision, found.gpt)
    if not found.decoder.rows_alike:
        pytest.skip("this build of torch has no packed products")
    return found


def both_ways(model, prompt, params, *, changes=None, alternatives=0):
    """A text token by token, and with guesses."""
    ids = model.tokenizer.encode(prompt)
    return [
        write_down(Generation(model, ids, params, alternatives=alternatives, speculate=speculate), changes)
        for speculate in (False, True)
    ]


@settings(max_examples=15, deadline=None)
@given(
    prompt=any_prompt,
    first=any_params,
    changes=st.dictionaries(st.integers(0, 120), any_params, max_size=3),
    alternatives=st.sampled_from([0, 0, 3]),
    rows=st.integers(0, 1000),
)
def test_a_text_is_the_same_with_guesses_and_without(model, prompt, first, changes, alternatives, rows):
    model.tempo = AnyRows(rows)
    alone, guessed = both_ways(model, prompt, first, changes=changes, alternatives=alternatives)
    assert guessed == alone


def test_many_guesses_come_true(model, monkeypatch):
    """Without which the texts above would be the same for no reason."""
    passes = count_rows(monkeypatch)
    for seed in range(4):
        written = list(Generation(model, [1], SamplingParams(seed=seed, temperature=0.7, max_new_tokens=150)))
        assert len(written) == 150
    assert len(passes) < 0.55 * 4 * 150


@pytest.mark.parametrize("kind", ["right", "wrong", "none", "few", "wild"])
def test_whatever_is_guessed_changes_nothing(model, monkeypatch, kind):
    params = SamplingParams(seed=5, temperature=0.9, max_new_tokens=130)
    alone, _ = both_ways(model, "THE FOX", params)
    text, size = alone[-1], model.config.vocab_size

    def guess(tokens, count):
        coming = text[len(tokens) : len(tokens) + count]
        return {
            "right": coming,
            "wrong": [(id + 1) % size for id in coming],
            "none": [],
            "few": coming[: len(tokens) % 3],
            "wild": [len(tokens) * place % size for place in range(count)],
        }[kind]

    monkeypatch.setattr(Draft, "guess", lambda self, tokens, noise, temperature, count: guess(tokens, count))
    by_the_library = property(lambda self: guess(self._tokens, self._struct.wanted))
    monkeypatch.setattr(NativeDraft, "guesses", by_the_library)
    passes = count_rows(monkeypatch)
    assert write_down(Generation(model, model.tokenizer.encode("THE FOX"), params)) == alone
    if kind == "right":
        assert len(passes) < 130 / 2
    elif kind in ("wrong", "none"):
        assert len(passes) >= 130


def test_without_a_table_what_repeats_itself_is_guessed_from_the_text(model, monkeypatch):
    monkeypatch.setattr(model, "draft_table", None)
    params = SamplingParams(seed=2, temperature=0.4, max_new_tokens=150)
    alone, guessed = both_ways(model, TINY_TEXT[:300], params)
    assert guessed == alone
    passes = count_rows(monkeypatch)
    assert len(list(Generation(model, model.tokenizer.encode(TINY_TEXT[:300]), params))) == 150
    assert len(passes) < 0.7 * 150


def test_greedy_texts_make_no_noise(model, monkeypatch):
    params = SamplingParams(temperature=0.0, max_new_tokens=60, seed=1)
    alone, guessed = both_ways(model, "The fox", params)
    monkeypatch.setattr("engine.inference.noise.gumbel", None)
    assert both_ways(model, "The fox", params) == [alone, guessed]
    monkeypatch.setattr(model, "draft_table", None)
    assert both_ways(model, "The fox", params) == [alone, guessed]


def test_where_rows_are_not_alike_nothing_is_guessed(tiny_model, monkeypatch):
    model = load_drafted("tiny", "fp16")
    assert not model.decoder.rows_alike
    passes = count_rows(monkeypatch)
    alone, guessed = both_ways(model, "The fox", SamplingParams(seed=2, max_new_tokens=40))
    assert guessed == alone
    assert max(passes[1:]) == 1  # but for the prompt, which is read once
    assert len(passes) == 80
