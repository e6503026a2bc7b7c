"""An engine that says what a test wants, at once and in this process: it speaks through the same methods as the real
client."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Sequence

import msgspec

from engine.config import SamplingParams
from engine.errors import DataError, InvalidSettingError, MiniGPTError, WorkerError
from engine.inference.stream import Alternative, ScoredToken, Token
from engine.worker.protocol import (
    Done,
    Inspected,
    Loaded,
    ModelInfo,
    ParamsAt,
    ParamsChanged,
    Ready,
    Scored,
    Started,
    Tokens,
)

MODEL = ModelInfo(
    name="shakespeare",
    path="/models/shakespeare",
    family="nanochat",
    parameters=3_181_569,
    vocab_size=66,
    block_size=256,
    n_layer=4,
    n_head=4,
    n_embd=256,
    tokenizer="char",
    device="cpu",
    precision="int8",
    sha256="5ha",
)

TEXT = """
Speak well, prove thyself; the lord, I would bear my
leave immediately deserved with a dog of season:
imagine a most cries doth remember them good we have
standed thee what I may live, and that I know the
dull of your daughter."""

TOP = (("\n", 0.41), (" ", 0.18), ("S", 0.09), ("T", 0.08), ("e", 0.05), ("\x1b", 0.03), ("[", 0.02), ("a", 0.01))


REST = "bcdfghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRUVWXYZ!$&',-.3:;?"
"""The tokens behind those, each a tenth less likely than the one before."""


def token(position: int, text: str) -> Token:
    top = tuple(
        Alternative(token=place, text=piece, logprob=math.log(share), drawn=0.0 if share < 0.02 else share)
        for place, (piece, share) in enumerate(TOP)
    )
    id = ord(text[:1] or "?") % 300
    return Token(id, position, text=text, piece=text, logprob=-1.0, top=top, rank=2, entropy=1.8)


def inspected(tokens: Sequence[int], position: int, params: SamplingParams, top: int, *, attention, lens) -> Inspected:
    """What the model says at a place: TOP and REST, moved on by the position, so that neighbours differ."""
    shares = [share for _, share in TOP] + [0.013 * 0.9**place for place in range(len(REST))]
    ids = [*range(len(TOP)), *map(ord, REST)]
    pieces = [*(piece for piece, _ in TOP), *REST]
    turn = position % 4  # one of the four likeliest leads
    order = [turn, *(place for place in range(len(ids)) if place != turn)]
    shares = [share / sum(shares) for share in shares]
    entropy = -sum(share * math.log(share) for share in shares)

    def cut(place: int) -> bool:
        if params.temperature == 0.0:
            return place > 0
        return bool(params.top_k and place >= params.top_k) or shares[place] < params.min_p * shares[0]

    weights = [0.0 if cut(place) else share ** (1 / (params.temperature or 1.0)) for place, share in enumerate(shares)]
    whole = [
        Alternative(ids[which], pieces[which], math.log(shares[place]), weights[place] / sum(weights))
        for place, which in enumerate(order)
    ]
    chosen = tokens[position] if position < len(tokens) else None
    known = {alternative.token: rank for rank, alternative in enumerate(whole, 1)}
    if chosen is not None and chosen not in known:
        whole.append(Alternative(chosen, chr(chosen), math.log(1e-6)))
        known[chosen] = len(whole)
    own = whole[known[chosen] - 1] if chosen is not None else None
    told = whole[:top] if top else whole
    if own is not None and own not in told:
        told = [*told, own]
    return Inspected(
        id=1,
        position=position,
        token=chosen,
        logprob=own and own.logprob,
        rank=own and known[own.token],
        drawn=own and own.drawn,
        entropy=entropy,
        distribution=tuple(told),
        window_start=0,
        attention=b"".join(
            looked_at(layer, head, position) for layer in range(MODEL.n_layer) for head in range(MODEL.n_head)
        )
        if attention
        else b"",
        lens=tuple(tuple(whole[layer : layer + 3]) for layer in range(MODEL.n_layer, -1, -1)) if lens else (),
    )


def looked_at(layer: int, head: int, length: int) -> bytes:
    """One head's shares: each looks at another distance back, the later layers more sharply."""
    weights = [2.0 ** (-abs(length - 1 - place - 2 * head) * (layer + 1) / 4) for place in range(length)]
    return struct.pack(f"<{length}e", *(weight / sum(weights) for weight in weights))


