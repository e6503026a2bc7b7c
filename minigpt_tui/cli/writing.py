"""Texts from one prompt, as the shell wants them: the engine in this process, each text to stdout while it is
written, ctrl+c ending it and keeping what was written. Imports torch only when a model is opened.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from engine.config import SamplingParams
from engine.errors import MiniGPTError
from engine.inference.stream import Token
from engine.validation import to_dict
from engine.worker.protocol import ParamsAt
from minigpt_tui.cli.options import Common
from minigpt_tui.cli.streams import say

if TYPE_CHECKING:
    from engine.checkpoints import LoadedModel


NAP_SECONDS = 0.05
"""Between tokens of a slow pace, how long ctrl+c may go unnoticed."""

MOST_HELD = 1 << 20
"""Tokens, their alternatives among them, that are written ahead of what is shown, about."""

CACHE_BYTES = 1 << 30
"""What keys and values of texts that are written together may take in float32, about; one text has what it needs."""


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
        prompt_tokens: What the text began with, as the model read it.
        changes: The settings from a position on, where they changed in mid-stream.
        began: When, in seconds since 1970.
    """

    text: str
    tokens: list[Token]
    new_tokens: int
    finish_reason: str
    seed: int
    params: SamplingParams
    tokens_per_second: float
    time_to_first_token: float
    prompt_tokens: tuple[int, ...]
    changes: tuple[ParamsAt, ...]
    began: float


def open_model(common: Common) -> LoadedModel:
    """Load the model that the options name.

    Raises:
        ModelNotFoundError, CheckpointError, DeviceError: As `engine.checkpoints.load_model`.
    """
    from engine.checkpoints import load_model

    return load_model(common.model, common.device, common.precision)


def open_writer(common: Common) -> LoadedModel:
    """Load the model that the options name, ready to write, with as many threads as are quickest now.

    Raises:
        ModelNotFoundError, CheckpointError, DeviceError: As `open_model`.
    """
    model = open_model(common)
    model.prepare_to_write()
    return model


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
    changes: Sequence[ParamsAt] = (),
) -> Written:
    """Write one text and return it; ctrl+c ends it at the next token with reason `cancelled`.

    Args:
        model: A loaded model.
        prompt: What it writes on from.
        params: How to draw; with no seed one is drawn.
        on_text: Called with every piece of the new text, whole characters, as soon as it is certain.
        pace: Tokens per second at most; 0 for no limit.
        alternatives: How many of the likeliest tokens each token is reported with.
        changes: The settings from a position on, counted from the start of the prompt, in order.
    """
    text = OneText(model, prompt, params, alternatives, changes)
    with Interrupt() as interrupt:
        for token in text.generation:
            if text.tokens and pace > 0:  # from the beginning, so that a slow token does not slow the ones after it
                interrupt.wait(text.first + len(text.tokens) / pace - time.perf_counter())
            text.add(token)
            text.show(on_text)
            if interrupt.pressed:
                break
    return text.end(on_text)


def write_all(
    model: LoadedModel,
    prompt: Prompt,
    params: Sequence[SamplingParams],
    on_text: Callable[[str], None],
    *,
    pace: float = 0.0,
    alternatives: int = 0,
    changes: Sequence[ParamsAt] = (),
) -> Iterator[Written]:
    """Write several texts, and return each when it has ended: in their order, and what `write` would have written.

    Without a pace they share passes through the model: while one is shown, those that follow are written along and held
    back, and what the next one has by then is shown at once. ctrl+c ends them all.

    Args:
        model: A loaded model.
        prompt: What they all write on from.
        params: How to draw, of each text.
        on_text: As in `write`, called with one text after the other.
        pace: Of each, as in `write`.
        alternatives: As in `write`.
        changes: Of each, as in `write`.

    Raises:
        KeyboardInterrupt: ctrl+c came when the latest text had just ended by itself.
    """
    if pace > 0:
        for each in params:
            yield write(model, prompt, each, on_text, pace=pace, alternatives=alternatives, changes=changes)
        return
    at_once = most_together(model)
    for start in range(0, len(params), at_once):
        yield from _write_together(model, prompt, params[start : start + at_once], on_text, alternatives, changes)


