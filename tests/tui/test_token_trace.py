"""What is kept of each token comes back as the engine reported it, in little room."""

from __future__ import annotations

import pytest
from scripted_client import token

from minigpt_tui import token_trace
from minigpt_tui.token_trace import TokenTrace


def test_a_token_comes_back_with_its_place_and_its_alternatives():
    trace = TokenTrace(first_position=5)
    for place, character in enumerate("abc"):
        trace.append(token(5 + place, character), end=10 + place)
    assert trace.ids() == [ord(character) for character in "abc"]
    found, original = trace.token(1), token(6, "b")
    assert (found.token, found.position, found.piece) == (original.token, 6, "b")
    assert trace.end(1) == 11
    assert [alternative.text for alternative in found.top] == [alternative.text for alternative in original.top]
    for ours, theirs in zip(found.top, original.top, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, rel=1e-6)
        assert ours.drawn == pytest.approx(theirs.drawn, rel=1e-6)


def test_an_endless_text_keeps_the_alternatives_of_its_last_part(monkeypatch):
    monkeypatch.setattr(token_trace, "ALTERNATIVES_KEPT", 10)
    trace = TokenTrace()
    for position in range(100):
        trace.append(token(position, "x"), end=position + 1)
    assert len(trace) == 100
    assert all(trace.token(index).top for index in range(-10, 0))
    assert not trace.token(0).top
    assert trace.token(0).logprob == -1.0
    assert len(trace._top_ids) <= 2 * 10 * token_trace.ALTERNATIVES
