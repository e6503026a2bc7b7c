"""A server with OpenAI's API in the engine's place: what it says as texts of the app, and what goes wrong in words."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from run_maker import until
from scripted_server import DONE, Reply, ScriptedServer, event, piece, streamed, told

from engine.config import ENDLESS, SamplingParams
from engine.errors import InvalidSettingError
from engine.inference.stream import UNTOLD
from engine.worker.answers import ModelsListed, decode_answer
from engine.worker.protocol import (
    Ask,
    Cancel,
    Done,
    Error,
    Generate,
    Inspect,
    Load,
    Loaded,
    ParamsAt,
    ParamsChanged,
    Score,
    Scored,
    SetParams,
    Started,
    Tokens,
    Told,
)
from engine.worker.questions import ListModels, ListRuns
from minigpt_tui.connecting.bridge import Bridge
from minigpt_tui.connecting.event_stream import EventStream, EventTooLongError
from minigpt_tui.connecting.server_api import ServerApi
from minigpt_tui.connecting.server_place import ServerPlace

KEY = "sk-secret-123"


class Talk:
    """A bridge and what it said."""

    def __init__(self, url: str, key: str = "") -> None:
        self.events: list = []
        self.bridge = Bridge(ServerApi(ServerPlace(url).url, key), self.events.append)

    async def until(self, kind, id: int = 1, seconds: float = 10.0):
        """The first event of a kind that answers a request."""
        async with asyncio.timeout(seconds):
            while True:
                for said in self.events:
                    if isinstance(said, kind) and said.id == id:
                        return said
                await asyncio.sleep(0.005)

    async def ask(self, request, kind=Done):
        """Ask, and wait for an answer of this kind or an error."""
        self.bridge.take(request)
        return await self.until((kind, Error), request.id)

    @property
    def tokens(self) -> list:
        return [token for said in self.events if isinstance(said, Tokens) for token in said.tokens]

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
async def talk(server):
    async with server.running() as url:
        talk = Talk(url, KEY)
        yield talk
        await talk.bridge.close()


def wish(**more: object) -> Generate:
    params = SamplingParams(**{"max_new_tokens": 8, "seed": 7} | more.pop("params", {}))
    return Generate(**{"id": 1, "prompt": "Once", "alternatives": 8, "model": "small"} | more, params=params)


# Server-sent events.


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_the_same_however_their_bytes_are_cut(end):
    lines = ["\ufeff: hello", "data: one", "", ": alive", "event: x", "data: tw", "data:  o", "id", "", "data:ü", ""]
    text = end.join(lines)
    raw = text.encode()
    for cut in range(len(raw) + 1):
        stream = EventStream()
        found = stream.push(raw[:cut]) + stream.push(raw[cut:]) + stream.close()
        assert found == [b"one", b"tw\n o", "ü".encode()], cut
    stream = EventStream()
    assert [*(each for byte in raw for each in stream.push(bytes([byte]))), *stream.close()] == found


def test_an_event_without_an_end_is_not_kept_forever():
    stream = EventStream(limit=1000)
    with pytest.raises(EventTooLongError):
        stream.push(b"data: " + b"x" * 1001)
    stream = EventStream(limit=1000)
    line = b"data: " + b"x" * 100 + b"\n"
    with pytest.raises(EventTooLongError):
        stream.push(line * 20)


# Texts.


async def test_a_text_comes_with_its_tokens_and_what_could_have_come(talk, server):
    done = await talk.ask(wish())
    started = talk.events[0]
    assert isinstance(started, Started)
    assert (started.prompt, started.seed, len(started.prompt_tokens)) == ("Once", 7, 1)
    assert talk.text == "The fox said: who goes there?"
    assert [token.position for token in talk.tokens] == [*range(1, 9)]
    assert (done.finish_reason, done.new_tokens, done.seed) == ("length", 8, 7)
    first = talk.tokens[0]
    assert first.logprob == -0.5
    assert [(other.text, other.logprob) for other in first.top] == [("The", -0.5), (" cat", -2.0)]
    assert len({token.token for token in talk.tokens}) == 8
    [body] = server.bodies
    assert body["prompt"] == "Once"
    assert (body["max_tokens"], body["seed"], body["logprobs"], body["stream"]) == (8, 7, 5, True)
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"


async def test_a_text_goes_on_from_its_tokens_and_from_another_that_could_have_come(talk, server):
    await talk.ask(wish())
    ids = (*talk.events[0].prompt_tokens, *(token.token for token in talk.tokens))
    cat = talk.tokens[0].top[1].token
    talk.events.clear()
    await talk.ask(wish(prompt_tokens=(ids[0], cat), prompt=""))
    assert talk.events[0].prompt == "Once cat"
    assert server.bodies[-1]["prompt"] == "Once cat"
    error = await talk.ask(wish(id=2, prompt_tokens=(999_999,)))
    assert "another link" in error.message


async def test_settings_turned_in_mid_text_go_on_from_the_text_so_far(talk, server):
    talk.bridge.take(wish(params={"max_new_tokens": 100}))
    await until(lambda: len(talk.tokens) >= 5)
    before = len(talk.tokens)
    written = talk.text
    talk.bridge.take(SetParams(id=1, params=SamplingParams(temperature=1.5, max_new_tokens=30)))
    done = await talk.until(Done)
    change = next(said for said in talk.events if isinstance(said, ParamsChanged))
    assert (change.position, change.params.temperature, change.params.seed) == (1 + before, 1.5, 7)
    _, second = server.bodies
    assert second["prompt"] == "Once" + written
    assert (second["temperature"], second["max_tokens"]) == (1.5, 30 - before)
    assert done.new_tokens == 30 == len(talk.tokens)
    assert [token.position for token in talk.tokens] == [*range(1, 31)]


async def test_a_text_is_stopped_at_once_and_the_server_hears_of_it(talk, server):
    talk.bridge.take(wish(params={"max_new_tokens": ENDLESS}))
    await until(lambda: len(talk.tokens) >= 3)
    talk.bridge.take(Cancel(id=1))
    done = await talk.until(Done)
    assert (done.finish_reason, done.new_tokens) == ("cancelled", len(talk.tokens))
    await until(lambda: server.left)


async def test_an_endless_text_is_asked_for_stretch_by_stretch(talk, server):
    server.complete = lambda body: streamed(piece("abc"), piece("", "length"), DONE)
    talk.bridge.take(wish(params={"max_new_tokens": ENDLESS}))
    await until(lambda: len(talk.tokens) >= 3)
    talk.bridge.take(Cancel(id=1))
    await talk.until(Done)
    assert server.bodies[1]["prompt"] == "Onceabc"
    talk.events.clear()
    server.complete = lambda body: streamed(piece("", "length"), DONE)  # one that has no room left
    done = await talk.ask(wish(id=2, params={"max_new_tokens": ENDLESS}))
    assert done.finish_reason == "length"


async def test_a_pace_holds_and_is_turned_at_once(talk, server):
    server.pause = 0.0
    loop = asyncio.get_running_loop()
    began = loop.time()
    talk.bridge.take(wish(params={"max_new_tokens": 400}, pace=20.0))
    await until(lambda: len(talk.tokens) >= 4)
    assert loop.time() - began > 0.12
    talk.bridge.take(SetParams(id=1, pace=0.0))
    await talk.until(Done)
    assert len(server.bodies) == 1  # the pace is ours
    assert loop.time() - began < 5


async def test_a_stream_with_half_frames_comments_and_huge_lines_is_read_whole(talk, server):
    raw = b": hello\r\n\r\n" + piece("Grüße").replace(b"\n\n", b"\r\n\r\n") + event({"choices": []})
    raw += event({"choices": [], "usage": {"total_tokens": 3}}) + piece("x" * 300_000) + piece(" end", "stop") + DONE
    server.complete = lambda body: streamed(*(raw[place : place + 7] for place in range(0, 400, 7)), raw[406:])
    done = await talk.ask(wish())
    assert talk.text == "Grüße" + "x" * 300_000 + " end"
    assert done.finish_reason == "stop"


async def test_a_server_that_tells_no_logprobs_or_others_than_its_text_has(talk, server):
    parts = piece("no"), piece("half", logprobs=told("bytes:\\xe2")), piece(" two words", logprobs={"tokens": None})
    server.complete = lambda body: streamed(*parts, piece("", "stop"), DONE)
    await talk.ask(wish())
    assert [(token.text, token.logprob, token.top) for token in talk.tokens] == [
        ("no", UNTOLD, ()), ("half", UNTOLD, ()), (" two words", UNTOLD, ()),
    ]  # fmt: skip


async def test_logprobs_as_chat_completions_have_them_are_read_too(talk, server):
    content = [{"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b", "logprob": -0.5}], "bytes": [97]}]
    server.complete = lambda body: streamed(piece("a", "stop", logprobs={"content": content}), DONE)
    await talk.ask(wish())
    [token] = talk.tokens
    assert (token.logprob, token.top[0].text, token.top[0].drawn) == (-1.0, "b", pytest.approx(math.exp(-0.5)))


async def test_what_a_server_does_not_know_is_left_out_where_it_changes_nothing(talk, server):
    def complete(body):
        for name in ("top_k", "min_p", "logprobs"):
            if name in body:
                error = {"error": {"message": f"Unrecognized request argument supplied: {name}"}}
                return Reply(json.dumps(error).encode(), 400)
        return streamed(piece("fine", "stop"), DONE)

    server.complete = complete
    await talk.ask(wish())
    assert talk.text == "fine"
    asked = len(server.bodies)
    talk.events.clear()
    await talk.ask(wish(id=2))
    assert len(server.bodies) == asked + 1  # it is known now
    error = await talk.ask(wish(id=3, params={"top_k": 40}), Done)
    assert "Unrecognized request argument supplied: top_k" in error.message  # it would be another text


# What goes wrong.


def failed(message: str, status: int, **headers: str) -> Reply:
    return Reply(json.dumps({"error": {"message": message}}).encode(), status, **headers)


OTHER, HTML = "does not speak OpenAI's API", "text/html"


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (failed(f"Bad key: {KEY}", 401), "WorkerError", "another API key (Bad key: …): give another key"),
        (failed("The model `small` does not exist", 404), "ModelNotFoundError", "does not have that model"),
        (Reply(b'{"detail": "Not Found"}', 404), "WorkerError", "has no v1/completions (Not Found)"),
        (failed("slow", 429, Retry_After="12"), "WorkerError", "too much to do (slow): try again in 12 s"),
        (failed("slow", 429, Retry_After="9" * 5000), "WorkerError", "too much to do (slow): try again later"),
        (failed("no", 500, Retry_After="9" * 5000), "WorkerError", "failed with status 500 (no): see what"),
        (Reply(b"<html>Bad gateway</html>", 502, HTML), "WorkerError", "failed with status 502: see"),
        (Reply(b"", 503), "WorkerError", "failed with status 503"),
        (failed("context length is 4096", 400), "InvalidSettingError", "status 400 (context length is 4096)"),
        (Reply(b"", 308, Location="https://other.example/v1"), "WorkerError", "sends on to https://other.example/v1"),
        (Reply(b"<html>hello</html>", 200, HTML), "WorkerError", f"{OTHER} (its answer is no JSON)"),
        (Reply(b'{"choices": "many"}'), "WorkerError", OTHER),
        (streamed(piece("a"), event("{half")), "WorkerError", OTHER),
        (streamed(piece("a"), event({"error": {"message": "no memory"}})), "WorkerError", "in the middle (no memory)"),
        (streamed(piece("a")), "WorkerError", "broke off in the middle of the text"),
        (streamed(piece("a"), whole=False), "WorkerError", "broke"),
    ],
)
async def test_what_goes_wrong_is_one_line_and_the_text_so_far_stays(talk, server, reply, kind, words):
    server.complete = lambda body: reply
    error = await talk.ask(wish(params={"top_k": 5}))
    line = f"{error.message}: {error.hint}" if error.hint else error.message
    assert (error.kind, words in line) == (kind, True), line
    assert KEY not in line
    assert "\n" not in line
    assert talk.text == ("a" if b'"text": "a"' in b"".join(reply.parts) else "")


async def test_a_server_that_is_not_there_and_one_that_is_another(talk, server):
    gone = Talk("http://127.0.0.1:9")
    error = await gone.ask(Load(id=1), Loaded)
    assert "nothing answers at http://127.0.0.1:9/v1" in error.message
    await gone.bridge.close()
    server.models = lambda: Reply(b'{"models": []}')
    assert "its list of models is none" in (await talk.ask(Load(id=1), Loaded)).message
    server.models = lambda: Reply(b'{"data": []}')
    assert "tells of no model" in (await talk.ask(Load(id=2), Loaded)).message


async def test_models_are_loaded_by_their_names_the_first_for_none(talk):
    loaded = await talk.ask(Load(id=1), Loaded)
    assert (loaded.model.name, loaded.model.block_size) == ("small", 0)
    assert (await talk.ask(Load(id=2, model="big/one"), Loaded)).model.block_size == 4096
    error = await talk.ask(Load(id=3, model="none"), Loaded)
    assert "has no model 'none': it has small, big/one" in f"{error.message}: {error.hint}"
    listed = decode_answer((await talk.ask(Ask(id=4, question=ListModels()), Told)).answer, ModelsListed)
    assert [model.name for model in listed.models] == ["small", "big/one"]


async def test_what_a_server_cannot_do_is_said(talk, server):
    inside = await talk.ask(Inspect(id=1, tokens=(0,), position=1), Done)
    assert "neither attention nor layers" in inside.message
    assert "API for texts alone" in (await talk.ask(Ask(id=2, question=ListRuns()), Told)).message
    changed = wish(id=3, changes=(ParamsAt(3, SamplingParams()),))
    assert "cannot be replayed" in (await talk.ask(changed)).message
    server.complete = lambda body: Reply(json.dumps({"choices": [{"text": "x"}]}).encode())
    assert "does not tell how likely" in (await talk.ask(Score(id=4, text="The fox", model="small"), Scored)).message


async def test_a_text_is_scored_where_the_server_echoes_it(talk, server):
    logprobs = {"tokens": ["The", " fox", " ran"], "token_logprobs": [None, -1.0, -9.0],
                "top_logprobs": [None, {" fox": -1.0}, {" ran": -9.0}], "text_offset": [0, 3, 7]}  # fmt: skip
    answer = {"choices": [{"text": "The fox ran", "logprobs": logprobs, "finish_reason": "length"}]}
    server.complete = lambda body: Reply(json.dumps(answer).encode())
    scored = await talk.ask(Score(id=1, text="The fox", model="small", alternatives=3), Scored)
    assert isinstance(scored, Scored)
    assert (scored.loss, scored.text, scored.ends) == (1.0, "The fox", (3, 7))
    assert [(token.text, token.logprob) for token in scored.tokens] == [(" fox", -1.0)]
    assert server.bodies[0]["echo"] is True


@pytest.mark.parametrize(
    ("tokens", "shares", "first"),
    [
        (["", "The", " fox", " ran"], [None, -2.0, -1.0, -9.0], ""),  # a beginning that is no text, as our own tells it
        (["The", " fox", " ran"], [-2.0, -1.0, -9.0], ""),  # the same, hidden
        (["The", "", " fox", " ran"], [None, -2.0, -1.0, -9.0], "The"),  # a token in the middle without text
    ],
)
async def test_only_a_first_token_that_nothing_stands_before_is_not_scored(talk, server, tokens, shares, first):
    logprobs = {"tokens": tokens, "token_logprobs": shares, "top_logprobs": None, "text_offset": [0] * len(tokens)}
    answer = {"choices": [{"text": "The fox ran", "logprobs": logprobs, "finish_reason": "length"}]}
    server.complete = lambda body: Reply(json.dumps(answer).encode())
    scored = await talk.ask(Score(id=1, text="The fox", model="small"), Scored)
    size = len("The fox") - len(first)
    assert (scored.loss, scored.bits_per_byte) == (1.5, pytest.approx(3.0 / math.log(2) / size))
    assert [token.logprob for token in scored.tokens] == [-2.0, -1.0]
    assert (len(scored.ids), len(scored.ends), scored.ends[0]) == (3, 3, len(first))


# Addresses.


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:8000", "http://localhost:8000/v1"),
        ("https://box.example/", "https://box.example/v1"),
        ("http://box:1/v1/", "http://box:1/v1"),
        ("http://box/api/v1/completions", "http://box/api/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_is_taken_as_people_write_it(given, url):
    assert ServerPlace(given).url == url


@pytest.mark.parametrize(
    "given", ["", "ftp://x", "http://", "http://me:pw@box", "http://x/?key=1", "a b", "http://x:y"]
)
def test_an_address_that_is_none_is_refused_without_telling_a_password(given):
    with pytest.raises(InvalidSettingError) as error:
        ServerPlace(given)
    assert "pw" not in str(error.value)


def test_the_key_is_in_the_environment_of_the_link_alone(monkeypatch):
    monkeypatch.delenv("MINIGPT_API_KEY", raising=False)
    place = ServerPlace("localhost:1", KEY)
    assert place.environment()["MINIGPT_API_KEY"] == KEY
    assert KEY not in " ".join(place.command)
    assert "MINIGPT_API_KEY" not in ServerPlace("localhost:1").environment()
    with pytest.raises(InvalidSettingError, match="characters"):
        ServerPlace("localhost:1", "key\n")
