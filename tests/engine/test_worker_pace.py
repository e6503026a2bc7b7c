"""When the worker draws and when it sends, on a clock that the tests move by hand; and how it cuts lines."""

from __future__ import annotations

import itertools
import json
import os
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ENDLESS, SamplingParams
from engine.inference.stream import Token
from engine.worker import connection
from engine.worker.connection import Connection, LineBuffer, MessageTooLongError, TooLong
from engine.worker.protocol import BATCH_SECONDS, Done, Error, ParamsChanged, SetParams, Tokens, Written, encode
from engine.worker.writer import CATCH_UP_SECONDS, Writer


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Scripted:
    """Writes x after x, each in no time or in `seconds` of the clock's."""

    def __init__(self, clock: Clock, seconds: float = 0.0, limit: int = ENDLESS) -> None:
        self.clock = clock
        self.seconds = seconds
        self.params = SamplingParams(max_new_tokens=limit, seed=0)
        self.prompt_tokens = (0,)
        self.new_tokens = 0
        self.context = 1
        self.seed = 0
        self.tail = ""
        self.finish_reason: str | None = None
        self.is_waiting = True  # it draws nothing ahead
        self.model = SimpleNamespace(name="scripted")

    @property
    def position(self) -> int:
        return 1 + self.new_tokens

    def set_params(self, params: SamplingParams) -> None:
        self.params = params

    def cancel(self) -> None:
        self.finish_reason = "cancelled"

    def read(self) -> None:
        """There is no model behind it."""

    def ready_text(self) -> str:
        token = next(self, None)
        return "" if token is None else token.text

    def __next__(self) -> Token:
        if self.new_tokens == self.params.max_new_tokens:
            self.finish_reason = "length"
            raise StopIteration
        self.clock.now += self.seconds
        self.new_tokens += 1
        return Token(token=1, position=self.new_tokens, text="x", piece="x", logprob=-1.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("engine.worker.writer.time", clock)
    return clock


def start(clock: Clock, pace: float, *, plain: bool = False, **generation) -> tuple[Writer, Scripted, list]:
    """A writer, what it writes from, and what it has sent as (time, event)."""
    sent: list = []
    line = SimpleNamespace(send=lambda event: sent.append((clock.now, event)))
    scripted = Scripted(clock, **generation)
    return Writer(line, 1, scripted, pace=pace, asked_at=clock.now, plain=plain), scripted, sent


def run(writer: Writer, clock: Clock, until: float, delay: float = 0.0) -> None:
    """What the worker does, when each waking is late by `delay`."""
    while not writer.finished and writer.wakes_at <= until:
        clock.now = max(clock.now, writer.wakes_at + delay)
        writer.advance()
    clock.now = max(clock.now, until)


def test_late_wakings_do_not_add_up(clock: Clock) -> None:
    writer, scripted, _ = start(clock, pace=60)
    run(writer, clock, until=1010.0, delay=0.01)
    assert scripted.new_tokens == pytest.approx(600, abs=2)


def test_a_text_that_fell_behind_does_not_burst(clock: Clock) -> None:
    writer, scripted, _ = start(clock, pace=60)
    run(writer, clock, until=1001.0)
    before = scripted.new_tokens
    clock.now += 5.0  # the client did not read, so a write blocked
    now = clock.now
    while writer.due <= now:
        writer.advance()
    assert scripted.new_tokens - before <= 60 * CATCH_UP_SECONDS + 1
    run(writer, clock, until=now + 10.0)
    assert scripted.new_tokens - before == pytest.approx(600, abs=5)


def test_the_first_tokens_of_a_paced_text_come_one_by_one(clock: Clock) -> None:
    writer, scripted, _ = start(clock, pace=10)
    for count in (1, 1, 2, 2, 3):
        writer.advance()
        assert scripted.new_tokens == count
        clock.now += 0.0501


def test_a_new_pace_counts_from_the_last_token(clock: Clock) -> None:
    writer, scripted, _ = start(clock, pace=0.01)
    writer.advance()
    clock.now += 1.0
    writer.advance()
    assert scripted.new_tokens == 1
    writer.change(SetParams(id=1, pace=2.0))
    writer.advance()
    assert scripted.new_tokens == 2
    writer.change(SetParams(id=1, pace=0.0))
    for _ in range(10):
        writer.advance()
    assert scripted.new_tokens == 12


def test_the_first_token_goes_out_at_once_and_then_one_message_at_most_in_each_interval(clock: Clock) -> None:
    writer, _, sent = start(clock, pace=0.0, seconds=0.001)
    writer.advance()
    assert [len(event.tokens) for _, event in sent] == [1]
    while clock.now < 1001.0:
        writer.advance()
    times = [time for time, _ in sent]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= BATCH_SECONDS - 1e-9
    assert max(gaps) <= BATCH_SECONDS + 0.0011
    assert sent[-1][1].tokens_per_second == pytest.approx(1000)


def test_a_token_that_waits_for_its_batch_is_sent_in_time_though_no_other_comes(clock: Clock) -> None:
    writer, _, sent = start(clock, pace=100.0)
    writer.advance()
    clock.now += 0.01
    writer.advance()  # drawn before the interval is over
    assert len(sent) == 1
    writer.change(SetParams(id=1, pace=0.001))
    run(writer, clock, until=clock.now + 1.0)
    assert len(sent) == 2
    assert sent[1][0] - sent[0][0] == pytest.approx(BATCH_SECONDS)


def test_tokens_go_out_before_the_change_that_follows_them_and_before_the_end(clock: Clock) -> None:
    writer, _, sent = start(clock, pace=0.0, limit=5)
    for _ in range(3):
        writer.advance()
    writer.change(SetParams(id=1, params=SamplingParams(max_new_tokens=5, seed=0)))
    while not writer.finished:
        writer.advance()
    events = [event for _, event in sent]
    assert [type(event) for event in events] == [Tokens, Tokens, ParamsChanged, Tokens, Done]
    assert [len(event.tokens) for event in events if isinstance(event, Tokens)] == [1, 2, 2]
    assert events[2].position == events[3].tokens[0].position == 4


def test_times_are_those_of_the_text_alone(clock: Clock) -> None:
    writer, _, sent = start(clock, pace=0.0, seconds=0.25, limit=5)
    clock.now += 1.0
    while not writer.finished:
        writer.advance()
    done = sent[-1][1]
    assert done.time_to_first_token == pytest.approx(1.25)
    assert done.tokens_per_second == pytest.approx(4.0)  # four tokens after the first, in one second


def test_the_speed_that_is_told_is_that_of_the_last_second_and_the_end_tells_the_whole_texts(clock: Clock) -> None:
    writer, _, sent = start(clock, pace=10.0, seconds=0.001)
    run(writer, clock, until=1010.0)
    assert sent[-1][1].tokens_per_second == pytest.approx(10, rel=0.05)
    writer.change(SetParams(id=1, pace=0.0))
    while clock.now < 1012.0:
        writer.advance()
    assert sent[-1][1].tokens_per_second == pytest.approx(1000, rel=0.05)
    writer.cancel()
    assert sent[-1][1].tokens_per_second == pytest.approx(2100 / 12, rel=0.1)


def test_the_further_apart_messages_are_to_be_the_more_tokens_each_has(clock: Clock) -> None:
    writer, _, sent = start(clock, pace=0.0, seconds=0.001)
    writer.apart = 0.1
    while clock.now < 1002.0:
        writer.advance()
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(sent)]
    assert min(gaps) >= 0.1 - 1e-9
    assert max(gaps) <= 0.1 + 0.0011
    assert {len(event.tokens) for _, event in sent[1:]} <= {100, 101}