class ScriptedStream:
    """A text whose events a test sends."""

    def __init__(
        self,
        prompt: str,
        prompt_tokens: Sequence[int] | None,
        params: SamplingParams,
        pace: float,
        changes: Sequence[ParamsAt] = (),
        template: bool = False,
    ) -> None:
        self.prompt, self.prompt_tokens, self.params, self.pace = prompt, prompt_tokens, params, pace
        self.changes, self.template = list(changes), template
        self.events: asyncio.Queue[object] = asyncio.Queue()
        self.position = len(prompt) if prompt_tokens is None else len(prompt_tokens)
        self.new_tokens = 0
        self.cancelled = self.closed = self.ended = False

    def start(self, left_out: str = "", seed: int = 7, text: str | None = None) -> None:
        tokens = tuple(range(len(self.prompt))) if self.prompt_tokens is None else tuple(self.prompt_tokens)
        prompt = self.prompt if text is None else text
        self.events.put_nowait(Started(id=1, prompt=prompt, prompt_tokens=tokens, seed=seed, left_out=left_out))

    def write(self, text: str) -> None:
        """Write a token per character, with the recorded changes of settings where they stand."""
        while self.changes and self.changes[0].position <= self.position + len(text):
            change = self.changes.pop(0)
            before = max(0, change.position - self.position)
            self._write(text[:before])
            text = text[before:]
            self._change(change.params)
        self._write(text)

    def _write(self, text: str) -> None:
        if not text:
            return
        tokens = tuple(token(self.position + place, character) for place, character in enumerate(text))
        self.position += len(tokens)
        self.new_tokens += len(tokens)
        self.events.put_nowait(Tokens(id=1, tokens=tokens, context=self.position, tokens_per_second=60.0))

    def _change(self, params: SamplingParams) -> None:
        self.params = params
        self.events.put_nowait(ParamsChanged(id=1, position=self.position, params=params))

    def finish(self, reason: str = "length", text: str = "") -> None:
        self.events.put_nowait(
            Done(
                id=1, finish_reason=reason, text=text, prompt_tokens=len(self.prompt), new_tokens=self.new_tokens,
                seed=7, tokens_per_second=60.0, time_to_first_token=0.009,
            )
        )  # fmt: skip

    def fail(self, error: MiniGPTError) -> None:
        self.events.put_nowait(error)

    def set_params(self, params: SamplingParams | None = None, pace: float | None = None) -> None:
        if params is not None:
            self.changes = []
            self._change(params)
        if pace is not None:
            self.pace = pace

    def cancel(self) -> None:
        self.cancelled = True
        self.finish("cancelled")

    async def aclose(self) -> None:
        self.closed = True

    async def __aenter__(self) -> ScriptedStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        if self.ended:
            raise StopAsyncIteration
        event = await self.events.get()
        if isinstance(event, MiniGPTError):
            self.ended = True
            raise event
        self.ended = isinstance(event, Done)
        return event


