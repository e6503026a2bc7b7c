"""`POST /v1/chat/completions` for models that have a chat template: the model's turn, whole or as it is written, as
OpenAI's clients read it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from msgspec import UnsetType

from engine.errors import CheckpointError, DataError, WorkerError
from engine.inference.stream import Token
from engine.text.chat import read_chat_template, read_special_tokens, stops
from engine.worker.protocol import Done, Started, Tokens, Written
from minigpt_tui.chat_rendering import render_chat
from minigpt_tui.server.answering import DEFAULTS, Answering
from minigpt_tui.server.backend import Backend, UsedBackend
from minigpt_tui.server.documents import faults, or_events
from minigpt_tui.server.engine_keeper import Served
from minigpt_tui.server.events import while_wanted
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
)
from minigpt_tui.server.openai_requests import ChatRequest
from minigpt_tui.server.texts import Job, Text, Texts, seeds

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses={**or_events("ChatChunk"), **faults(404)})
async def create_chat_completion(asked: ChatRequest, backend: UsedBackend, request: Request) -> Response:
    """Answer a conversation, with `n` samples."""
    asked.refuse()
    model = backend.model(asked.model)
    backend.check_batch(asked.samples, "n")
    length = backend.length(asked.length, model.info.block_size, "max_completion_tokens")
    prompt, ends = await while_wanted(request, _render(backend, model, asked))
    params = asked.params(DEFAULTS, length, ends)
    alternatives = asked.top_logprobs or 0 if asked.logprobs else None
    jobs = [
        Job(prompt, params.replace(seed=seed), alternatives, template=True)
        for seed in seeds(asked.first_seed, asked.samples)
    ]
    return await _Chat("chatcmpl", backend, model, asked).answer(request, jobs)


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


class _Chat(Answering[ChatRequest, ChatChunkChoice]):
    """The model's turns."""

    FIELD = "content"

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

    def chunk(self, choices: list[ChatChunkChoice], usage: Usage | UnsetType | None) -> ChatChunk:
        """What an event of its stream carries."""
        return ChatChunk(self._id, self._created, self._model.id, choices, usage)

    def piece(self, index: int, text: str) -> ChatChunkChoice:
        """What is told of more of a text, where nothing is told of its tokens."""
        return _piece(index, ChatDelta(content=text))

    async def pieces(self, index: int, what: Started | Tokens | Written | Done) -> Sequence[ChatChunkChoice]:
        """What is told of something that happened to a text."""
        match what:
            case Written():
                return [self.piece(index, what.text)]
            case Tokens():
                text = "".join([token.text for token in what.tokens])
                logprobs = self._logprobs(what.tokens)
                return [_piece(index, ChatDelta(content=text), logprobs)] if text or logprobs else []
            case Started():
                if index == 0:
                    self._usage.read(len(what.prompt_tokens))
                return [_piece(index, ChatDelta(role="assistant", content=""))]
            case Done():
                self._usage.wrote(what.new_tokens)
                rest = [self.piece(index, what.text)] if what.text else []
                return [*rest, _piece(index, ChatDelta(), reason=finish_reason(what.finish_reason))]

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
