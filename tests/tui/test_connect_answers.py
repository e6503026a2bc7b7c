"""Servers that others wrote in the engine's place, each scripted after what the real one was seen to answer:
llama.cpp's `llama-server` and `transformers serve`.
"""

from __future__ import annotations

import json

import pytest
from run_maker import until
from scripted_server import DONE, Reply, ScriptedServer, event, piece, streamed
from test_connect import Talk, wish

from engine.config import ENDLESS, SamplingParams
from engine.inference.stream import UNTOLD
from engine.worker.answers import ModelsListed, decode_answer
from engine.worker.protocol import Ask, Done, Error, Load, Loaded, Score, Scored, SetParams, Started, Told
from engine.worker.questions import ListModels
from minigpt_tui.palette import model_facts

LLAMA_MODEL = {
    "id": "./fables.gguf", "aliases": ["./fables.gguf"], "tags": [], "object": "model", "created": 1795294416,
    "owned_by": "llamacpp",
    "meta": {"vocab_type": 2, "n_vocab": 34, "n_ctx": 8, "n_ctx_train": 128, "n_embd": 32, "n_params": 28992,
             "size": 115968, "ftype": "all F32"},
}  # fmt: skip

PROPS = {"total_slots": 4, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "build_info": "b1-0c1e570"}


def drawn(text: str, id: int, tops: list[tuple[int, str, float]]) -> dict[str, object]:
    """The logprobs of what came with one token, as llama.cpp's server has them in completions too."""
    told = [{"id": one, "token": token, "bytes": [*token.encode()], "logprob": logprob} for one, token, logprob in tops]
    own = next((logprob for one, _, logprob in tops if one == id), -7.5)
    content = {"id": id, "token": text, "bytes": [*text.encode()], "logprob": own, "top_logprobs": told}
    return {"content": [content]}


def ended(reason: str, tokens: int) -> bytes:
    """Its last event."""
    choice = {"text": "", "index": 0, "logprobs": None, "finish_reason": reason}
    usage = {"completion_tokens": tokens, "prompt_tokens": 7, "total_tokens": tokens + 7}
    return event({"choices": [choice], "object": "text_completion", "usage": usage, "timings": {"cache_n": 0}}) + DONE


def refused(message: str, status: int, kind: str, **more: object) -> Reply:
    body = {"error": {"code": status, "message": message, "type": kind} | more}
    return Reply(json.dumps(body).encode(), status, "application/json; charset=utf-8")