class ScriptedClient:
    """Ready at once, unless told otherwise.

    Args:
        until: The last state that it reaches by itself: starting, importing, loading or ready.
        load_error: What loading a model raises.

    Attributes:
        load_gate: What loading a model waits for, if anything.
        inspect_gate: What looking inside waits for, if anything.
        score_gate: What scoring waits for, if anything.
        inspections: What was asked of `inspect`: each call's arguments by their names.
        scored: The texts that were scored.
    """

    def __init__(self, until: str = "ready", load_error: MiniGPTError | None = None) -> None:
        self.state, self.on_state = "stopped", None
        self.place, self.hello, self.may_pass = None, None, True  # it is on this machine
        self.streams: list[ScriptedStream] = []
        self.starts = 0
        self.loads: list[str] = []
        self.load_gate: asyncio.Event | None = None
        self.inspect_gate: asyncio.Event | None = None
        self.score_gate: asyncio.Event | None = None
        self.inspections: list[dict[str, object]] = []
        self.scored: list[str] = []
        self._died = asyncio.Event()
        self._until, self._load_error = until, load_error

    def move(self, state: str, detail: str = "") -> None:
        self.state = state
        if state == "dead":
            self._died.set()
        if self.on_state:
            self.on_state(state, detail)

    async def start(self) -> None:
        if self.state not in ("stopped", "dead"):
            return
        self.starts += 1
        self._died = asyncio.Event()
        for state in ("starting", "importing", "ready"):
            self.move(state)
            if state == self._until:
                return

    async def wait_ready(self) -> Ready:
        return Ready(torch="2.13", devices=("cpu",), threads=2)

    async def load(self, model: str = "", device: str = "auto", precision: str = "auto") -> Loaded:
        if self.state == "dead":
            raise WorkerError("the engine is not running", "it must be started first")
        self.loads.append(model)
        if self.load_gate:
            await self._unless_it_dies(self.load_gate)
        if self._load_error:
            raise self._load_error
        if self._until != "ready":
            await self._unless_it_dies(asyncio.Event())
        known = MODEL if model in ("", MODEL.name) else msgspec.structs.replace(MODEL, name=model, sha256=model)
        return Loaded(id=1, model=known, seconds=0.1)

    async def _unless_it_dies(self, event: asyncio.Event) -> None:
        waits = [asyncio.create_task(waited.wait()) for waited in (event, self._died)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.state == "dead":
            raise WorkerError("the engine's process was killed")

    def generate(
        self, prompt: str = "", *, prompt_tokens=None, params=None, pace=0.0, changes=(), template=False, **_: object
    ) -> ScriptedStream:
        stream = ScriptedStream(prompt, prompt_tokens, params, pace, changes, template)
        self.streams.append(stream)
        if self.state == "dead":
            stream.fail(WorkerError("the engine is not running"))
        return stream

    async def inspect(
        self, tokens, position, *, model="", params=None, top=0, attention=False, lens=False, **_: object
    ) -> Inspected:
        asked = {"tokens": tuple(tokens), "position": position, "model": model, "params": params, "top": top}
        self.inspections.append({**asked, "attention": attention, "lens": lens})
        if self.state == "dead":
            raise WorkerError("the engine is not running")
        if not 1 <= position <= len(tokens):
            raise InvalidSettingError(f"position is {position}", f"it must be from 1 to {len(tokens)}")
        if self.inspect_gate:
            await self._unless_it_dies(self.inspect_gate)
        params = params or SamplingParams()
        return inspected(tokens, position, params, top, attention=attention, lens=lens)

    async def score(self, text: str, *, tokens=None, **_: object) -> Scored:
        ids = [ord(character) % 300 for character in text] if tokens is None else list(tokens)
        if tokens is not None:  # of a prompt that it was given, or letters by their numbers
            prompts = {tuple(range(len(stream.prompt))): stream.prompt for stream in self.streams}
            letters = "".join(TOP[id][0] if id < len(TOP) else chr(id) for id in ids)
            text = prompts.get(tuple(ids), letters)
        self.scored.append(text)
        if self.state == "dead":
            raise WorkerError("the engine is not running")
        if len(ids) < 2:
            raise DataError("the text is too short to score", "it needs at least two tokens that the model knows")
        if self.score_gate:
            await self._unless_it_dies(self.score_gate)
        tokens = tuple(
            ScoredToken(piece, -0.25 * (1 + place % 8), 1 + place % 8, 0.5 + 0.2 * (place % 10))
            for place, piece in enumerate(text[1:])
        )
        loss = -sum(token.logprob for token in tokens) / max(1, len(tokens))
        bits = loss * len(tokens) / math.log(2) / max(1, len(text[1:].encode()))
        return Scored(
            id=1, loss=loss, perplexity=math.exp(loss), bits_per_byte=bits, tokens=tokens, text=text, ids=tuple(ids),
            ends=tuple(range(1, len(ids) + 1)),
        )  # fmt: skip

    async def close(self) -> None:
        self.state = "stopped"
