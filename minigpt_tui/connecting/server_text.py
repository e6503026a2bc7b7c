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
from engine.inference.stream import Alternative, Token
from engine.worker.protocol import Done, Event, Generate, ParamsChanged, SetParams, Started, Tokens
from minigpt_tui.connecting.server_api import Choice, Model, Piece
from minigpt_tui.connecting.server_tokens import tokens_of
from minigpt_tui.connecting.server_window import Window

STRETCH = 256
"""An endless text is asked for in stretches of so many tokens."""

MOST_LOGPROBS = 5
"""More are refused by some servers."""

CATCH_UP_SECONDS = 0.05

EXTENSIONS = ("top_k", "min_p", "repetition_penalty")
"""What OpenAI's own API does not know; others do."""

LLAMA_CPP_ORDER = ["penalties", "temperature", "top_k", "top_p", "min_p"]
"""llama.cpp's server has the temperature last unless told otherwise, and penalises the last 64 tokens alone."""

NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


class Pieces:
    """Numbers for pieces of text: a server tells no token ids, and a text is told apart by them.

    The same piece has the same number for as long as the process lives.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._texts: list[str] = []
        self._starts: dict[int, str] = {}

    def id_of(self, text: str) -> int:
        """The number of a piece."""
        if text not in self._ids:
            self._ids[text] = len(self._texts)
            self._texts.append(text)
        return self._ids[text]

    def id_of_start(self, sent: str) -> int:
        """The number of what a text of nothing begins with, which is sent and not shown."""
        id = next((id for id, known in self._starts.items() if known == sent), len(self._texts))
        if id == len(self._texts):
            self._texts.append("")
            self._starts[id] = sent
        return id

    def start_of(self, ids: tuple[int, ...]) -> str:
        """What is sent before the text that these are of."""
        return self._starts.get(ids[0], "") if ids else ""

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

    def stream(self, body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        """The pieces of one."""

    async def beginning(self) -> str | None:
        """What has to be sent to begin a text of nothing; None where it was not told."""


class Habits:
    """What was found out about a server, so that it is not asked again for what it refuses.

    Attributes:
        refused: Names in a request that it does not take.
        beginnings: What is sent to begin a text of nothing, by the model.
    """

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.beginnings: dict[str, str] = {}

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
        model: Who writes it, as far as the server tells.
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
        model: Model,
        prompt: str,
        tokens: tuple[int, ...],
    ) -> None:
        self._api, self._habits, self._pieces, self._send = api, habits, pieces, send
        self._request, self._model = request, model
        self._prompt, self._tokens, self._start = prompt, tokens, pieces.start_of(tokens)
        self._params, self._pace = request.params, request.pace
        seed = request.params.seed
        self._seed = random.SystemRandom().randrange(2**31) if seed is None else seed
        self._written: list[str] = []
        self._unseen = 0  # tokens that were written and had no piece of their own, such as half characters
        self._window = Window(model.context)
        self._goes_on = False  # what is asked for next is more of what the server has just ended, with nothing turned
        self._wanted: SamplingParams | None = None
        self._cancelled = False
        self._stretch: asyncio.Task[tuple[str, bool]] | None = None
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
        if not self._tokens and (start := await self._beginning()):
            self._tokens, self._start = (self._pieces.id_of_start(start),), start
        self._send(Started(id=request.id, prompt=self._prompt, prompt_tokens=self._tokens, seed=self._seed))
        reason = ""
        while not reason:
            if self._wanted is not None:
                self._params, self._wanted = self._wanted.replace(seed=self._seed), None
                self._goes_on = False
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

    async def _beginning(self) -> str:
        """What is sent for a text of nothing. llama.cpp's server alone is asked, once for each model."""
        known = self._habits.beginnings
        if not self._model.llama_cpp or self._model.id in known:
            return known.get(self._model.id, "")
        if (told := await self._api.beginning()) is None:
            return ""
        known[self._model.id] = told
        return told

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
            reason, whole = await self._stretch
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self._stretch.cancel()
                raise
            return ""  # `cancel` or `change` has broken it off, and the next round heeds that
        finally:
            self._stretch = None
        more = self._params.max_new_tokens == ENDLESS or not whole
        if reason == "length" and more and len(self._written) > before:
            self._goes_on = True
            return ""
        return "length" if reason == "length" else "stop"

    @property
    def _room(self) -> int:
        limit = self._params.max_new_tokens
        return STRETCH if limit == ENDLESS else limit - len(self._written) - self._unseen

    async def _write(self, room: int) -> tuple[str, bool]:
        """One request, without what the server was found not to take; its finish reason, and whether all `room` tokens
        were asked for and came.
        """
        while True:
            asked = min(room, self._window.most or room)
            body = self._body(asked)
            before, reason, told = len(self._written), "", None
            try:
                async with aclosing(self._api.stream(body)) as pieces:
                    async for piece in pieces:
                        for choice in piece.choices or ():
                            await self._take(choice)
                            reason = choice.finish_reason or reason
                        told = piece.usage.completion_tokens if piece.usage is not None else told
            except MiniGPTError as error:
                learned = self._habits.learn(error, body, self._params)
                if learned or self._window.shrink(error, body["prompt"], asked):
                    continue
                if not body["prompt"] and (isinstance(error, InvalidSettingError) or "failed" in error.message):
                    raise InvalidSettingError(error.message, "it may want a first word: type a prompt") from None
                if self._goes_on and isinstance(error, InvalidSettingError):
                    return "length", True  # a moment ago it took the same but for what it wrote: it is full
                raise
            if told is not None:
                self._unseen += max(0, told - (len(self._written) - before))
            return reason or "stop", asked == room and (told is None or told >= asked)

    def _body(self, room: int) -> dict[str, Any]:
        params = self._params
        body: dict[str, Any] = {
            "model": self._model.id,
            "prompt": (self._start + self._prompt + "".join(self._written))[self._window.start :],
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
        if self._model.llama_cpp:
            body |= {"samplers": LLAMA_CPP_ORDER, "repeat_last_n": self._model.context or 64}
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