def most_together(model: LoadedModel) -> int:
    """How many texts share passes; of a large model as many as there is room for."""
    from engine.inference.together import MOST_TOGETHER

    config = model.config
    cache = 4 * 2 * config.n_layer * config.kv_heads * config.head_size * config.block_size
    return max(1, min(MOST_TOGETHER, CACHE_BYTES // cache))


def _write_together(
    model: LoadedModel,
    prompt: Prompt,
    params: Sequence[SamplingParams],
    on_text: Callable[[str], None],
    alternatives: int,
    changes: Sequence[ParamsAt],
) -> Iterator[Written]:
    from engine.inference.together import read_together

    texts = [OneText(model, prompt, each, alternatives, changes) for each in params]
    ahead = MOST_HELD // (len(texts) * (1 + alternatives))
    for number, text in enumerate(texts):
        with Interrupt() as interrupt:
            text.show(on_text)
            while not text.has_ended and not interrupt.pressed:
                held = [each for each in texts[number + 1 :] if not each.has_ended and len(each.tokens) < ahead]
                read_together([text.generation, *(each.generation for each in held)])
                for each in (text, *held):
                    each.step()
                text.show(on_text)
        yield text.end(on_text)
        if interrupt.pressed:
            raise KeyboardInterrupt


class OneText:
    """A text that is being written, what of it was shown, and when its tokens came.

    Args:
        model: As in `write`; so with the others.

    Attributes:
        first: When its first token came.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompt: Prompt,
        params: SamplingParams,
        alternatives: int,
        changes: Sequence[ParamsAt],
    ) -> None:
        from engine.inference.generator import Generation

        self._began = self.first = self._last = time.perf_counter()
        self._began_at = time.time()
        self.generation = Generation(model, prompt.tokens, params, alternatives=alternatives)
        self.tokens: list[Token] = []
        self._params = params
        self._changes = tuple(changes)
        self._to_come = deque(changes)
        self._change_settings()
        self._pieces: list[str] = []
        self._shown = 0
        self._problem: MiniGPTError | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is no more to come."""
        return self.generation.finish_reason is not None or self._problem is not None

    def step(self) -> None:
        """Take the tokens that were drawn for it; what goes wrong is raised when it ends, as others go before.

        All of them, so that the next pass is for all texts again.
        """
        try:
            for token in self.generation.ready():
                self.add(token)
        except MiniGPTError as problem:
            self._problem = problem

    def add(self, token: Token) -> None:
        """Take in a token that has just come."""
        self._last = time.perf_counter()
        if not self.tokens:
            self.first = self._last
        self.tokens.append(token)
        if token.text:
            self._pieces.append(token.text)
        self._change_settings()

    def _change_settings(self) -> None:
        """Draw the next token with the settings that hold from there on."""
        while self._to_come and self._to_come[0].position <= self.generation.position:
            self.generation.set_params(self._to_come.popleft().params)

    def show(self, on_text: Callable[[str], None]) -> None:
        """Show what is new."""
        if new := "".join(self._pieces[self._shown :]):
            self._shown = len(self._pieces)
            on_text(new)

    def end(self, on_text: Callable[[str], None]) -> Written:
        """End it, if it has not ended by itself, and show what it held back until then.

        Raises:
            MiniGPTError: Something went wrong with it.
        """
        if self._problem is not None:
            raise self._problem
        self.generation.cancel()
        if self.generation.tail:
            self._pieces.append(self.generation.tail)
            self.show(on_text)
        seconds = self._last - self.first
        return Written(
            text="".join(self._pieces),
            tokens=self.tokens,
            new_tokens=self.generation.new_tokens,
            finish_reason=self.generation.finish_reason or "cancelled",
            seed=self.generation.seed,
            params=self._params,
            tokens_per_second=(len(self.tokens) - 1) / seconds if seconds > 0 else 0.0,
            time_to_first_token=self.first - self._began if self.tokens else 0.0,
            prompt_tokens=self.generation.prompt_tokens,
            changes=tuple(change for change in self._changes if change.position < self.generation.position),
            began=self._began_at,
        )


class Interrupt:
    """While it is entered, the first ctrl+c is noted, for the text to end; a second one interrupts the program.

    Attributes:
        pressed: Whether it came. No threading.Event: a signal may come while this very thread holds its lock.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def wait(self, seconds: float) -> None:
        """Sleep, at most until a moment after ctrl+c."""
        until = time.monotonic() + seconds
        while not self.pressed and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NAP_SECONDS))

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.pressed = True


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
    if written.changes:
        record["changes"] = [
            {"position": change.position, "params": {**to_dict(change.params), "seed": written.seed}}
            for change in written.changes
        ]
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
