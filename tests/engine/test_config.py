"""Settings are checked wherever they come from, and a refusal says what would do."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ENDLESS, SamplingParams, TrainConfig
from engine.errors import InvalidSettingError
from engine.validation import fields, make, parse_assignments, to_dict


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
