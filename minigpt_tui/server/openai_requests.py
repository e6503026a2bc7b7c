"""What OpenAI's clients ask for, as they spell it, with what vLLM adds to it. A field that could change the text and is
not there is refused by name; one that could not is taken and does nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from minigpt_tui.server.faults import Fault, cannot
from minigpt_tui.server.fields import Asked, Drawing, Ignored, Tokens

MOST_LOGPROBS = 20

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Prompt = str | TokenIds | Annotated[list[str], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]


class StreamOptions(Asked):
    """What a stream tells beside its text."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


class OpenAIRequest(Drawing):
    """What completions and chats have in common."""

    n: int | None = Field(default=None, ge=1, le=10_000, description="So many samples; the k-th uses seed + k.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = Field(default=None, description="Only 0: use repetition_penalty.")
    frequency_penalty: float | None = Field(default=None, description="Only 0: use repetition_penalty.")
    logit_bias: dict[str, Any] | None = Field(default=None, description="Only {}.")
    user: Ignored = None
    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None

    def refuse(self) -> None:
        """Refuse what cannot be done.

        Raises:
            Fault: It names the field.
        """
        for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
            if getattr(self, name):
                raise cannot(f"{name} (use repetition_penalty)" if name.endswith("penalty") else name, name)
        if self.stream_options is not None and not self.stream:
            raise Fault(400, "stream_options is for streams: send stream=true with it", param="stream_options")

    @property
    def samples(self) -> int:
        """How many texts for each prompt."""
        return self.n or 1

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the number of its tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(OpenAIRequest):
    """Write on from a prompt."""

    prompt: Prompt | None = Field(default=None, description="A text, its token ids, or several of either.")
    max_tokens: Annotated[int, Field(ge=0)] | None = Field(default=None, description="16 where it is left out.")
    logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS, description="So many of the likeliest tokens.")
    echo: bool | None = Field(default=None, description="Whether the prompt is part of the answer.")
    best_of: int | None = Field(default=None, description="Only as many as n.")
    suffix: str | None = Field(default=None, description="Only empty.")

    def refuse(self) -> None:
        """Refuse what cannot be done."""
        super().refuse()
        if self.best_of is not None and self.best_of != self.samples:
            raise cannot("best_of other than n", "best_of")
        if self.suffix:
            raise cannot("suffix", "suffix")

    @property
    def prompts(self) -> list[str | list[int]]:
        """All prompts, each as a text or as ids."""
        match self.prompt:
            case None:
                return [""]
            case str():
                return [self.prompt]
            case [int(), *_]:
                return [self.prompt]  # type: ignore[list-item]
            case _:
                return [*self.prompt]


class TextPart(Asked):
    """A part of a message."""

    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: str | None = None
    image_url: Ignored = None
    input_audio: Ignored = None
    file: Ignored = None
    refusal: Ignored = None


class ChatMessage(Asked):
    """A turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None
    name: Ignored = None
    refusal: Ignored = None
    annotations: Ignored = None
    audio: Ignored = None
    reasoning_content: Ignored = None
    tool_calls: list[Any] | None = Field(default=None, description="Only empty.")
    function_call: dict[str, Any] | None = Field(default=None, description="Only null.")
    tool_call_id: Ignored = None

    def turn(self, place: int) -> dict[str, str]:
        """It as chat templates take it.

        Raises:
            Fault: It is of a kind that this server has not.
        """
        where = f"messages[{place}]"
        if self.role in ("tool", "function") or self.tool_calls or self.function_call:
            raise cannot("calling tools", f"{where}.role" if self.role in ("tool", "function") else where)
        role = "system" if self.role == "developer" else self.role
        if not isinstance(self.content, list):
            return {"role": role, "content": self.content or ""}
        for part in self.content:
            if part.type != "text":
                raise cannot(f"a part of type {part.type}", f"{where}.content")
        return {"role": role, "content": "".join(part.text or "" for part in self.content)}


class ResponseFormat(Asked):
    """How the answer is written down."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Ignored = None


class ChatRequest(OpenAIRequest):
    """Answer a conversation, as the model's own chat template has it."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Tokens | None = Field(default=None, description="The older name of max_completion_tokens.")
    max_completion_tokens: Tokens | None = Field(
        default=None, description="As many as the model's window has, where it is left out."
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    response_format: ResponseFormat | None = Field(default=None, description="Only text.")
    tools: list[Any] | None = Field(default=None, description="Only empty.")
    functions: list[Any] | None = Field(default=None, description="Only empty.")
    modalities: list[str] | None = Field(default=None, description='Only ["text"].')
    audio: dict[str, Any] | None = Field(default=None, description="Only null.")
    prediction: Ignored = None
    tool_choice: Ignored = None
    function_call: Ignored = None
    parallel_tool_calls: Ignored = None
    reasoning_effort: Ignored = None
    verbosity: Ignored = None
    web_search_options: dict[str, Any] | None = Field(default=None, description="Only null.")

    def refuse(self) -> None:
        """Refuse what cannot be done."""
        super().refuse()
        for name in ("tools", "functions", "audio", "web_search_options"):
            if getattr(self, name):
                raise cannot(name, name)
        if self.response_format is not None and self.response_format.type != "text":
            raise cannot(f"response_format {self.response_format.type}", "response_format")
        if self.modalities not in (None, [], ["text"]):
            raise cannot("anything but text", "modalities")
        if self.top_logprobs and not self.logprobs:
            raise Fault(400, "top_logprobs needs logprobs=true", param="top_logprobs")
        both = self.max_tokens is not None and self.max_completion_tokens is not None
        if both and self.max_tokens != self.max_completion_tokens:
            raise Fault(400, "max_tokens and max_completion_tokens are the same: send one", param="max_tokens")

    @property
    def length(self) -> int | None:
        """The most new tokens that are asked for."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