def too_long(tokens: int) -> Reply:
    message = f"request ({tokens} tokens) exceeds the available context size (8 tokens), try increasing it"
    return refused(message, 400, "exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=8)


def asked_of(server: ScriptedServer, path: str) -> int:
    """How many requests went there."""
    return [asked for asked, _, _ in server.requests].count(path)


@pytest.fixture
def server() -> ScriptedServer:
    server = ScriptedServer()
    listed = {"models": [{"name": "./fables.gguf"}], "object": "list", "data": [LLAMA_MODEL]}
    server.models = lambda: Reply(json.dumps(listed).encode())
    server.props = lambda: Reply(json.dumps(PROPS).encode())
    return server


@pytest.fixture
async def talk(server):
    async with server.running() as url:
        talk = Talk(url)
        yield talk
        await talk.bridge.close()


async def test_llama_servers_tokens_have_their_figures_and_halves_of_characters_none(talk, server):
    server.complete = lambda body: streamed(
        piece(" w", logprobs=drawn(" w", 9, [(9, " w", -0.01), (4, "", -4.5), (7, "x", -4.75), (8, "x", -9.0)])),
        piece("狐", logprobs=drawn("狐", 200, [(200, "\ufffd", -0.1), (201, "", -3.0)])),
        piece("\n\nB", logprobs=drawn("\n\nB", 30, [(30, "B", -0.2), (31, "C", -2.0)])),
        piece("", logprobs=drawn("", 0, [(0, "", -0.3)])),
        ended("stop", 7),
    )  # fmt: skip
    await talk.ask(wish())
    assert [(token.text, token.logprob) for token in talk.tokens] == [(" w", -0.01), ("狐", UNTOLD), ("\n\nB", UNTOLD)]
    assert [(top.text, top.logprob) for top in talk.tokens[0].top] == [(" w", -0.01), ("x", -4.75)]
    assert talk.tokens[1].top == talk.tokens[2].top == ()


async def test_llama_server_is_told_to_filter_as_we_do(talk, server):
    server.complete = lambda body: streamed(piece("a"), ended("length", 8))
    await talk.ask(Load(id=1), Loaded)
    await talk.ask(wish(id=2, model="./fables.gguf", params={"repetition_penalty": 1.5}))
    [body, *_] = server.bodies
    assert body["samplers"] == ["penalties", "temperature", "top_k", "top_p", "min_p"]
    assert (body["repeat_penalty"], body["repeat_last_n"]) == (1.5, 8)


async def test_a_text_of_nothing_begins_as_llama_servers_model_begins_texts(talk, server):
    server.complete = lambda body: streamed(piece("On") if body["prompt"] else b"", ended("length", 1))
    await talk.ask(Load(id=9), Loaded)
    await talk.ask(wish(prompt="", model="./fables.gguf", params={"max_new_tokens": 1}))
    [started] = [said for said in talk.events if isinstance(said, Started)]
    assert (started.prompt, len(started.prompt_tokens), talk.text) == ("", 1, "On")
    assert server.bodies[-1]["prompt"] == "<|endoftext|>"
    ids = (*started.prompt_tokens, talk.tokens[0].token)
    talk.events.clear()
    await talk.ask(wish(id=2, prompt="", prompt_tokens=ids, params={"max_new_tokens": 1}))
    assert talk.events[0].prompt == "On"
    assert server.bodies[-1]["prompt"] == "<|endoftext|>On"
    server.props = lambda: Reply(b"", 500)
    await talk.ask(wish(id=3, prompt="", model="./fables.gguf", params={"max_new_tokens": 1}))
    assert server.bodies[-1]["prompt"] == "<|endoftext|>"
    assert asked_of(server, "/props") == 1


async def test_no_other_server_is_asked_what_its_models_texts_begin_with(talk, server):
    server.models = lambda: Reply(b'{"data": [{"id": "small", "owned_by": "vllm"}]}')
    await talk.ask(Load(id=1), Loaded)
    for id in (2, 3):
        await talk.ask(wish(id=id, prompt=""))
    assert [body["prompt"] for body in server.bodies] == ["", ""]
    assert asked_of(server, "/props") == 0


async def test_a_beginning_that_could_not_be_told_is_asked_for_again(talk, server):
    right, server.props = server.props, lambda: Reply(b"", 503)
    server.complete = lambda body: streamed(piece("x"), ended("length", 1))
    await talk.ask(Load(id=1), Loaded)
    for id in (2, 3):
        await talk.ask(wish(id=id, prompt="", model="./fables.gguf", params={"max_new_tokens": 1}))
        server.props = right
    assert [body["prompt"] for body in server.bodies] == ["", "<|endoftext|>"]


async def test_a_text_goes_on_past_the_context_of_llama_server(talk, server):
    """Which refuses what is longer than it, and ends a text where it is full. A token is a character here."""

    def complete(body):
        if (length := len(body["prompt"])) >= 8:
            return too_long(length)
        count = min(body["max_tokens"], 8 - length)
        return streamed(*[piece("x")] * count, ended("length", count))

    server.complete = complete
    await talk.ask(Load(id=1), Loaded)
    for id, length, limit in ((2, 3, 20), (3, 40, 20), (4, 7, 1)):
        talk.events.clear()
        done = await talk.ask(wish(id=id, model="./fables.gguf", prompt="O" * length, params={"max_new_tokens": limit}))
        assert (done.finish_reason, talk.text) == ("length", "x" * limit)
    ends = [body["prompt"] for body in server.bodies]
    assert all(prompt == "O" * prompt.count("O") + "x" * prompt.count("x") for prompt in ends)


async def test_a_prompt_that_is_refused_for_its_length_by_a_server_of_unknown_context_is_said(talk, server):
    server.complete = lambda body: too_long(40)
    error = await talk.ask(wish(prompt="O" * 40))
    assert (error.kind, len(server.bodies)) == ("InvalidSettingError", 1)
    assert "request (40 tokens) exceeds the available context size (8 tokens)" in error.message


@pytest.mark.parametrize("limit", [50, ENDLESS])
async def test_a_text_ends_where_a_server_of_unknown_context_ends_it_and_refuses_to_go_on(talk, server, limit):
    server.complete = lambda body: (
        streamed(*[piece("x")] * 3, ended("length", 3)) if body["prompt"] == "Once" else too_long(8)
    )
    done = await talk.ask(wish(params={"max_new_tokens": limit}))
    assert isinstance(done, Done), done
    assert (done.finish_reason, done.new_tokens, talk.text) == ("length", 3, "xxx")
    assert len(server.bodies) == 2


async def test_what_is_refused_once_settings_are_turned_is_said(talk, server):
    def complete(body):
        if body["top_k"]:
            return refused("Unsupported parameter: top_k", 400, "invalid_request_error")
        return streamed(piece("x"), piece("", "length"), DONE)

    server.complete = complete
    talk.bridge.take(wish(params={"max_new_tokens": ENDLESS}))
    await until(lambda: len(talk.tokens) >= 3)
    talk.bridge.take(SetParams(id=1, params=SamplingParams(top_k=40, max_new_tokens=ENDLESS)))
    assert "Unsupported parameter: top_k" in (await talk.until(Error)).message


@pytest.mark.parametrize(
    ("meta", "context", "parameters"),
    [
        ({"n_ctx": True, "n_params": True}, 0, 0),
        ({"n_ctx": 2**31, "n_ctx_train": 128, "n_params": 2**60}, 128, 0),
        ({"n_ctx": -1, "n_params": 7.5}, 0, 0),
        ({"n_ctx": 10**400}, 0, 0),
    ],
)
async def test_figures_of_a_model_that_cannot_be_are_not_told(talk, server, meta, context, parameters):
    listed = {"data": [LLAMA_MODEL | {"meta": meta}]}
    server.models = lambda: Reply(json.dumps(listed).encode())
    model = (await talk.ask(Load(id=1), Loaded)).model
    assert (model.block_size, model.parameters) == (context, parameters)
    assert type(model.block_size) is type(model.parameters) is int


async def test_a_server_that_counts_what_could_come_is_asked_for_less(talk, server):
    """As vLLM's documents say."""
    server.models = lambda: Reply(b'{"data": [{"id": "small", "max_model_len": 128}]}')

    def complete(body):
        if 5 + body["max_tokens"] > 128:
            words = "'max_tokens' is too large: 400. This model's maximum context length is 128 tokens"
            return Reply(json.dumps({"object": "error", "message": words, "code": 400}).encode(), 400)
        return streamed(*[piece("x")] * body["max_tokens"], piece("", "length"), DONE)

    server.complete = complete
    await talk.ask(Load(id=1), Loaded)
    done = await talk.ask(wish(id=2, params={"max_new_tokens": 150}))
    assert [body["max_tokens"] for body in server.bodies] == [150, 64, 64, 22]
    assert (done.finish_reason, talk.text) == ("length", "x" * 150)


async def test_a_length_in_tokens_is_kept_where_characters_are_of_several(talk, server):
    server.complete = lambda body: streamed(piece("狐"), ended("length", 3))
    done = await talk.ask(wish(params={"max_new_tokens": 6}))
    assert (done.finish_reason, talk.text) == ("length", "狐狐")
    assert [body["max_tokens"] for body in server.bodies] == [6, 3]


async def test_an_endless_text_ends_where_a_server_writes_nothing_more(talk, server):
    server.complete = lambda body: streamed(ended("length", 0))
    done = await talk.ask(wish(params={"max_new_tokens": ENDLESS}))
    assert (done.finish_reason, done.new_tokens) == ("length", 0)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refused("Invalid API Key", 401, "authentication_error"), "wants an API key (Invalid API Key): give its key"),
        (refused("Loading model", 503, "unavailable_error"), "is not ready (Loading model): try again in a moment"),
        (refused("File Not Found", 404, "not_found_error"), "has no v1/completions (File Not Found)"),
    ],
)
async def test_what_llama_server_refuses_is_said(talk, server, reply, words):
    server.complete = lambda body: reply
    error = await talk.ask(wish())
    assert words in f"{error.message}: {error.hint}"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(json.dumps({"choices": [{"text": " w", "logprobs": drawn(" w", 1, [(1, " w", -0.1)])}]}).encode()),
        refused("Only no echo is supported", 500, "server_error"),
    ],
)
async def test_llama_server_cannot_score(talk, server, reply):
    server.complete = lambda body: reply
    error = await talk.ask(Score(id=1, text="The fox", model="small"), Scored)
    assert (error.kind, "does not tell how likely" in error.message) == ("InvalidSettingError", True)


