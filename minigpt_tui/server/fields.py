"""The fields that requests of all endpoints share, with their ranges, and what the engine makes of them. Knows nothing
of what is answered.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.config import SamplingParams
from engine.validation import make, to_dict

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1024
MAX_SEED = 2**63 - 1

StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Tokens = Annotated[int, Field(ge=1)]
Ignored = Annotated[Any, Field(description="Taken from clients that send it, and not needed here.")]
Model = Annotated[str | None, Field(description="One of /v1/models; the first of them where it is left out.")]


class Asked(BaseModel):
    """The base of all requests: no type is guessed, and a field that is not known is an error, not a typing mistake
    that goes unseen.
    """

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class Drawing(Asked):
    """How the next token is drawn."""

    model: Model = None
    temperature: float | None = Field(default=None, ge=0, le=10, allow_inf_nan=False, description="0 is greedy.")
    top_k: int | None = Field(default=None, ge=-1, le=10_000_000, description="0 and -1 are off.")
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(default=None, ge=0.1, le=10, allow_inf_nan=False)
    seed: int | None = Field(
        default=None, ge=-(2**63), le=MAX_SEED, description="The same seed gives the same text; sample k uses seed + k."
    )
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None = Field(
        default=None, description="The text ends before any of these."
    )

    def params(self, defaults: SamplingParams, max_new_tokens: int, stop: tuple[str, ...] = ()) -> SamplingParams:
        """The settings of a text.

        Args:
            defaults: What holds where nothing is asked for.
            max_new_tokens: Its length.
            stop: What ends it beside what is asked for.
        """
        given = {name: getattr(self, name) for name in ("temperature", "top_p", "min_p", "repetition_penalty")}
        if self.top_k is not None:
            given["top_k"] = max(0, self.top_k)
        asked = {name: value for name, value in given.items() if value is not None}
        asked["stop"] = [*self.stops, *stop]
        return make(SamplingParams, {**to_dict(defaults), **asked, "max_new_tokens": max_new_tokens})

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def first_seed(self) -> int | None:
        """The seed of the first sample; one below zero, which OpenAI's clients may send, counts from the other end."""
        return None if self.seed is None else self.seed % (MAX_SEED + 1)
