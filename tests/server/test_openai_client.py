"""OpenAI's own client gets what it expects: texts whole and streamed, figures, errors as its exceptions, and a stream
that is left ends in the engine.
"""

from __future__ import annotations

import json
import math

import httpx
import openai
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai import OpenAI
from serving import Server, until

from minigpt_tui.server.events import EventAround, event
from minigpt_tui.server.openai_answers import (
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    CompletionChoice,
    CompletionEvent,
    Usage,
)

PROMPT = "THE FOX:\n"


@pytest.fixture(scope="module")
def client(server: Server):
    with OpenAI(base_url=f"{server.url}/v1", api_key="not needed", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def alone(client: OpenAI) -> str:
    """What follows PROMPT with seed 3."""
    return write(client).choices[0].text


def write(client: OpenAI, **fields):
    return client.completions.create(**{"model": "tiny", "prompt": PROMPT, "seed": 3, "max_tokens": 24, **fields})


def test_a_completion_has_every_field_that_openai_gives_it(client: OpenAI):
    answer = client.completions.with_raw_response.create(model="tiny", prompt=PROMPT, seed=3)
    body = json.loads(answer.text)
    assert body.keys() == {"id", "object", "created", "model", "choices", "usage"}
    assert body["id"].startswith("cmpl-")
    assert (body["object"], body["model"]) == ("text_completion", "tiny")
    (choice,) = body["choices"]
    assert choice.keys() == {"text", "index", "logprobs", "finish_reason"}
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")
    assert body["usage"] == {"prompt_tokens": len(PROMPT), "completion_tokens": 16, "total_tokens": len(PROMPT) + 16}
    assert len(choice["text"]) == 16  # OpenAI's default, and a token is a character here


def test_a_stream_is_the_same_text_in_pieces_and_ends_with_done(client: OpenAI, server: Server, alone: str):
    chunks = list(write(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == alone
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert not chunks[-1].choices
    assert chunks[-1].usage.completion_tokens == 24
    fields = {"model": "tiny", "prompt": PROMPT, "max_tokens": 4, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=fields) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in raw.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all("usage" not in json.loads(line.removeprefix("data: ")) for line in lines[:-1])


@given(model=st.text(), text=st.text())
@example(model='"text":""', text='"content":""\n\u2028')
@example(model='\\"content":""', text="")
def test_what_is_written_around_a_piece_once_makes_the_event_that_it_would_have(model: str, text: str):
    def completion(text: str) -> bytes:
        return event(CompletionEvent("id", 1, model, [CompletionChoice(text, 3, None, None)]))

    def chat(text: str) -> bytes:
        choice = ChatChunkChoice(3, ChatDelta(content=text), None, None)
        return event(ChatChunk("id", 1, model, [choice], Usage()))

    assert EventAround(completion(""), "text").event(text) == completion(text)
    assert EventAround(chat(""), "content").event(text) == chat(text)


def test_samples_are_those_of_seeds_in_a_row_and_come_once_each(client: OpenAI, alone: str):
    several = write(client, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert [choice.text for choice in several.choices] == [
        alone,
        *(write(client, seed=seed).choices[0].text for seed in (4, 5)),
    ]
    assert several.usage.prompt_tokens == len(PROMPT)  # it is read for all
    assert several.usage.completion_tokens == 72
    streamed = ["", "", ""]
    for chunk in write(client, n=3, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [choice.text for choice in several.choices]


def test_a_prompt_is_a_text_or_ids_or_several_of_either(client: OpenAI, alone: str):
    ids = tokens_of(PROMPT)
    assert write(client, prompt=ids).choices[0].text == alone
    for prompts in ([PROMPT, "the river"], [ids, tokens_of("the river")]):
        both = write(client, prompt=prompts, n=2)
        assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
        assert both.choices[0].text == alone
        assert both.choices[3].text == write(client, prompt="the river", seed=4).choices[0].text
        assert both.usage.prompt_tokens == len(PROMPT) + len("the river")


def tokens_of(text: str) -> list[int]:
    from engine.catalog import find_checkpoint
    from engine.text.tokenizers import Tokenizer

    return Tokenizer.open(find_checkpoint("tiny")).encode(text)


def test_a_stop_string_ends_the_text_before_it_and_sampling_fields_are_heeded(client: OpenAI):
    whole = write(client, temperature=0, max_tokens=60).choices[0].text
    assert write(client, temperature=0, max_tokens=60, seed=9).choices[0].text == whole  # greedy
    assert write(client, max_tokens=60, seed=9, extra_body={"top_k": 1}).choices[0].text == whole
    word = whole.split()[3]
    for stop in (word, ["zzz", word]):
        stopped = write(client, temperature=0, max_tokens=60, stop=stop).choices[0]
        assert (stopped.text, stopped.finish_reason) == (whole[: whole.index(word)], "stop")
    assert write(client, top_p=1e-9, max_tokens=60, temperature=2).choices[0].text == whole


def test_logprobs_are_of_each_token_and_echo_tells_those_of_the_prompt(client: OpenAI, alone: str):
    plain = write(client, logprobs=2).choices[0].logprobs
    assert "".join(plain.tokens) == alone
    assert plain.text_offset == list(range(len(PROMPT), len(PROMPT) + 24))
    for token, logprob, top in zip(plain.tokens, plain.token_logprobs, plain.top_logprobs, strict=True):
        assert top[token] == logprob <= 0
        assert 2 <= len(top) <= 3
        assert sum(map(math.exp, top.values())) <= 1.0001
    echoed = write(client, logprobs=2, echo=True).choices[0]
    assert echoed.text == PROMPT + alone
    assert (echoed.logprobs.token_logprobs[0], echoed.logprobs.top_logprobs[0]) == (None, None)
    assert echoed.logprobs.tokens == [*PROMPT, *alone]
    assert echoed.logprobs.text_offset == list(range(len(echoed.text)))
    assert echoed.logprobs.token_logprobs[len(PROMPT) :] == plain.token_logprobs
    # The prompt alone, as evaluation harnesses ask: the same figures, and nothing is written.
    read = write(client, logprobs=1, echo=True, max_tokens=0, prompt=PROMPT + alone)
    assert (read.choices[0].text, read.usage.completion_tokens) == (PROMPT + alone, 0)
    assert read.choices[0].logprobs.token_logprobs[1:] == pytest.approx(echoed.logprobs.token_logprobs[1:], abs=1e-4)
    odd = write(client, logprobs=1, echo=True, max_tokens=0, prompt="rivre xof").choices[0].logprobs
    likeliest = [max(top, key=top.get) for top in odd.top_logprobs[1:]]
    assert any(best != token for best, token in zip(likeliest, odd.tokens[1:], strict=True))  # which is then told, too
    assert all(token in top for top, token in zip(odd.top_logprobs[1:], odd.tokens[1:], strict=True))
    streamed = [chunk.choices[0] for chunk in write(client, logprobs=2, echo=True, stream=True)]
    assert [one for choice in streamed for one in choice.logprobs.tokens] == [*PROMPT, *alone]
    assert write(client, logprobs=0).choices[0].logprobs.top_logprobs is None


def test_the_models_are_listed_and_found_by_name(client: OpenAI):
    listed = client.models.list().data
    assert [model.id for model in listed] == ["tiny", "talker", "endless", "reader"]
    assert {(model.object, model.owned_by) for model in listed} == {("model", "minigpt-tui")}
    assert client.models.retrieve("talker").id == "talker"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-5")
    assert error.value.code == "model_not_found"


def test_a_chat_is_the_models_own_template_and_its_answer_is_streamed(client: OpenAI):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
    ]
    asked = {"model": "talker", "messages": turns, "seed": 5, "max_completion_tokens": 12}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3)
    (choice,) = whole.choices
    assert (whole.object, choice.message.role, choice.finish_reason) == ("chat.completion", "assistant", "length")
    assert whole.id.startswith("chatcmpl-")
    assert len(choice.logprobs.content) == whole.usage.completion_tokens == 12
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.bytes is None or bytes(token.bytes).decode() == token.token
    prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    words = client.completions.create(model="talker", prompt=prompt, max_tokens=1).usage.prompt_tokens
    assert whole.usage.prompt_tokens < words  # the names of special tokens are one token each here, and words there

    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == choice.message.content
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage
    both = client.chat.completions.create(**asked, n=2)
    assert both.choices[0].message.content == choice.message.content
    assert [each.index for each in both.choices] == [0, 1]


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"model": "tiny"}, "model", "no chat template"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "repetition_penalty"),
        ({"messages": [{"role": "tool", "content": "4", "tool_call_id": "1"}]}, "messages[0].role", "tools"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs=true"),
        ({"logit_bias": {"5": 100}}, "logit_bias", "not supported"),
    ],
)
def test_what_would_change_the_text_and_is_not_there_is_refused_by_name(client: OpenAI, fields, param, says):
    asked = {"model": "talker", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 1, **fields}
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**asked)
    assert error.value.param == param
    assert says in error.value.message


