"""Settings are checked wherever they come from, and a refusal says what would do."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ENDLESS, SMALLEST_BPE, SamplingParams, TrainConfig
from engine.errors import InvalidSettingError
from engine.text.tokenizers import train_tokenizer
from engine.validation import Setting, fields, make, parse_assignments, to_dict


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"temperature": -1}, "temperature is -1: it must be from 0 to 10"),
        ({"top_p": 2}, "top_p is 2: it must be more than 0, at most 1"),
        ({"top_p": 0}, "more than 0"),
        ({"min_p": -0.1}, "from 0 to 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"max_new_tokens": 0}, "or -1"),
        ({"repetition_penalty": 0}, "from 0.1 to 10"),
        ({"seed": -1}, "seed is -1"),
        ({"stop": [""]}, "a stop string is empty"),
        ({"temprature": 1}, "did you mean temperature"),
        ({"temperature": "hot"}, "Expected `float`"),
    ],
)
def test_a_bad_sampling_setting_is_refused_in_words(values, says):
    with pytest.raises(InvalidSettingError) as caught:
        make(SamplingParams, values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "values", "says"),
    [
        (SamplingParams, {"temperature": "hot"}, "temperature is 'hot': it must be a number"),
        (SamplingParams, {"temperature": True}, "it must be a number"),
        (SamplingParams, {"temperature": None}, "it must be a number"),
        (SamplingParams, {"top_k": 2.0}, "top_k is 2.0: it must be a whole number"),
        (SamplingParams, {"seed": "7"}, "it must be a whole number or none"),
        (SamplingParams, {"stop": "END"}, "stop is 'END': it must be a list of texts"),
        (SamplingParams, {"stop": ["END"]}, "a list of texts"),
        (SamplingParams, {"stop": (1,)}, "a list of texts"),
        (TrainConfig, {"bias": 1}, "bias is 1: it must be true or false"),
        (TrainConfig, {"sample_prompt": 3}, "it must be text"),
        (TrainConfig, {"family": "gpt4"}, "choose one of gpt2, nanochat, qwen3"),
        (TrainConfig, {"family": 2}, "choose one of"),
        (TrainConfig, {"normalize": ("upper",)}, "each one of nfc, newlines, lowercase"),
        (TrainConfig, {"epochs": "2"}, "it must be a number or none"),
        (TrainConfig, {"precision": "fp64"}, "choose one of auto, fp32, bf16, fp16"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_in_words_by_the_constructor(cls, values, says):
    with pytest.raises(InvalidSettingError) as caught:
        cls(**values)
    assert says in str(caught.value)


def test_a_whole_number_is_a_number_and_none_is_no_length():
    assert SamplingParams(temperature=1, seed=None).temperature == 1
    assert TrainConfig(epochs=2, normalize=("nfc",)).epochs == 2


def test_numbers_beyond_all_measure_are_out_of_range():
    for value in (10**400, -(10**400), float("inf"), float("nan")):
        with pytest.raises(InvalidSettingError, match="it must be from 0 to 10"):
            SamplingParams(temperature=value)
    with pytest.raises(InvalidSettingError, match=r"steps is 100,000,001: it must be from 1 to 100,000,000"):
        TrainConfig(steps=100_000_001)
    assert Setting("any", low=0).allows(10**400)


def test_the_smallest_bpe_vocabulary_is_one_number():
    config = TrainConfig(tokenizer="bpe", vocab_size=SMALLEST_BPE)
    assert train_tokenizer("bpe", ["abc"], config.vocab_size).vocab_size == SMALLEST_BPE == 256 + 1
    with pytest.raises(InvalidSettingError, match="vocab_size is 256"):
        TrainConfig(tokenizer="bpe", vocab_size=256)


def test_endless_is_a_length():
    assert SamplingParams(max_new_tokens=ENDLESS).max_new_tokens == -1


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("steps", "not KEY=VALUE"),
        ("stepz=3", "did you mean steps"),
        ("steps=many", "a whole number"),
        ("steps=0", "from 1 to"),
        ("dropout=1", "from 0 to 0.9"),
        ("family=gpt4", "choose one of gpt2, nanochat, qwen3"),
        ("bias=perhaps", "true or false"),
        ("n_embd=15", "multiple of n_head"),
        ("normalize=upper", "normalize"),
    ],
)
def test_a_bad_assignment_is_refused_in_words(word, says):
    with pytest.raises(InvalidSettingError) as caught:
        make(TrainConfig, to_dict(TrainConfig()) | parse_assignments(TrainConfig, [word]))
    assert says in str(caught.value)


def test_assignments_are_read_as_the_kind_of_their_field():
    values = parse_assignments(
        TrainConfig, ["steps=1_000", "epochs=none", "learning_rate=1e-3", "bias=yes", "normalize=nfc,newlines"]
    )
    assert values == {"steps": 1000, "epochs": None, "learning_rate": 1e-3, "bias": True,
                      "normalize": ("nfc", "newlines")}  # fmt: skip


def test_every_setting_says_what_it_does():
    for cls in (TrainConfig, SamplingParams):
        for field in fields(cls).values():
            assert field.setting is not None, field.name
            assert field.setting.help, field.name


@given(
    temperature=st.floats(0, 10), top_k=st.integers(0, 1000), top_p=st.floats(0.01, 1), seed=st.integers(0, 2**63 - 1)
)
def test_settings_come_back_from_json(temperature, top_k, top_p, seed):
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=("a", "\n"))
    assert msgspec.json.decode(msgspec.json.encode(params), type=SamplingParams) == params
    assert params.replace(top_k=5).replace(top_k=top_k) == params
