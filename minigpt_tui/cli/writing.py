"""One text from one prompt, as the shell wants it: the engine in this process, the text to stdout while it is
written, ctrl+c ending the text and keeping what was written. Imports torch only when a model is opened.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from engine.config import SamplingParams
from engine.inference.stream import Token
from engine.validation import to_dict
from minigpt_tui.cli.options import Common
from minigpt_tui.cli.streams import say

if TYPE_CHECKING:
    from engine.checkpoints import LoadedModel
    from engine.inference.generator import Generation


NAP_SECONDS = 0.05
"""Between tokens of a slow pace, how long ctrl+c may go unnoticed."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as a model reads it."""

    text: str
    tokens: list[int]


@dataclass(frozen=True)
class Written:
    """One finished text.

    Attributes:
        finish_reason: length, stop or cancelled.
        tokens_per_second: After the first token; 0 when there was no second one.
        time_to_first_token: Seconds from the request, the model being loaded; 0 when there was no token.
    """

    text: str
    tokens: list[Token]
    new_tokens: int
    finish_reason: str
    seed: int
    params: SamplingParams
    tokens_per_second: float
    time_to_first_token: float


def open_model(common: Common) -> LoadedModel:
    """Load the model that the options name.

    Raises:
        ModelNotFoundError, CheckpointError, DeviceError: As `engine.checkpoints.load_model`.
    """
    from engine.checkpoints import load_model

    return load_model(common.model, common.device, common.precision)


def read_by(model: LoadedModel, text: str) -> Prompt:
    """Encode a prompt; characters that the model has never seen are left out, and said on stderr."""
    tokens, read, left_out = model.tokenizer.encode_prompt(text)
    if left_out:
        names = " ".join(repr(character) for character in left_out)
        say(f"left out of the prompt, {model.name} has never seen it: {names}")
    return Prompt(read, list(tokens))


def write(
    model: LoadedModel,
    prompt: Prompt,
    params: SamplingParams,
    on_text: Callable[[str], None],
    *,
    pace: float = 0.0,
    alternatives: int = 0,
) -> Written:
    """Write one text and return it; ctrl+c ends it at the next token with reason `cancelled`.

    Args:
        model: A loaded model.
        prompt: What it writes on from.
        params: How to draw; with no seed one is drawn.
        on_text: Called with every piece of the new text, whole characters, as soon as it is certain.
        pace: Tokens per second at most; 0 for no limit.
        alternatives: How many of the likeliest tokens each token is reported with.
    """
    from engine.inference.generator import Generation

    began = time.perf_counter()
    generation = Generation(model, prompt.tokens, params, alternatives=alternatives)
    text: list[str] = []
    tokens: list[Token] = []
    first = last = began
    with _CancelledByInterrupt(generation) as interrupt:
        for token in generation:
            last = time.perf_counter()
            if not tokens:
                first = last
            elif pace > 0:  # from the beginning, so that a slow token does not slow the ones after it
                interrupt.wait(first + len(tokens) / pace - last)
                last = time.perf_counter()
            tokens.append(token)
            if token.text:
                text.append(token.text)
                on_text(token.text)
    if generation.tail:
        text.append(generation.tail)
        on_text(generation.tail)
    return Written(
        text="".join(text),
        tokens=tokens,
        new_tokens=generation.new_tokens,
        finish_reason=generation.finish_reason or "cancelled",
        seed=generation.seed,
        params=params,
        tokens_per_second=(len(tokens) - 1) / (last - first) if last > first else 0.0,
        time_to_first_token=first - began if tokens else 0.0,
    )


class _CancelledByInterrupt:
    """While it is entered, the first ctrl+c cancels the generation; a second one interrupts the program."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._pressed = False  # no threading.Event: a signal may come while this very thread holds its lock

    def __enter__(self) -> _CancelledByInterrupt:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def wait(self, seconds: float) -> None:
        """Sleep, at most until a moment after ctrl+c."""
        until = time.monotonic() + seconds
        while not self._pressed and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NAP_SECONDS))

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._generation.cancel()
        self._pressed = True


def as_json(model: LoadedModel, prompt: Prompt, written: Written, logprobs: int | None) -> dict[str, Any]:
    """One text as `generate --json` prints it.

    Args:
        model: What wrote it.
        prompt: What it was written from.
        written: The text.
        logprobs: How many alternatives were asked for; None for no `logprobs` at all.
    """
    record: dict[str, Any] = {
        "prompt": prompt.text,
        "text": written.text,
        "tokens": written.new_tokens,
        "finish_reason": written.finish_reason,
        "seed": written.seed,
        "tokens_per_second": round(written.tokens_per_second, 3),
        "time_to_first_token": round(written.time_to_first_token, 6),
        "model": model.name,
        "device": model.device,
        "precision": model.precision,
        "params": {**to_dict(written.params), "seed": written.seed},
    }
    if logprobs is not None:
        record["logprobs"] = [
            {
                "text": token.piece,
                "logprob": token.logprob,
                "top": [{"text": other.text, "logprob": other.logprob} for other in token.top],
            }
            for token in written.tokens
        ]
    return record
