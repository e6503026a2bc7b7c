"""Serves the worker's requests: every running text gets one token in turn, and between two tokens every command that
has arrived is obeyed. Knows nothing of pipes, nor of how a token is drawn.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

from engine.checkpoints import LoadedModel
from engine.errors import DeviceError, InvalidSettingError, MiniGPTError
from engine.evaluation import score
from engine.inference.decoder import CHUNK
from engine.inference.generator import Generation
from engine.inference.stream import ScoredToken, Token
from engine.inference.together import read_together
from engine.worker.connection import Arrival, Connection, MessageTooLongError
from engine.worker.models import Models
from engine.worker.protocol import (
    BATCH_SECONDS,
    MAX_MESSAGE_BYTES,
    Cancel,
    Done,
    Error,
    Generate,
    Load,
    Loaded,
    ModelInfo,
    ParamsChanged,
    Score,
    Scored,
    SetParams,
    Shutdown,
    Started,
    Tokens,
)

CATCH_UP_SECONDS = 0.05
"""A paced text that fell behind makes up for no more than this; the rest of the delay stays."""

SPEED_SECONDS = 1.0
"""The speed that is told while a text is written is of this last time."""

SCORED_BYTES = 36
"""The least that one scored token takes in a message."""


class Service:
    """Loads, generates and scores for one client.

    Args:
        connection: Where requests come from and events go to.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._models = Models()
        self._writers: dict[int, Writer] = {}

    def serve(self) -> None:
        """Serve until the client says so or has gone."""
        while True:
            for arrival in self._connection.receive(self._patience()):
                if isinstance(arrival.message, Shutdown):
                    return
                self._handle(arrival)
            reading = self._read_together()
            for writer in list(self._writers.values()):
                if not writer.finished and writer.id not in reading:
                    with self._answering(writer.id):
                        writer.advance()
                if writer.finished:
                    del self._writers[writer.id]

    def _read_together(self) -> set[int]:
        """Read what all texts of a model need for their next tokens in as few passes as can be.

        Returns:
            The texts that have more of their prompts to read; commands are obeyed between its pieces.
        """
        by_model: dict[int, list[Writer]] = {}
        for writer in self._writers.values():
            if writer.is_due:
                by_model.setdefault(id(writer.generation.model), []).append(writer)
        reading: set[int] = set()
        for writers in by_model.values():
            if len(writers) == 1 and len(writers[0].generation.behind()) <= CHUNK:
                continue  # it reads by itself when it is asked for its token
            try:
                read_together([writer.generation for writer in writers])
            except torch.OutOfMemoryError:  # each tries alone, and says so where it fails
                continue
            reading |= {writer.id for writer in writers if writer.generation.is_waiting}
        return reading

    def _patience(self) -> float | None:
        """Seconds until a text wants to go on; None while there is none."""
        if not self._writers:
            return None
        return min(writer.wakes_at for writer in self._writers.values()) - time.monotonic()

    def _handle(self, arrival: Arrival) -> None:
        request = arrival.message
        if isinstance(request, Error):
            # By the protocol an error with its id is a text's end, so a change that cannot be read ends it too.
            if request.id is not None and (writer := self._running(request.id)):
                writer.fail()
            self._connection.send(request)
            return
        if isinstance(request, Shutdown):
            return
        with self._answering(request.id):
            match request:
                case Load():
                    self._load(request)
                case Generate():
                    self._generate(request, arrival.time)
                case Score():
                    self._score(request)
                case SetParams():
                    if writer := self._running(request.id):  # else it has just ended: nothing to change
                        writer.change(request)
                case Cancel():
                    if writer := self._running(request.id):
                        writer.cancel()

    def _running(self, id: int) -> Writer | None:
        writer = self._writers.get(id)
        return writer if writer and not writer.finished else None

    @contextmanager
    def _answering(self, id: int) -> Iterator[None]:
        """Whatever fails inside is answered with an `Error` to request `id`, and the worker lives on."""
        try:
            yield
        except Exception as error:
            if writer := self._running(id):
                writer.fail()
            self._connection.send(describe(error, id))
            if isinstance(error, torch.OutOfMemoryError):
                self._models.drop_all()

    def _load(self, request: Load) -> None:
        start = time.monotonic()
        model = self._models.get(request.model, request.device, request.precision)
        info = model_info(model, request.model or model.name)
        self._connection.send(Loaded(id=request.id, model=info, seconds=time.monotonic() - start))

    def _generate(self, request: Generate, arrived: float) -> None:
        if self._running(request.id):
            # Without the id: an error that carried it would end the text that is being written.
            message = f"a text with id {request.id} is being written already"
            self._connection.send(Error(id=None, kind=InvalidSettingError.__name__, message=message))
            return
        model = self._models.get(request.model, request.device, request.precision)
        if request.prompt_tokens is None:
            tokens, prompt, left_out = model.tokenizer.encode_prompt(request.prompt)
        else:
            tokens, prompt, left_out = list(request.prompt_tokens), "", ""
        generation = self._models.retry_alone(
            lambda: Generation(model, tokens, request.params, alternatives=request.alternatives)
        )
        if request.prompt_tokens is not None:
            prompt = model.tokenizer.decode(tokens)
        self._connection.send(
            Started(
                id=request.id,
                prompt=prompt,
                prompt_tokens=generation.prompt_tokens,
                seed=generation.seed,
                left_out=left_out,
            )
        )
        self._writers[request.id] = Writer(
            self._connection,
            request.id,
            generation,
            pace=request.pace,
            asked_at=max(arrived, self._models.last_loaded),
        )

    def _score(self, request: Score) -> None:
        model = self._models.get(request.model, request.device, request.precision)
        count = len(model.tokenizer.encode_prompt(request.text)[0])
        if count * SCORED_BYTES > MAX_MESSAGE_BYTES:
            raise InvalidSettingError(
                f"the text has {count:,} tokens, too many to score one by one",
                f"at most {MAX_MESSAGE_BYTES // SCORED_BYTES:,}; for the loss of a long text use: minigpt-tui eval",
            )
        result = self._models.retry_alone(lambda: score(model, request.text))
        if math.isnan(result.loss):
            raise model.no_number()
        self._connection.send(
            Scored(
                id=request.id,
                loss=finite(result.loss),
                perplexity=finite(result.perplexity),
                bits_per_byte=finite(result.bits_per_byte),
                tokens=tuple(ScoredToken(token.text, finite(token.logprob), token.rank) for token in result.tokens),
                left_out=result.left_out,
            )
        )


