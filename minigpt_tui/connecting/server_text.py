"""One text from a server, as the app's protocol has texts: its tokens as they come, a pace, a stop, and settings that
are turned in the middle, for which the text so far is sent again with the new ones. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from engine.config import ENDLESS, SamplingParams
from engine.errors import InvalidSettingError, MiniGPTError
from engine.inference.stream import UNTOLD, Alternative, Token
from engine.worker.protocol import Done, Event, Generate, ParamsChanged, SetParams, Started, Tokens
from minigpt_tui.connecting.server_api import Choice, Logprobs

STRETCH = 256
"""An endless text is asked for in stretches of so many tokens."""

MOST_LOGPROBS = 5
"""More are refused by some servers."""

CATCH_UP_SECONDS = 0.05

EXTENSIONS = ("top_k", "min_p", "repetition_penalty")
"""What OpenAI's own API does not know; others do."""

NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


class Pieces:
    """Numbers for pieces of text: a server tells no token ids, and a text is told apart by them.

    The same piece has the same number for as long as the process lives.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._texts: list[str] = []

    def id_of(self, text: str) -> int:
        """The number of a piece."""
        if text not in self._ids:
            self._ids[text] = len(self._texts)
            self._texts.append(text)
        return self._ids[text]

    def text_of(self, ids: tuple[int, ...]) -> str:
        """The text that these are of.

        Raises:
            InvalidSettingError: One was never told.
        """
        if any(not 0 <= id < len(self._texts) for id in ids):
            raise InvalidSettingError("this text was written with another link or model", "write it again")
        return "".join(self._texts[id] for id in ids)


class Api(Protocol):
    """What streams completions."""

    def stream(self, body: dict[str, Any]) -> AsyncGenerator[Choice, None]:
        """The pieces of one."""


class Habits:
    """What was found out about a server, so that it is not asked again for what it refuses.

    Attributes:
        refused: Names in a request that it does not take.
    """

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def learn(self, error: MiniGPTError, body: dict[str, Any], params: SamplingParams) -> bool:
        """Whether a refusal is of something that can be left out, which it will be from now on."""
        if not isinstance(error, InvalidSettingError):
            return False
        for name in ("logprobs", *EXTENSIONS):
            wanted = name in EXTENSIONS and getattr(params, name) != NEUTRAL[name]
            if name in body and name in error.message and not wanted:
                self.refused.add(name)
                return True
        return False


class ServerText:
    """A text on its way from a server to the app.

    Args:
        request: What the app wants.
        model: The name that the server knows.
        prompt: The text to write on from.
        tokens: Its pieces by their numbers.
    """

    def __init__(
        self,
        api: Api,
        habits: Habits,
        pieces: Pieces,
        send: Callable[[Event], None],
        request: Generate,
        *,
        model: str,
        prompt: str,
        tokens: tuple[int, ...],
    ) -> None:
        self._api, self._habits, self._pieces, self._send = api, habits, pieces, send
        self._request, self._model = request, model
        self._prompt, self._tokens = prompt, tokens
        self._params, self._pace = request.params, request.pace
        seed = request.params.seed
        self._seed = random.SystemRandom().randrange(2**31) if seed is None else seed
        self._written: list[str] = []
        self._wanted: SamplingParams | None = None
        self._cancelled = False
        self._stretch: asyncio.Task[str] | None = None
        self._turned = asyncio.Event()
        self._next_at = 0.0
        self._asked_at = time.monotonic()
        self._first_at = self._last_at = 0.0

    def change(self, request: SetParams) -> None:
        """Go on with other settings: the pace at once, others with a request of their own."""
        if request.pace is not None:
            self._pace, self._next_at = request.pace, 0.0
            self._turned.set()
        if request.params is not None:
            self._wanted = request.params
            self._break_off()

    def cancel(self) -> None:
        """End here."""
        self._cancelled = True
        self._break_off()

    def _break_off(self) -> None:
        if self._stretch is not None:
            self._stretch.cancel()

    async def run(self) -> None:
        """Write it, from `Started` to `Done`.

        Raises:
            MiniGPTError: The server refuses or fails; what came before was told.
        """
        request = self._request
        if request.changes:
            raise InvalidSettingError(
                "a recorded text with changes of settings cannot be replayed by a server", "write it again instead"
            )
        self._send(Started(id=request.id, prompt=self._prompt, prompt_tokens=self._tokens, seed=self._seed))
        reason = ""
        while not reason:
            if self._wanted is not None:
                self._params, self._wanted = self._wanted.replace(seed=self._seed), None
                self._send(ParamsChanged(id=request.id, position=self._position, params=self._params))
            reason = "cancelled" if self._cancelled else await self._go_on()
        count, taken = len(self._written), self._last_at - self._first_at
        self._send(
            Done(
                id=request.id,
                finish_reason=reason,
                text="",
                prompt_tokens=len(self._tokens),
                new_tokens=count,
                seed=self._seed,
                tokens_per_second=(count - 1) / taken if taken > 0 else 0.0,
                time_to_first_token=max(0.0, self._first_at - self._asked_at) if self._first_at else 0.0,
            )
        )

    @property
    def _position(self) -> int:
        return len(self._tokens) + len(self._written)

    async def _go_on(self) -> str:
        """Write until the server ends, or is broken off; the finish reason, empty to go on after that."""
        before = len(self._written)
        if (room := self._room) <= 0:
            return "length"
        self._stretch = asyncio.create_task(self._write(room))
        try:
            reason = await self._stretch
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self._stretch.cancel()
                raise
            return ""  # `cancel` or `change` has broken it off, and the next round heeds that
        finally:
            self._stretch = None
        if reason == "length" and self._params.max_new_tokens == ENDLESS and len(self._written) > before:
            return ""
        return "length" if reason == "length" else "stop"

    @property
    def _room(self) -> int:
        limit = self._params.max_new_tokens
        return STRETCH if limit == ENDLESS else limit - len(self._written)

    async def _write(self, room: int) -> str:
        """One request, without what the server was found not to take; its finish reason."""
        while True:
            body = self._body(room)
            try:
                reason = ""
                async with aclosing(self._api.stream(body)) as choices:
                    async for choice in choices:
                        await self._take(choice)
                        reason = choice.finish_reason or reason
            except MiniGPTError as error:
                if not self._habits.learn(error, body, self._params):
                    raise
            else:
                return reason or "stop"

    def _body(self, room: int) -> dict[str, Any]:
        params = self._params
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": self._prompt + "".join(self._written),
            "max_tokens": room,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": self._seed,
            **{name: getattr(params, name) for name in EXTENSIONS},
        }
        if params.stop:
            body["stop"] = list(params.stop)
        if self._request.alternatives:
            body["logprobs"] = min(self._request.alternatives, MOST_LOGPROBS)
        if params.repetition_penalty != 1.0:
            body["repeat_penalty"] = params.repetition_penalty  # llama.cpp's name for it
        unwanted = {name for name in self._habits.refused if getattr(params, name, None) == NEUTRAL.get(name)}
        return {name: value for name, value in body.items() if name not in unwanted}

    async def _take(self, choice: Choice) -> None:
        """Tell the tokens of a piece, each when the pace lets it."""
        for piece, logprob, top in tokens_of(choice):
            await self._wait_for_turn()
            token = Token(
                token=self._pieces.id_of(piece),
                position=self._position,
                text=piece,
                piece=piece,
                logprob=logprob,
                top=tuple(
                    # Which of them its filters cut a server does not say.
                    Alternative(self._pieces.id_of(text), text, other, drawn=math.exp(other))
                    for text, other in top[: self._request.alternatives]
                ),
            )
            self._written.append(piece)
            self._last_at = time.monotonic()
            self._first_at = self._first_at or self._last_at
            taken = self._last_at - self._first_at
            speed = (len(self._written) - 1) / taken if taken > 0 else 0.0
            self._send(Tokens(id=self._request.id, tokens=(token,), context=0, tokens_per_second=speed))

    async def _wait_for_turn(self) -> None:
        while self._pace and (wait := self._next_at - time.monotonic()) > 0:
            self._turned.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._turned.wait()
            except TimeoutError:
                break
        if self._pace:
            now = time.monotonic()  # the beat goes on from when the token was due, if that was not long ago
            self._next_at = (self._next_at if self._next_at > now - CATCH_UP_SECONDS else now) + 1 / self._pace


Told = tuple[str, float, tuple[tuple[str, float], ...]]


def tokens_of(choice: Choice) -> list[Told]:
    """The tokens of a piece of text: what each says, its logprob, and what could have come, the likeliest first.

    Where a server does not tell them, or tells others than the text is made of (half characters have no text), the
    piece counts as one token of which nothing is known.
    """
    text = choice.text or ""
    if choice.logprobs is not None:
        told = _told(choice.logprobs)
        if told and "".join(piece for piece, _, _ in told) == text:
            return [one for one in told if one[0]]
    return [(text, UNTOLD, ())] if text else []


def _told(logprobs: Logprobs) -> list[Told]:
    if logprobs.content is not None:
        return [
            (one.token, _logprob(one.logprob), _sorted({top.token: top.logprob for top in one.top_logprobs or ()}))
            for one in logprobs.content
        ]
    tokens = logprobs.tokens or []
    own = logprobs.token_logprobs or [None] * len(tokens)
    tops = logprobs.top_logprobs or [None] * len(tokens)
    if not len(tokens) == len(own) == len(tops):
        return []
    return [(token, _logprob(one), _sorted(top or {})) for token, one, top in zip(tokens, own, tops, strict=True)]


def _logprob(value: float | None) -> float:
    """At most 0, or that it was not told."""
    return UNTOLD if value is None or math.isnan(value) else max(-1e4, min(0.0, value))


def _sorted(top: dict[str, float]) -> tuple[tuple[str, float], ...]:
    known = [(text, _logprob(value)) for text, value in top.items() if not math.isnan(value)]
    return tuple(sorted(known, key=lambda pair: -pair[1]))
