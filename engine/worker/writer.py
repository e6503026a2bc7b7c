"""One text on its way to the client: when its tokens are drawn, when they are sent, and which settings hold from which
token on. Knows nothing of the other texts, nor of how a token is drawn.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from engine.config import SamplingParams
from engine.inference.generator import Generation
from engine.inference.stream import Token
from engine.worker.connection import Connection, MessageTooLongError
from engine.worker.protocol import BATCH_SECONDS, Done, ParamsAt, ParamsChanged, SetParams, Tokens, Written

CATCH_UP_SECONDS = 0.05
"""A paced text that fell behind makes up for no more than this; the rest of the delay stays."""

SPEED_SECONDS = 1.0
"""The speed that is told while a text is written is of this last time."""


class Writer:
    """One text on its way to the client: its pace, its batches, its clock, its changes of settings.

    Args:
        asked_at: When its request arrived, or the model was ready, on the monotonic clock.
        changes: Settings to go on with from a position on, in the order of their positions.
        plain: Whether the text is told and nothing of its tokens.

    Attributes:
        apart: Seconds between two messages with tokens or text, at least.
    """

    def __init__(
        self,
        connection: Connection,
        id: int,
        generation: Generation,
        *,
        pace: float,
        asked_at: float,
        changes: Sequence[ParamsAt] = (),
        plain: bool = False,
    ) -> None:
        self.id = id
        self.finished = False
        self.plain = plain
        self.apart = BATCH_SECONDS
        self._connection = connection
        self.generation = generation
        self._pace = pace
        self._asked_at = asked_at
        self._changes = deque(changes)
        self._first_at: float | None = None
        self._last_at = 0.0
        self._beat = -math.inf  # when the last token was due, which is a little before it was drawn
        self._batch: list[Token] = []
        self._pieces: list[str] = []  # instead, where it is told plainly
        self._recent: deque[tuple[float, int]] = deque()  # when tokens were sent, and how many there were by then
        self._sent_at = -math.inf

    @property
    def due(self) -> float:
        """When the next token may be drawn, on the monotonic clock; the end of the text, being none, is due at once."""
        if not self._pace:
            return -math.inf
        at_end = 0 <= self.generation.params.max_new_tokens <= self.generation.new_tokens
        return -math.inf if at_end else self._beat + 1 / self._pace

    @property
    def is_due(self) -> bool:
        """Whether a token is to be drawn now that is not there yet."""
        return not self.finished and self.generation.is_waiting and time.monotonic() >= self.due

    @property
    def wakes_at(self) -> float:
        """When there is something to do: a token to draw, or a batch to send."""
        return min(self.due, self._sent_at + self.apart) if self._batch or self._pieces else self.due

    def begin(self) -> None:
        """Make the changes that hold from the first token on."""
        self._change_where_recorded()

    def advance(self) -> None:
        """Draw the next token if it is due, and send what has waited for long enough."""
        now, due = time.monotonic(), self.due
        if now >= due:
            self._draw()
            while due == -math.inf and self.generation.finish_reason is None and not self.generation.is_waiting:
                self._draw()  # all that is ready, so that the next pass is for all texts again
            # The beat counts on from when this token was due, not from when it came, so that delays do not add up.
            self._beat = now if due == -math.inf else max(due, now - CATCH_UP_SECONDS)
        if self.generation.finish_reason is not None:
            self._finish()
        else:
            self.tell()

    def tell(self) -> None:
        """Send what has waited for long enough."""
        if (self._batch or self._pieces) and time.monotonic() >= self._sent_at + self.apart:
            self._flush()

    def change(self, request: SetParams) -> None:
        """Go on with other settings from the next token on."""
        if request.pace is not None:
            self._pace = request.pace
        if request.params is not None:
            self._changes.clear()  # they were made to another text
            self._set_params(request.params)

    def cancel(self) -> None:
        """End here; what was written stays."""
        self.generation.cancel()
        self._finish()

    def fail(self) -> None:
        """End with an error to come; what was written is still sent."""
        self.finished = True
        with suppress(MessageTooLongError):  # which may be what it failed with
            self._flush()

    def _draw(self) -> None:
        """Take the next token, or all that is ready where nothing can come between."""
        generation = self.generation
        before, text = generation.new_tokens, ""
        if self.plain and not self._pace and not self._changes:
            generation.read()
            text = generation.ready_text()
        elif token := next(generation, None):
            if self.plain:
                text = token.text
            else:
                self._batch.append(token)
        if text:
            self._pieces.append(text)
        if generation.new_tokens == before:
            return
        self._last_at = time.monotonic()
        if self._first_at is None:
            self._first_at = self._last_at
        if self._changes:
            self._change_where_recorded()

    def _change_where_recorded(self) -> None:
        """Make the changes that hold from the next token on, before it is drawn and before the text is full."""
        while self._changes and self._changes[0].position <= self.generation.position:
            change = self._changes.popleft()
            if self.generation.finish_reason is None:
                self._set_params(change.params)

    def _set_params(self, params: SamplingParams) -> None:
        self._flush()
        self.generation.set_params(params)
        position, params = self.generation.position, self.generation.params
        self._connection.send(ParamsChanged(id=self.id, position=position, params=params))

    def _flush(self) -> None:
        if self._pieces:
            text, self._pieces = "".join(self._pieces), []
            self._sent_at = time.monotonic()
            self._send(text)
        elif self._batch:
            batch, self._batch = self._batch, []
            self._sent_at = time.monotonic()
            self._recent.append((self._sent_at, self.generation.new_tokens))
            while self._sent_at - self._recent[0][0] > SPEED_SECONDS and len(self._recent) > 2:
                self._recent.popleft()
            self._send(tuple(batch))

    def _send(self, what: str | tuple[Token, ...]) -> None:
        """Send text or tokens in as few messages as hold them."""
        try:
            self._connection.send(self._message(what))
        except MessageTooLongError:
            if len(what) == 1:
                raise
            half = len(what) // 2
            self._send(what[:half])
            self._send(what[half:])

    def _message(self, what: str | tuple[Token, ...]) -> Written | Tokens:
        if isinstance(what, str):
            return Written(id=self.id, text=what)
        return Tokens(id=self.id, tokens=what, context=self.generation.context, tokens_per_second=self._recent_speed())

    def _finish(self) -> None:
        self._flush()
        self.finished = True
        generation = self.generation
        self._connection.send(
            Done(
                id=self.id,
                finish_reason=generation.finish_reason or "cancelled",
                text=generation.tail,
                prompt_tokens=len(generation.prompt_tokens),
                new_tokens=generation.new_tokens,
                seed=generation.seed,
                tokens_per_second=self._tokens_per_second(),
                time_to_first_token=max(0.0, self._first_at - self._asked_at) if self._first_at is not None else 0.0,
            )
        )

    def _recent_speed(self) -> float:
        """Tokens per second of late, so that a change of pace shows; 0 in the first message."""
        (began, before), (ended, after) = self._recent[0], self._recent[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def _tokens_per_second(self) -> float:
        """Tokens per second over the whole text, without the first token."""
        if self._first_at is None or self._last_at <= self._first_at:
            return 0.0
        return (self.generation.new_tokens - 1) / (self._last_at - self._first_at)
