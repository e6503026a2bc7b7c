"""What OpenAI's clients are answered, to the letter. Knows nothing of how an answer comes about."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from pydantic import BaseModel, Field

FinishReason = Literal["stop", "length"]


@dataclass
class Usage:
    """How many tokens it took; a prompt counts once, however many samples it has."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    def read(self, count: int) -> None:
        """Count a prompt."""
        self.prompt_tokens += count
        self.total_tokens += count

    def wrote(self, count: int) -> None:
        """Count a text."""
        self.completion_tokens += count
        self.total_tokens += count


@dataclass
class CompletionLogprobs:
    """How likely each token was; logprobs are in nats, of the model's own distribution, before all filters.

    Attributes:
        text_offset: Where each token begins, counted in characters from the start of the prompt.
    """

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] = field(default_factory=list)


@dataclass
class CompletionChoice:
    """A text, or a piece of one."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """The answer of /v1/completions, and each event of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class CompletionEvent(msgspec.Struct):
    """The same as an event of a stream, many of which are made in a second.

    Attributes:
        usage: Left out where nobody asked for it.
    """

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    object: Literal["text_completion"] = "text_completion"


@dataclass
class TopLogprob:
    """A token that could have come.

    Attributes:
        bytes: Of its text; null for half a character.
    """

    token: str
    logprob: float
    bytes: list[int] | None


@dataclass
class TokenLogprob(TopLogprob):
    """A token that came."""

    top_logprobs: list[TopLogprob]


@dataclass
class ChatLogprobs:
    """How likely each token was."""

    content: list[TokenLogprob]
    refusal: None = None


class ChatAnswer(BaseModel):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """An answer."""

    index: int
    message: ChatAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(msgspec.Struct, omit_defaults=True):
    """What is new; what is not new is not sent."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(msgspec.Struct):
    """A piece of an answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(msgspec.Struct):
    """An event of the stream of /v1/chat/completions.

    Attributes:
        usage: Left out where nobody asked for it.
    """

    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When its weights were written, in seconds since 1970.")
    owned_by: str = "minigpt-tui"


class ModelCards(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def new_id(prefix: str) -> str:
    """An id that no other answer has."""
    return f"{prefix}-{secrets.token_hex(16)}"


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


def finish_reason(reason: str) -> FinishReason:
    """A finish reason of the engine's as OpenAI has it."""
    return "stop" if reason == "stop" else "length"
