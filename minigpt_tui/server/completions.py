"""`POST /v1/completions`: texts that go on from prompts, whole or as they are written, for OpenAI's clients."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from msgspec import UnsetType

from engine.inference.stream import Alternative, ScoredToken, Token
from engine.worker.protocol import Done, Started, Tokens, Written
from minigpt_tui.server.answering import DEFAULTS, Answering
from minigpt_tui.server.backend import Backend, UsedBackend
from minigpt_tui.server.documents import faults, or_events
from minigpt_tui.server.engine_keeper import Served
from minigpt_tui.server.openai_answers import (
    Completion,
    CompletionChoice,
    CompletionEvent,
    CompletionLogprobs,
    Usage,
    finish_reason,
)
from minigpt_tui.server.openai_requests import CompletionRequest
from minigpt_tui.server.texts import Job, Texts, seeds

router = APIRouter(tags=["OpenAI"])

DEFAULT_LENGTH = 16

HALF = "\ufffd"
"""What half a character shows as."""


@router.post("/v1/completions", response_model=Completion, responses={**or_events("Completion"), **faults(404)})
async def create_completion(asked: CompletionRequest, backend: UsedBackend, request: Request) -> Response:
    """Write on from a prompt, or from several, with `n` samples each."""
    asked.refuse()
    model = backend.model(asked.model)
    prompts = asked.prompts
    backend.check_batch(len(prompts) * asked.samples, "n" if asked.samples > 1 else "prompt")
    length = backend.length(asked.max_tokens, DEFAULT_LENGTH, "max_tokens")
    params = asked.params(DEFAULTS, max(1, length))
    jobs = [
        Job(prompt, params.replace(seed=seed), asked.logprobs, only_read=length == 0)
        for prompt in prompts
        for seed in seeds(asked.first_seed, asked.samples)
    ]
    return await _Completions("cmpl", backend, model, asked).answer(request, jobs)


class _Completions(Answering[CompletionRequest, CompletionChoice]):
    """Texts that go on from prompts."""

    FIELD = "text"

    def __init__(self, prefix: str, backend: Backend, model: Served, asked: CompletionRequest) -> None:
        super().__init__(prefix, backend, model, asked)
        self._offsets: dict[int, int] = {}
        self._prompts: dict[int, CompletionLogprobs | None] = {}  # what was told of each, which its samples share

    async def whole(self, texts: Texts) -> Completion:
        """All of it at once."""
        choices: dict[int, CompletionChoice] = {}
        async for events in texts:
            for piece in [piece for each in events for piece in await self.pieces(*each)]:
                if before := choices.get(piece.index):
                    before.text += piece.text
                    before.finish_reason = piece.finish_reason
                    if before.logprobs and piece.logprobs:
                        _append(before.logprobs, piece.logprobs)
                else:
                    choices[piece.index] = piece
        return Completion(
            id=self._id,
            created=self._created,
            model=self._model.id,
            choices=[choices[index] for index in sorted(choices)],
            usage=self._usage,
        )

    def chunk(self, choices: list[CompletionChoice], usage: Usage | UnsetType | None) -> CompletionEvent:
        """What an event of its stream carries."""
        return CompletionEvent(self._id, self._created, self._model.id, choices, usage)

    def piece(self, index: int, text: str) -> CompletionChoice:
        """What is told of more of a text, where nothing is told of its tokens."""
        return CompletionChoice(text, index, None, None)

    async def pieces(self, index: int, what: Started | Tokens | Written | Done) -> Sequence[CompletionChoice]:
        """What is told of something that happened to a text."""
        match what:
            case Written():
                return [self.piece(index, what.text)]
            case Tokens():
                text = "".join([token.text for token in what.tokens])
                logprobs = self._logprobs(index, what.tokens)
                return [CompletionChoice(text, index, logprobs, None)] if text or logprobs else []
            case Started():
                if index % self._asked.samples == 0:
                    self._usage.read(len(what.prompt_tokens))
                self._offsets[index] = len(what.prompt)
                if not self._asked.echo:
                    return []
                prompt = index // self._asked.samples
                if prompt not in self._prompts:
                    self._prompts[prompt] = await self._read_prompt(what)
                return [CompletionChoice(what.prompt, index, copy.deepcopy(self._prompts[prompt]), None)]
            case Done():
                self._usage.wrote(what.new_tokens)
                logprobs = None if self._asked.logprobs is None else _none(self._asked.logprobs)
                return [CompletionChoice(what.text, index, logprobs, finish_reason(what.finish_reason))]

    def _logprobs(self, index: int, tokens: Sequence[Token]) -> CompletionLogprobs | None:
        if self._asked.logprobs is None:
            return None
        told = _none(self._asked.logprobs)
        for token in tokens:
            _add(told, token.piece, token.logprob, token.top, self._offsets[index])
            # The bytes of a character are tokens that show nothing, up to the last of them.
            self._offsets[index] += 0 if token.text == "" and HALF in token.piece else len(token.piece)
        return told

    async def _read_prompt(self, started: Started) -> CompletionLogprobs | None:
        """How likely each token of a prompt was; nothing stands before the first."""
        if self._asked.logprobs is None:
            return None
        told, ids = _none(self._asked.logprobs), started.prompt_tokens
        first, ends = started.prompt, [len(started.prompt)]
        rest: tuple[ScoredToken, ...] = ()
        if len(ids) > 1:
            keeper = self._backend.keeper
            scored = await keeper.client.score(
                "",
                tokens=ids,
                model=self._model.source,
                device=keeper.device,
                precision=keeper.precision,
                alternatives=self._asked.logprobs,
            )
            first, rest, ends = scored.text[: scored.ends[0]], scored.tokens, list(scored.ends)
        _add(told, first, None, (), 0)
        for token, offset in zip(rest, ends, strict=False):
            _add(told, token.text, token.logprob, token.top, offset)
        return told


def _none(count: int) -> CompletionLogprobs:
    return CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[] if count else None, text_offset=[])


def _add(told: CompletionLogprobs, piece: str, logprob: float | None, top: Sequence[Alternative], offset: int) -> None:
    told.tokens.append(piece)
    told.token_logprobs.append(logprob)
    told.text_offset.append(offset)
    if told.top_logprobs is None:
        return
    if logprob is None:
        told.top_logprobs.append(None)
        return
    likeliest: dict[str, float] = {}
    for other in top:
        likeliest.setdefault(other.text, other.logprob)  # two that look alike: the likelier one
    likeliest.setdefault(piece, logprob)  # as OpenAI has it, the token itself is always there
    told.top_logprobs.append(likeliest)


def _append(before: CompletionLogprobs, more: CompletionLogprobs) -> None:
    before.tokens += more.tokens
    before.token_logprobs += more.token_logprobs
    before.text_offset += more.text_offset
    if before.top_logprobs is not None and more.top_logprobs is not None:
        before.top_logprobs += more.top_logprobs
