"""Serves the worker's requests: every running text gets one token in turn, and between two tokens every command that
has arrived is obeyed. Knows nothing of pipes, nor of how a token is drawn and when it is sent.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from engine.checkpoints import LoadedModel
from engine.errors import DeviceError, InvalidSettingError, MiniGPTError
from engine.evaluation import score
from engine.inference.decoder import CHUNK
from engine.inference.generator import Generation
from engine.inference.stream import ScoredToken
from engine.inference.threads import torch_threads
from engine.inference.together import read_together
from engine.worker.connection import Arrival, Connection
from engine.worker.inspecting import Inspecting
from engine.worker.models import Models
from engine.worker.protocol import (
    BATCH_SECONDS,
    MAX_MESSAGE_BYTES,
    Cancel,
    Error,
    Generate,
    Inspect,
    Load,
    Loaded,
    ModelInfo,
    Score,
    Scored,
    SetParams,
    Shutdown,
    Started,
)
from engine.worker.writer import Writer

MESSAGES_A_SECOND = 640
"""So many messages with tokens are sent for all texts together: the more texts, the more tokens each message has. 64
texts get one in a tenth of a second.
"""

SCORED_BYTES = 80
"""The least that one scored token takes in a message."""


class Service:
    """Loads, generates, scores and looks inside for one client.

    Args:
        connection: Where requests come from and events go to.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._models = Models()
        self._inspecting = Inspecting()
        self._writers: dict[int, Writer] = {}
        self._reading: dict[int, None] = {}  # what `_read_together` returned

    def serve(self) -> None:
        """Serve until the client says so or has gone."""
        while True:
            for arrival in self._connection.receive(self._patience()):
                if isinstance(arrival.message, Shutdown):
                    return
                self._handle(arrival)
            self._inspecting.rest()
            self._reading = self._read_together()
            apart = max(BATCH_SECONDS, len(self._writers) / MESSAGES_A_SECOND)
            with self._connection.hold():
                for writer in list(self._writers.values()):
                    if not writer.finished:
                        writer.apart = apart
                        self._advance(writer)
                    if writer.finished:
                        del self._writers[writer.id]

    def _advance(self, writer: Writer) -> None:
        """Let a text go on, unless more is to be read first."""
        is_read = writer.id not in self._reading
        if is_read and writer.generation.is_waiting:
            self._connection.release()  # what the others wrote need not wait for a pass of this one
        try:
            if is_read:
                writer.advance()
            else:
                writer.tell()
        except Exception as error:
            self._failed(error, writer.id)

    def _read_together(self) -> dict[int, None]:
        """Read what all texts of a model need for their next tokens in as few passes as can be.

        Returns:
            The texts that have more of their prompts to read, those first that have waited longest; commands are obeyed
            between its pieces.
        """
        by_model: dict[int, list[Writer]] = {}
        for text in {**self._reading, **dict.fromkeys(self._writers)}:
            if (writer := self._writers.get(text)) and writer.is_due:
                by_model.setdefault(id(writer.generation.model), []).append(writer)
        reading: dict[int, None] = {}
        for writers in by_model.values():
            with suppress(Exception):  # such as that there is no memory: each tries alone then, and says so if it fails
                if len(writers) == 1 and len(writers[0].generation.behind()) <= CHUNK:
                    continue  # it reads by itself when it is asked for its token
                read_together([writer.generation for writer in writers])
                reading |= dict.fromkeys(writer.id for writer in writers if writer.generation.is_waiting)
        return reading

    def _patience(self) -> float | None:
        """Seconds until a text wants to go on, or what is looked into can be let go; None while there is neither."""
        wakes_at = self._inspecting.rests_at
        for writer in self._writers.values():
            wakes_at = min(wakes_at, writer.wakes_at)
            if wakes_at == -math.inf:
                break
        return None if wakes_at == math.inf else wakes_at - time.monotonic()

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
                case Inspect():
                    self._inspect(request)
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
            self._failed(error, id)

    def _failed(self, error: Exception, id: int) -> None:
        if writer := self._running(id):
            writer.fail()
        self._connection.send(describe(error, id))
        if isinstance(error, torch.OutOfMemoryError):
            self._inspecting.let_go()
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
            tokens, prompt, left_out = model.tokenizer.encode_prompt(request.prompt, special=request.template)
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
        writer = self._writers[request.id] = Writer(
            self._connection,
            request.id,
            generation,
            pace=request.pace,
            asked_at=max(arrived, self._models.last_loaded),
            changes=request.changes,
            plain=request.plain,
        )
        writer.begin()

    def _inspect(self, request: Inspect) -> None:
        model = self._models.get(request.model, request.device, request.precision)
        with torch_threads(model.decoder.threads):
            looked = self._models.retry_alone(lambda: self._inspecting.look(model, request))
        self._connection.send(looked)

    def _score(self, request: Score) -> None:
        model = self._models.get(request.model, request.device, request.precision)
        text = request.text if request.tokens is None else request.tokens
        count = len(text if request.tokens is not None else model.tokenizer.encode_prompt(request.text)[0])
        each = SCORED_BYTES * (1 + request.alternatives)
        if count * each > MAX_MESSAGE_BYTES:
            raise InvalidSettingError(
                f"the text has {count:,} tokens, too many to score one by one",
                f"at most {MAX_MESSAGE_BYTES // each:,}; for the loss of a long text use: minigpt-tui eval",
            )
        with torch_threads(model.decoder.threads):
            result = self._models.retry_alone(lambda: score(model, text, request.alternatives))
        if math.isnan(result.loss):
            raise model.no_number()
        self._connection.send(
            Scored(
                id=request.id,
                loss=finite(result.loss),
                perplexity=finite(result.perplexity),
                bits_per_byte=finite(result.bits_per_byte),
                tokens=tuple(
                    ScoredToken(token.text, finite(token.logprob), token.rank, token.entropy, token.top)
                    for token in result.tokens
                ),
                left_out=result.left_out,
                text=result.text,
                ids=result.ids,
                ends=result.ends,
            )
        )


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
