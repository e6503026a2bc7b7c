"""`POST /v1/chat/completions` for models that have a chat template: the model's turn, whole or as it is written, as
OpenAI's clients read it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence

from fastapi import APIRouter, Request, Response
from msgspec import UNSET, UnsetType

from engine.config import SamplingParams
from engine.errors import CheckpointError, DataError, WorkerError
from engine.inference.stream import Token
from engine.text.chat import read_chat_template, read_special_tokens, stops
from engine.worker.protocol import Done, Started, Tokens
from minigpt_tui.chat_rendering import render_chat
from minigpt_tui.server.backend import Backend, UsedBackend
from minigpt_tui.server.documents import faults, or_events
from minigpt_tui.server.engine_keeper import Served
from minigpt_tui.server.events import event, stream, while_wanted
from minigpt_tui.server.faults import Fault
from minigpt_tui.server.openai_answers import (
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    FinishReason,
    TokenLogprob,
    TopLogprob,
    Usage,
    finish_reason,
    new_id,
    now,
)
from minigpt_tui.server.openai_requests import ChatRequest
from minigpt_tui.server.texts import Job, Text, Texts, seeds

router = APIRouter(tags=["OpenAI"])

DEFAULTS = SamplingParams(temperature=1.0)
"""OpenAI's own."""


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses={**or_events("ChatChunk"), **faults(404)})
async def create_chat_completion(asked: ChatRequest, backend: UsedBackend, request: Request) -> Response:
    """Answer a conversation, with `n` samples."""
    asked.refuse()
    model = backend.model(asked.model)
    backend.check_batch(asked.samples, "n")
    length = backend.length(asked.length, model.info.block_size, "max_completion_tokens")
    prompt, ends = await while_wanted(request, _render(backend, model, asked))
    params = asked.params(DEFAULTS, length, ends)
    jobs = [
        Job(prompt, params.replace(seed=seed), asked.top_logprobs or 0, template=True)
        for seed in seeds(asked.first_seed, asked.samples)
    ]
    texts = backend.write(model, jobs)
    answer = _Answer(model, asked)
    if asked.stream:
        return await stream(request, texts, answer.stream(texts), backend.keeper.fault)
    try:
        whole = await while_wanted(request, answer.whole(texts))
    finally:
        texts.close()
    return Response(whole.model_dump_json(), media_type="application/json")


async def _render(backend: Backend, model: Served, asked: ChatRequest) -> tuple[str, tuple[str, ...]]:
    """The conversation as the model's template has it, and what ends the model's turn."""
    turns = [message.turn(place) for place, message in enumerate(asked.messages)]
    try:
        template = read_chat_template(model.path)
        if template is None:
            raise Fault(
                400,
                f"{model.id} has no chat template, so it cannot chat: use /v1/completions, or a model with a template",
                param="model",
                code="no_chat_template",
            )
        special = read_special_tokens(model.path)
        async with backend.turn(backend.rendering):
            return await render_chat(template, turns, special), stops(template, special)
    except DataError as error:
        raise Fault(422, str(error), param="messages", code="invalid_value") from None
    except CheckpointError as error:
        raise Fault(400, f"{error.message}: use /v1/completions", param="model", code="bad_chat_template") from None
    except WorkerError as error:
        raise Fault(500, str(error), code="engine_failed") from None


class _Answer:
    """One answer as it grows."""

    def __init__(self, model: Served, asked: ChatRequest) -> None:
        self._model = model
        self._asked = asked
        self._id, self._created = new_id("chatcmpl"), now()
        self._usage = Usage()

    async def whole(self, texts: Texts) -> ChatCompletion:
        """All of it at once."""
        written = await texts.collect()
        self._usage.read(len(written[0].started.prompt_tokens))
        for text in written:
            self._usage.wrote(text.done.new_tokens)
        choices = [self._choice(index, text) for index, text in enumerate(written)]
        return ChatCompletion(
            id=self._id, created=self._created, model=self._model.id, choices=choices, usage=self._usage
        )

    def _choice(self, index: int, text: Text) -> ChatChoice:
        return ChatChoice(
            index=index,
            message=ChatAnswer(content=text.text),
            logprobs=self._logprobs(text.tokens),
            finish_reason=finish_reason(text.done.finish_reason),
        )

    async def stream(self, texts: Texts) -> AsyncGenerator[bytes, None]:
        """Its pieces as events, all at once that came at once."""
        usage = None if self._asked.tells_usage else UNSET
        async for events in texts:
            pieces = [piece for each in events for piece in self._pieces(*each)]
            if told := b"".join([self._event([piece], usage) for piece in pieces]):
                yield told
        if self._asked.tells_usage:
            yield self._event([], self._usage)

    def _event(self, choices: list[ChatChunkChoice], usage: Usage | UnsetType | None) -> bytes:
        return event(ChatChunk(self._id, self._created, self._model.id, choices, usage))

    def _pieces(self, index: int, what: Started | Tokens | Done) -> Iterator[ChatChunkChoice]:
        """What is told of something that happened to a text."""
        match what:
            case Tokens():
                text = "".join([token.text for token in what.tokens])
                logprobs = self._logprobs(what.tokens)
                if text or logprobs:
                    yield _piece(index, ChatDelta(content=text), logprobs)
            case Started():
                if index == 0:
                    self._usage.read(len(what.prompt_tokens))
                yield _piece(index, ChatDelta(role="assistant", content=""))
            case Done():
                self._usage.wrote(what.new_tokens)
                if what.text:
                    yield _piece(index, ChatDelta(content=what.text))
                yield _piece(index, ChatDelta(), reason=finish_reason(what.finish_reason))

    def _logprobs(self, tokens: Sequence[Token]) -> ChatLogprobs | None:
        if not self._asked.logprobs:
            return None
        return ChatLogprobs(
            [
                TokenLogprob(
                    token.piece,
                    token.logprob,
                    _bytes(token.piece),
                    [TopLogprob(other.text, other.logprob, _bytes(other.text)) for other in token.top],
                )
                for token in tokens
            ]
        )


def _piece(
    index: int, delta: ChatDelta, logprobs: ChatLogprobs | None = None, reason: FinishReason | None = None
) -> ChatChunkChoice:
    return ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=reason)


def _bytes(piece: str) -> list[int] | None:
    """Of a piece's text, unless it is half a character."""
    return None if "\ufffd" in piece else list(piece.encode())
