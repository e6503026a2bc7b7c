"""The sampling parameters as keys and typed text change them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ENDLESS, SamplingParams
from engine.errors import InvalidSettingError
from minigpt_tui.parameters import BY_FIELD, PARAMETERS, changes, parse_stop, stop_text

LADDERS = [parameter for parameter in PARAMETERS if parameter.ladder]


@pytest.mark.parametrize("parameter", LADDERS, ids=lambda p: p.field)
def test_keys_walk_the_whole_range_and_stop_at_its_ends(parameter):
    params = SamplingParams()
    seen = []
    for direction in (1, -1):
        for _ in range(400):
            params = parameter.stepped(params, direction)
            seen.append(parameter.value(params))
        assert parameter.stepped(params, direction) == params
    assert min(parameter.ladder) in seen
    assert (max(parameter.ladder) if parameter.beyond is None else parameter.beyond) in seen


@pytest.mark.parametrize("parameter", LADDERS, ids=lambda p: p.field)
@given(data=st.data())
def test_a_step_down_undoes_a_step_up(parameter, data):
    value = data.draw(st.sampled_from(parameter.ladder))
    params = parameter.replaced(SamplingParams(), value)
    up = parameter.stepped(params, 1)
    assert up == params or parameter.stepped(up, -1) == params


def test_a_value_between_the_steps_goes_to_the_next_step():
    top_k = BY_FIELD["top_k"]
    params = SamplingParams(top_k=37)
    assert top_k.stepped(params, -1).top_k == 20
    assert top_k.stepped(params, 1).top_k == 50
    assert top_k.stepped(SamplingParams(top_k=200), 1).top_k == 0  # off is beyond the largest
    assert BY_FIELD["max_new_tokens"].stepped(SamplingParams(max_new_tokens=10_000), 1).max_new_tokens == ENDLESS


@pytest.mark.parametrize("parameter", [p for p in PARAMETERS if p.bar], ids=lambda p: p.field)
def test_a_click_on_a_bar_sets_what_the_bar_then_shows(parameter):
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        shown = parameter.share(parameter.at_share(SamplingParams(), share))
        assert shown == pytest.approx(share, abs=0.13)


@pytest.mark.parametrize(
    ("field", "typed", "value"),
    [
        ("temperature", "1.1", 1.1), ("temperature", " 0,7 ", 0.7), ("top_k", "off", 0), ("top_k", "40", 40),
        ("max_new_tokens", "endless", ENDLESS), ("max_new_tokens", "1,000", 1000), ("seed", "", None), ("seed", "7", 7),
        ("stop", r"\n\n | THE END", ("\n\n", "THE END")), ("stop", "", ()),
    ],
)  # fmt: skip
def test_a_typed_value_is_taken(field, typed, value):
    assert BY_FIELD[field].value(BY_FIELD[field].typed(SamplingParams(), typed)) == value


@pytest.mark.parametrize(
    ("field", "typed"),
    [("temperature", "-1"), ("temperature", "warm"), ("temperature", "nan"), ("temperature", ""), ("top_p", "2"),
     ("top_p", "0"), ("top_k", "-3"), ("max_new_tokens", "0"), ("seed", "-1"), ("min_p", "1e9")],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_with_a_reason(field, typed):
    with pytest.raises(InvalidSettingError) as refused:
        BY_FIELD[field].typed(SamplingParams(), typed)
    assert refused.value.hint


@given(st.lists(st.text(min_size=1, max_size=8), max_size=4, unique=True).map(tuple))
def test_stop_strings_come_back_as_they_were(stop):
    assert parse_stop(stop_text(stop)) == stop


def test_what_changed_is_said_and_nothing_else():
    before = SamplingParams()
    assert changes(before, before.replace(temperature=1.1)) == "temperature 1.10"
    assert changes(before, before.replace(top_k=20, max_new_tokens=ENDLESS, seed=3)) == "top-k 20 · new tokens endless"
    assert changes(before, before) == ""
