"""An engine that says what a test wants, at once and in this process: it speaks through the same methods as the real
client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence

import msgspec

from engine.config import SamplingParams
from engine.errors import MiniGPTError, WorkerError
from engine.inference.stream import Alternative, Token
from engine.worker.protocol import Done, Loaded, ModelInfo, ParamsChanged, Ready, Started, Tokens

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


def token(position: int, text: str) -> Token:
    top = tuple(
        Alternative(token=place, text=piece, logprob=math.log(share), drawn=0.0 if share < 0.02 else share)
        for place, (piece, share) in enumerate(TOP)
    )
    return Token(token=ord(text[:1] or "?") % 300, position=position, text=text, piece=text, logprob=-1.0, top=top)


class ScriptedStream:
    """A text whose events a test sends."""

    def __init__(self, prompt: str, prompt_tokens: Sequence[int] | None, params: SamplingParams, pace: float) -> None:
        self.prompt, self.prompt_tokens, self.params, self.pace = prompt, prompt_tokens, params, pace
        self.events: asyncio.Queue[object] = asyncio.Queue()
        self.position = len(prompt) if prompt_tokens is None else len(prompt_tokens)
        self.new_tokens = 0
        self.cancelled = self.closed = self.ended = False

    def start(self, left_out: str = "", seed: int = 7, text: str | None = None) -> None:
        tokens = tuple(range(len(self.prompt))) if self.prompt_tokens is None else tuple(self.prompt_tokens)
        prompt = self.prompt if text is None else text
        self.events.put_nowait(Started(id=1, prompt=prompt, prompt_tokens=tokens, seed=seed, left_out=left_out))

    def write(self, text: str) -> None:
        tokens = tuple(token(self.position + place, character) for place, character in enumerate(text))
        self.position += len(tokens)
        self.new_tokens += len(tokens)
        self.events.put_nowait(Tokens(id=1, tokens=tokens, context=self.position, tokens_per_second=60.0))

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
            self.params = params
            self.events.put_nowait(ParamsChanged(id=1, position=self.position, params=params))
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
    """

    def __init__(self, until: str = "ready", load_error: MiniGPTError | None = None) -> None:
        self.state, self.on_state = "stopped", None
        self.streams: list[ScriptedStream] = []
        self.starts = 0
        self.loads: list[str] = []
        self.load_gate: asyncio.Event | None = None
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

    def generate(self, prompt: str = "", *, prompt_tokens=None, params=None, pace=0.0, **_: object) -> ScriptedStream:
        stream = ScriptedStream(prompt, prompt_tokens, params, pace)
        self.streams.append(stream)
        if self.state == "dead":
            stream.fail(WorkerError("the engine is not running"))
        return stream

    async def close(self) -> None:
        self.state = "stopped"