def test_a_text_that_is_told_plainly_is_sent_when_its_tokens_would_be(clock: Clock) -> None:
    writer, _, sent = start(clock, pace=0.0, plain=True, seconds=0.001, limit=100)
    writer.advance()
    assert [event for _, event in sent] == [Written(id=1, text="x")]
    while not writer.finished:
        writer.advance()
    *written, (_, done) = sent
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(written[:-1])]
    assert BATCH_SECONDS - 1e-9 <= min(gaps) <= max(gaps) <= BATCH_SECONDS + 0.0011
    assert "".join(event.text for _, event in written) == 100 * "x"
    assert (done.new_tokens, done.finish_reason) == (100, "length")
    assert done.time_to_first_token == pytest.approx(0.001)
    assert done.tokens_per_second == pytest.approx(1000)


def test_a_text_that_is_told_plainly_keeps_its_pace(clock: Clock) -> None:
    writer, scripted, sent = start(clock, pace=10, plain=True)
    for count in (1, 1, 2, 2, 3):
        writer.advance()
        assert scripted.new_tokens == count
        clock.now += 0.0501
    assert [event.text for _, event in sent] == ["x", "x", "x"]


def test_what_is_held_is_written_at_once_and_answers_of_other_threads_do_not_wait_for_it() -> None:
    source, sink = os.pipe()
    line = Connection(source, sink)
    os.set_blocking(source, False)
    first, second, third = (Error(id=id, kind="", message="") for id in (1, 2, 3))
    with line.hold():
        line.send(first)
        line.send(second)
        other = threading.Thread(target=line.send, args=(third,))
        other.start()
        other.join()
        assert os.read(source, 1000) == encode(third)
        line.release()
        assert os.read(source, 1000) == encode(first) + encode(second)
        line.send(first)
    assert os.read(source, 1000) == encode(first)
    line.send(second)
    assert os.read(source, 1000) == encode(second)
    os.close(source)
    os.close(sink)


