"""The engine's real process: looking inside while it writes, and writing again what was recorded, to the letter."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from endless import make_endless
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_process import Worker, new_id, tokens_of

from engine.checkpoints import load_model
from engine.config import ENDLESS, SamplingParams
from engine.inference.generator import Generation
from engine.worker.protocol import (
    Cancel,
    Done,
    Error,
    Generate,
    Inspect,
    Inspected,
    Load,
    ParamsAt,
    ParamsChanged,
    SetParams,
    Started,
)
from engine.worker.writer import Writer


@pytest.fixture(scope="module")
def worker(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    make_endless()
    worker = Worker(folder=tmp_path_factory.mktemp("worker"))
    worker.send(Load(id=1, model="endless"))
    worker.next(1)
    yield worker
    worker.end()


# Looking inside.


def test_a_place_can_be_looked_into_while_texts_are_written(worker: Worker) -> None:
    params = SamplingParams(max_new_tokens=400, seed=4, temperature=0.9, top_p=0.95)
    alone, id = new_id(), new_id()
    worker.send(Generate(id=alone, model="endless", prompt="The fox", params=params, alternatives=64))
    started, *middle = worker.until_done(alone)
    written = tokens_of(middle)
    text = (*started.prompt_tokens, *(token.token for token in written))
    worker.send(Generate(id=id, model="endless", prompt="The fox", params=params, pace=600))
    answers = []
    for token in written[::23]:
        look = new_id()
        worker.send(
            Inspect(
                id=look, model="endless", tokens=text, position=token.position, params=params, attention=True, lens=True
            )
        )
        answers.append((token, worker.next(look)))
    assert [token.token for token in tokens_of(worker.until_done(id))] == [token.token for token in written]
    for token, found in answers:
        assert isinstance(found, Inspected)
        assert (found.token, found.logprob) == (token.token, token.logprob)
        assert found.distribution[: len(token.top)] == token.top
        assert len(found.attention) == 2 * 2 * 4 * (token.position - found.window_start)
        assert len(found.lens) == 3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"position": 0}, "position is 0"),
        ({"position": 4}, "from 1 to 3"),
        ({"position": 1, "tokens": ()}, "no tokens yet"),
        ({"top": -1}, "top is -1"),
        ({"tokens": (0, 1, 9999)}, "not in the vocabulary"),
        ({"tokens": (0, -1, 2)}, "not in the vocabulary"),
        ({"model": "nothing-of-that-name"}, "nothing-of-that-name"),
    ],
)
def test_a_place_that_cannot_be_looked_into_is_answered_with_why(worker: Worker, wrong: dict, says: str) -> None:
    id = new_id()
    worker.send(Inspect(**{"id": id, "model": "endless", "tokens": (0, 1, 2), "position": 1, **wrong}))
    error = worker.next(id)
    assert isinstance(error, Error)
    assert error.kind in ("InvalidSettingError", "DataError", "ModelNotFoundError")
    assert says in f"{error.message}: {error.hint}"


# Writing again.


def record(worker: Worker, generate: Generate, requests: list[tuple[int, SetParams | Cancel]]) -> list:
    """All events of a text, with requests that are sent when so many of its tokens have come."""
    worker.send(generate)
    events = [worker.next(generate.id)]
    while not isinstance(events[-1], Done | Error):
        while requests and len(tokens_of(events)) >= requests[0][0]:
            worker.send(requests.pop(0)[1])
        events.append(worker.next(generate.id))
    return events


@pytest.mark.parametrize("seed", range(4))
def test_a_text_with_live_changes_is_written_again_to_the_letter(worker: Worker, seed: int) -> None:
    chance = random.Random(seed)

    def any_params(limit: int) -> SamplingParams:
        return SamplingParams(
            max_new_tokens=limit,
            temperature=chance.choice([0.0, 0.5, 1.0, 3.0]),
            top_k=chance.choice([0, 3]),
            repetition_penalty=chance.choice([1.0, 1.3]),
            stop=chance.choice([(), ("zzzz",), ("e",)]) if limit != ENDLESS else (),
        )

    id = new_id()
    first = any_params(ENDLESS).replace(seed=seed)
    requests: list = [
        (30 * place, SetParams(id=id, params=any_params(ENDLESS), pace=chance.choice([None, 300.0, 0.0])))
        for place in range(4)
    ]
    requests.append((150, SetParams(id=id, params=any_params(300), pace=0.0)))
    if seed % 2:
        requests.append((170, Cancel(id=id)))
    pace = chance.choice([0.0, 200.0])
    generate = Generate(id=id, model="endless", prompt="fox", params=first, pace=pace)
    started, *middle, done = record(worker, generate, requests)
    assert isinstance(started, Started)
    recorded = tuple(ParamsAt(event.position, event.params) for event in middle if isinstance(event, ParamsChanged))
    assert len(recorded) == 5
    again = new_id()
    other_pace = 0.0 if pace else 600.0
    worker.send(Generate(id=again, model="endless", prompt="fox", params=first, pace=other_pace, changes=recorded))
    _, *repeated = worker.until_done(again)
    told = [ParamsAt(event.position, event.params) for event in repeated if isinstance(event, ParamsChanged)]
    assert told == list(recorded)
    wanted = [token.token for token in tokens_of(middle)]
    found = [token.token for token in tokens_of(repeated)]
    if done.finish_reason == "cancelled":
        assert found[: len(wanted)] == wanted
    else:
        assert found == wanted
        assert (repeated[-1].finish_reason, repeated[-1].text) == (done.finish_reason, done.text)


def test_a_live_change_drops_the_recorded_ones_that_are_still_to_come(worker: Worker) -> None:
    id, params = new_id(), SamplingParams(max_new_tokens=400, temperature=1.0, seed=1)
    changes = tuple(ParamsAt(position, params.replace(top_k=position)) for position in (0, 5, 300))
    greedy = params.replace(temperature=0.0)
    generate = Generate(id=id, model="endless", prompt="fox", params=params, pace=500, changes=changes)
    events = record(worker, generate, [(20, SetParams(id=id, pace=1000.0)), (40, SetParams(id=id, params=greedy))])
    changed = [event for event in events if isinstance(event, ParamsChanged)]
    assert [(event.position, event.params.top_k) for event in changed[:2]] == [(3, 0), (5, 5)]
    assert len(changed) == 3
    assert 43 <= changed[2].position < 300
    assert changed[2].params == greedy


def test_recorded_changes_out_of_order_are_refused(worker: Worker) -> None:
    id = new_id()
    changes = (ParamsAt(9, SamplingParams()), ParamsAt(8, SamplingParams()))
    worker.send(Generate(id=id, model="endless", changes=changes))
    error = worker.next(id)
    assert isinstance(error, Error)
    assert "out of order" in error.message


@pytest.fixture(scope="module")
def endless(home: Path):
    make_endless()
    return load_model("endless", "cpu", "fp32")


some_params = st.builds(
    SamplingParams,
    max_new_tokens=st.integers(20, 60),
    temperature=st.sampled_from([0.0, 0.4, 1.0, 2.5]),
    top_k=st.sampled_from([0, 2, 10]),
    min_p=st.sampled_from([0.0, 0.05]),
    repetition_penalty=st.sampled_from([1.0, 1.5]),
    stop=st.sampled_from([(), ("oo",), ("xyzzy", "x")]),
)


@settings(max_examples=15, deadline=None)
@given(
    first=some_params,
    later=st.lists(st.tuples(st.integers(0, 70), some_params), max_size=4),
    seed=st.integers(0, 5),
    paces=st.tuples(*[st.sampled_from([0.0, 1e5])] * 2),
)
def test_each_change_holds_from_the_very_token_that_it_is_recorded_for(endless, first, later, seed, paces) -> None:
    prompt = endless.tokenizer.encode("The fox")
    changes = [ParamsAt(position, params) for position, params in sorted(later, key=lambda change: change[0])]
    expected = Generation(endless, prompt, first.replace(seed=seed), speculate=False)
    tokens, told, due = [], [], list(changes)
    while True:
        while due and due[0].position <= expected.position and expected.finish_reason is None:
            expected.set_params(due.pop(0).params)
            told.append((expected.position, expected.params))
        if (token := next(expected, None)) is None:
            break
        tokens.append(token)
    for pace in paces:
        sent: list = []
        generation = Generation(endless, prompt, first.replace(seed=seed))
        writer = Writer(SimpleNamespace(send=sent.append), 1, generation, pace=pace, asked_at=0.0, changes=changes)
        writer.begin()
        while not writer.finished:
            writer.advance()
        assert tokens_of(sent) == tokens
        assert [(event.position, event.params) for event in sent if isinstance(event, ParamsChanged)] == told
        assert (sent[-1].finish_reason, sent[-1].text) == (expected.finish_reason, expected.tail)