class Writer:
    """One text on its way to the client: its pace, its batches, its clock.

    Args:
        asked_at: When its request arrived, or the model was ready, on the monotonic clock.
    """

    def __init__(
        self,
        connection: Connection,
        id: int,
        generation: Generation,
        *,
        pace: float,
        asked_at: float,
    ) -> None:
        self.id = id
        self.finished = False
        self._connection = connection
        self.generation = generation
        self._pace = pace
        self._asked_at = asked_at
        self._first_at: float | None = None
        self._last_at = 0.0
        self._beat = -math.inf  # when the last token was due, which is a little before it was drawn
        self._batch: list[Token] = []
        self._recent: deque[tuple[float, int]] = deque()  # when a token came, and how many there were by then
        self._sent_at = -math.inf

    @property
    def due(self) -> float:
        """When the next token may be drawn, on the monotonic clock; the end of the text, being none, is due at once."""
        at_end = 0 <= self.generation.params.max_new_tokens <= self.generation.new_tokens
        return self._beat + 1 / self._pace if self._pace and not at_end else -math.inf

    @property
    def is_due(self) -> bool:
        """Whether a token is to be drawn now that is not there yet."""
        return not self.finished and time.monotonic() >= self.due and self.generation.is_waiting

    @property
    def wakes_at(self) -> float:
        """When there is something to do: a token to draw, or a batch to send."""
        return min(self.due, self._sent_at + BATCH_SECONDS) if self._batch else self.due

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
        elif self._batch and time.monotonic() >= self._sent_at + BATCH_SECONDS:
            self._flush()

    def change(self, request: SetParams) -> None:
        """Go on with other settings from the next token on."""
        if request.pace is not None:
            self._pace = request.pace
        if request.params is not None:
            self._flush()
            self.generation.set_params(request.params)
            position, params = self.generation.position, self.generation.params
            self._connection.send(ParamsChanged(id=self.id, position=position, params=params))

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
        token = next(self.generation, None)
        if token is None:
            return
        self._last_at = time.monotonic()
        if self._first_at is None:
            self._first_at = self._last_at
        self._recent.append((self._last_at, self.generation.new_tokens))
        while self._last_at - self._recent[0][0] > SPEED_SECONDS and len(self._recent) > 2:
            self._recent.popleft()
        self._batch.append(token)

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self._send(batch)
            self._sent_at = time.monotonic()

    def _send(self, tokens: Sequence[Token]) -> None:
        """Send tokens in as few messages as hold them."""
        if not tokens:
            return
        event = Tokens(
            id=self.id,
            tokens=tuple(tokens),
            context=self.generation.context,
            tokens_per_second=self._recent_speed(),
        )
        try:
            self._connection.send(event)
        except MessageTooLongError:
            if len(tokens) == 1:
                raise
            half = len(tokens) // 2
            self._send(tokens[:half])
            self._send(tokens[half:])

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
        """Tokens per second of late, so that a change of pace shows; 0 while there is but one token."""
        (began, before), (ended, after) = self._recent[0], self._recent[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def _tokens_per_second(self) -> float:
        """Tokens per second over the whole text, without the first token."""
        if self._first_at is None or self._last_at <= self._first_at:
            return 0.0
        return (self.generation.new_tokens - 1) / (self._last_at - self._first_at)


def model_info(model: LoadedModel, name: str) -> ModelInfo:
    """What a client is told about a model, under the name that it asked for."""
    config, record = model.config, model.record
    return ModelInfo(
        name=name,
        path=str(model.path),
        family=config.family,
        parameters=model.parameters,
        vocab_size=config.vocab_size,
        block_size=config.block_size,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        tokenizer=model.tokenizer.kind,
        device=model.device,
        precision=model.precision,
        sha256=model.sha256,
        val_loss=record.losses.get("val"),
        step=record.step if record.written_by else None,
        trained_on=str(record.data.get("name", "")),
    )


def finite(value: float) -> float:
    """`value`, or the nearest number that JSON can carry."""
    largest: float = sys.float_info.max
    return min(max(value, -largest), largest)


def describe(error: Exception, id: int) -> Error:
    """The event that tells a client of an error; the log gets the traceback of one that is no user's."""
    if isinstance(error, MiniGPTError):
        return Error(id=id, kind=type(error).__name__, message=error.message, hint=error.hint)
    traceback.print_exception(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error):
        message = "the device ran out of memory"
        return Error(id=id, kind=DeviceError.__name__, message=message, hint="use a smaller model, or --device cpu")
    line = next(iter(str(error).splitlines()), "")
    message = f"the engine failed: {type(error).__name__}: {line}"[:500]
    return Error(id=id, kind="InternalError", message=message, hint="its log has more")