async def test_a_list_of_models_says_what_llama_server_tells_of_them(talk):
    [model] = decode_answer((await talk.ask(Ask(id=1, question=ListModels()), Told)).answer, ModelsListed).models
    assert (model.name, model.block_size, model_facts(model)) == ("./fables.gguf", 8, "29.0K")


# transformers serve.


async def test_a_server_that_lists_no_model_is_asked_for_the_one_that_is_named(talk, server):
    server.models = lambda: Reply(b'{"object":"list","data":[]}')
    assert "name it with --model" in (await talk.ask(Load(id=1), Loaded)).hint
    assert (await talk.ask(Load(id=2, model="/models/fables-hf"), Loaded)).model.name == "/models/fables-hf"


async def test_transformers_serve_is_not_sent_what_it_does_not_take(talk, server):
    server.props = None

    def complete(body):
        if unknown := [name for name in ("top_k", "min_p", "repetition_penalty") if name in body]:
            words = f"Unexpected fields in the request: {{{', '.join(map(repr, unknown))}}}"
            return Reply(json.dumps({"detail": words}).encode(), 422)
        if not body["prompt"]:
            return streamed(event('{"error": "cannot reshape tensor of 0 elements into shape [1, 0, -1, 8]"}'))
        usage = {"completion_tokens": 1, "prompt_tokens": 7, "total_tokens": 8}
        last = {"choices": [{"finish_reason": "length", "index": 0, "text": ""}], "usage": usage}
        return streamed(event({"choices": [{"index": 0, "text": " "}]}), event(last))

    server.complete = complete
    done = await talk.ask(wish(params={"max_new_tokens": 1}))
    assert (done.finish_reason, talk.text, talk.tokens[0].logprob) == ("length", " ", UNTOLD)
    error = await talk.ask(wish(id=2, prompt=""))
    assert isinstance(error, Error)
    assert "cannot reshape tensor" in error.message
    assert error.hint == "it may want a first word: type a prompt"
