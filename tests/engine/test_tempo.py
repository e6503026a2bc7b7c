"""How many guesses are read along: as many as bring most tokens in a second, by what was seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inference.tempo import FIRST_HOPE, TRY_AGAIN, Hope, Tempo


def hope_of(share: float) -> Hope:
    hope = Hope()
    hope.share = share
    return hope


def run(tempo: Tempo, hope: Hope, *, fixed: float, of_a_row: float, passes: int, choices=(1, 2, 4, 8)) -> list[int]:
    """What is chosen where a pass costs this, in seconds, and guesses come true as the hope says."""
    chosen = []
    for _ in range(passes):
        rows = tempo.choose(choices, [hope])
        tempo.see(rows, fixed + of_a_row * rows)
        chosen.append(rows)
    return chosen


# Hope


def test_without_guesses_a_pass_brings_one_token():
    assert Hope().tokens(1) == pytest.approx(1.0)
    assert hope_of(0.0).tokens(8) == pytest.approx(1.0)
    assert hope_of(1.0).tokens(8) == pytest.approx(8.0, rel=0.01)
    assert hope_of(0.5).tokens(3) == pytest.approx(1 + 0.5 + 0.25)


@given(seen=st.lists(st.integers(0, 8).flatmap(lambda most: st.tuples(st.integers(0, most), st.just(most)))))
def test_hope_is_a_share_and_more_rows_never_promise_fewer_tokens(seen):
    hope = Hope()
    for came_true, guessed in seen:
        hope.see(came_true, guessed)
        assert 0.0 <= hope.share <= 1.0
    promised = [hope.tokens(rows) for rows in range(1, 10)]
    assert promised == sorted(promised)
    assert all(1.0 <= tokens <= rows + 1e-9 for rows, tokens in enumerate(promised, start=1))


def test_hope_follows_what_came_true():
    hope = Hope()
    for _ in range(200):
        hope.see(0, 7)
    assert hope.share < 0.01
    for _ in range(200):
        hope.see(7, 7)
    assert hope.share > 0.99
    for _ in range(400):  # the guess behind one that failed says nothing: every other one of those that count came true
        hope.see(1, 7)
    assert hope.share == pytest.approx(0.5, abs=0.05)


def test_no_guess_says_nothing():
    hope = Hope()
    hope.see(0, 0)
    assert hope.share == FIRST_HOPE


# Tempo


def test_a_number_of_rows_that_was_never_tried_is_where_it_could_be_better():
    """Half the rows may take half the time, as they do with 8-bit weights: that is not known before it is tried."""
    chosen = run(Tempo(), hope_of(0.7), fixed=0.2, of_a_row=0.1, passes=20, choices=(4, 8))
    assert chosen[0] == 8
    assert set(chosen[10:]) == {4}


def test_the_first_pass_of_a_size_may_be_slow():
    tempo = Tempo()
    assert tempo.choose((4, 8), [hope_of(0.7)]) == 8
    tempo.see(8, 5.0)
    assert run(tempo, hope_of(0.7), fixed=1.0, of_a_row=0.001, passes=50, choices=(4, 8)).count(8) > 40


def test_where_rows_cost_little_many_guesses_are_read_along():
    assert set(run(Tempo(), hope_of(0.7), fixed=1.0, of_a_row=0.001, passes=50)[-20:]) == {8}


def test_where_each_row_costs_as_much_as_a_pass_guesses_are_given_up():
    chosen = run(Tempo(), hope_of(0.2), fixed=0.0, of_a_row=1.0, passes=100)
    assert set(chosen[-50:]) == {1}
    assert chosen[0] > 1  # it was tried


def test_guesses_that_fail_are_given_up_where_rows_cost_and_made_again_when_they_come_true():
    tempo, hope = Tempo(), Hope()
    run(tempo, hope, fixed=1.0, of_a_row=0.2, passes=20)
    for _ in range(100):
        hope.see(0, 3)
    assert set(run(tempo, hope, fixed=1.0, of_a_row=0.2, passes=50)) == {1}
    hope.share = 0.95
    assert set(run(tempo, hope, fixed=1.0, of_a_row=0.2, passes=50)[-20:]) == {8}


def test_what_was_given_up_is_measured_again_in_time():
    tempo, hope = Tempo(), hope_of(0.7)
    assert run(tempo, hope, fixed=0.0, of_a_row=1.0, passes=60)[-1] == 1  # something else kept the machine busy
    chosen = run(tempo, hope, fixed=1.0, of_a_row=0.001, passes=20 * TRY_AGAIN)
    assert chosen[-TRY_AGAIN:].count(8) > 0.9 * TRY_AGAIN


def test_it_is_measured_again_seldom():
    tempo, hope = Tempo(), hope_of(0.2)
    run(tempo, hope, fixed=0.0, of_a_row=1.0, passes=60)
    chosen = run(tempo, hope, fixed=0.0, of_a_row=1.0, passes=10 * TRY_AGAIN)
    assert 0 < sum(rows > 1 for rows in chosen) <= 3 * 10


def test_a_pass_that_was_disturbed_once_changes_little():
    tempo, hope = Tempo(), hope_of(0.7)
    run(tempo, hope, fixed=1.0, of_a_row=0.001, passes=50)
    tempo.see(8, 2.0)
    assert run(tempo, hope, fixed=1.0, of_a_row=0.001, passes=20).count(8) >= 18


def test_where_there_is_no_choice_that_one_is_taken():
    assert Tempo().choose([1], [Hope()]) == 1
    assert Tempo().choose([4], [Hope(), Hope()]) == 4


def test_what_many_texts_take_says_nothing_of_few():
    tempo, many, one = Tempo(), [hope_of(0.3) for _ in range(8)], [hope_of(0.3)]
    for _ in range(60):
        rows = tempo.choose([1, 4, 8], many)
        tempo.see(rows, 0.01 + 0.1 * rows * len(many), len(many))
    assert tempo.choose([1, 4, 8], many) == 1
    assert tempo.choose([1, 4, 8], [hope_of(0.99) for _ in range(8)]) == 8
    assert tempo.choose([4, 8], one) == 4
    assert run(tempo, hope_of(0.9), fixed=1.0, of_a_row=0.001, passes=20)[-1] == 8


def test_a_few_texts_more_or_less_are_not_measured_anew():
    tempo = Tempo()
    for count in [*range(33, 64)] * 3:
        hopes = [hope_of(0.7) for _ in range(count)]
        rows = tempo.choose([1, 4, 8], hopes)
        tempo.see(rows, count * (0.2 + 0.1 * rows + (0.2 if rows == 8 else 0)), count)
    chosen = [tempo.choose([1, 4, 8], [hope_of(0.7)] * count) for count in range(33, 64)]
    assert set(chosen) == {4}