def written_out(writer: Writer, source: int, sink: int) -> list[bytes]:
    """The lines that a text makes, from here to its end; the pipe is closed then."""
    while not writer.finished:
        writer.advance()
    os.close(sink)
    with os.fdopen(source, "rb") as events:
        return events.readlines()


def test_no_message_is_longer_than_allowed_and_no_text_is_lost(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(connection, "MAX_MESSAGE_BYTES", 200)
    source, sink = os.pipe()
    writer = Writer(Connection(source, sink), 1, Scripted(clock, limit=1000), pace=0.0, asked_at=clock.now, plain=True)
    writer.apart = 1.0
    lines = written_out(writer, source, sink)
    assert max(map(len, lines)) <= 200
    assert "".join(json.loads(line)["text"] for line in lines) == 1000 * "x"


def test_no_message_is_longer_than_allowed_and_no_token_is_lost(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(connection, "MAX_MESSAGE_BYTES", 400)
    source, sink = os.pipe()
    writer = Writer(Connection(source, sink), 1, Scripted(clock, limit=50), pace=0.0, asked_at=clock.now)
    lines = written_out(writer, source, sink)
    assert max(map(len, lines)) <= 400
    positions = [token["position"] for line in lines for token in json.loads(line).get("tokens", [])]
    assert positions == list(range(1, 51))


def test_a_token_too_long_for_any_message_is_an_error_and_not_a_broken_line(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(connection, "MAX_MESSAGE_BYTES", 50)
    source, sink = os.pipe()
    writer = Writer(Connection(source, sink), 1, Scripted(clock), pace=0.0, asked_at=clock.now)
    with pytest.raises(MessageTooLongError):
        writer.advance()
    os.close(sink)
    with os.fdopen(source, "rb") as events:
        assert events.read() == b""


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b" "))),
    cuts=st.lists(st.integers(1, 20), min_size=1),
)
def test_lines_come_out_whole_however_they_are_cut_on_the_way(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    buffer, found, place, turn = LineBuffer(limit=20), [], 0, 0
    while place < len(stream):
        step = cuts[turn % len(cuts)]
        found += buffer.push(stream[place : place + step])
        place, turn = place + step, turn + 1
    expected = [TooLong(line[:256]) if len(line) >= 20 else line for line in lines if len(line) >= 20 or line.strip()]
    assert [isinstance(line, TooLong) for line in found] == [isinstance(line, TooLong) for line in expected]
    for mine, right in zip(found, expected, strict=True):
        if isinstance(mine, TooLong):
            assert right.head.startswith(mine.head)
        else:
            assert mine == right