def test_what_clients_send_and_is_not_needed_does_nothing(client: OpenAI, alone: str):
    answer = write(client, user="me", presence_penalty=0, frequency_penalty=0, logit_bias={}, best_of=1, suffix="")
    assert answer.choices[0].text == alone


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"prompt": [10_000]}, "prompt"),
        ({"max_tokens": 100_001}, "max_tokens"),
        ({"n": 17}, "n"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"extra_body": {"temperatur": 0.5}}, "temperatur"),
    ],
)
def test_a_field_out_of_its_range_is_named(client: OpenAI, fields, param):
    for stream in (False, True):
        with pytest.raises(openai.UnprocessableEntityError) as error:
            write(client, stream=stream, **fields)
        assert error.value.param == param
        assert error.value.type == "invalid_request_error"


def test_a_stream_that_is_left_ends_in_the_engine_and_so_does_an_answer_nobody_waits_for(
    client: OpenAI, server: Server
):
    stream = write(client, model="endless", max_tokens=100_000, stream=True, n=2)
    next(iter(stream))
    assert server.ask("/health").json()["running"] == 2
    stream.close()
    until(lambda: server.ask("/health").json()["running"] == 0, "the end of what was left")
    with pytest.raises(openai.APITimeoutError):
        write(client, model="endless", max_tokens=100_000, timeout=0.3)
    until(lambda: server.ask("/health").json()["running"] == 0, "the end of what was left")
    assert 'minigpt_texts_total{finish_reason="cancelled",model="endless"} 3.0' in server.ask("/metrics").text


def test_many_streams_at_once_are_each_what_they_would_be_alone(server: Server):
    import asyncio

    async def both() -> tuple[list[str], list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0) as client:

            async def one(seed: int) -> str:
                fields = {"prompt": PROMPT[: 1 + seed % 5], "seed": seed, "max_tokens": 40 + seed}
                stream = await client.completions.create(model="tiny", stream=True, **fields)
                return "".join([chunk.choices[0].text async for chunk in stream])

            together = await asyncio.gather(*map(one, range(24)))
            return together, [await one(seed) for seed in range(24)]

    together, alone = asyncio.run(both())
    assert together == alone
