"""The asyncio side of the worker protocol: starts the engine's process, sends it requests, brings each event to whoever
waits for it, and says why when the process dies. Knows nothing of torch, nor of screens.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from engine import folders, processes
from engine.config import Device, Precision, SamplingParams
from engine.errors import InvalidSettingError, MiniGPTError, WorkerError, named
from engine.worker.connection import TooLong, check_request, leading_id
from engine.worker.protocol import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Cancel,
    Done,
    Error,
    Event,
    Generate,
    Hello,
    Load,
    Loaded,
    ParamsChanged,
    Ready,
    Request,
    Score,
    Scored,
    Shutdown,
    Started,
    Tokens,
    decode_event,
    encode,
)
from minigpt_tui.generation_stream import EventQueue, GenerationStream, TextEvent
from minigpt_tui.worker_log import WorkerLog
from minigpt_tui.worker_process import COMMAND, WorkerProcess

State = Literal["stopped", "starting", "importing", "ready", "dead"]

HELLO_SECONDS = 60.0
"""How long a process may take to say hello: a slow disk, or a login on another machine."""

CLOSE_SECONDS = 2.0
"""How long it may take to end when asked to, before it is ended."""

DIFFERENT_VERSIONS = "install the same version of minigpt-tui on both sides"

E = TypeVar("E", Loaded, Scored)

__all__ = ["EngineClient", "GenerationStream", "State", "TextEvent"]


class EngineClient:
    """One engine process, and what is asked of it. Belongs to one event loop.

    Args:
        command: The process to start; by default `python -P -m engine.worker` with this Python.
        log: Where its stderr goes; by default `worker.log` in the state folder.

    Attributes:
        state: stopped, starting (the process), importing (torch), ready, or dead (it ended by itself; `start` starts
            another). From starting on, requests can be made; they wait until it is ready.
        detail: Why it died; else empty.
        hello: Version and process id of the engine, once it is up.
        on_state: Called with state and detail at each change.
    """

    def __init__(self, *, command: Sequence[str] | None = None, log: Path | None = None) -> None:
        self.state: State = "stopped"
        self.detail = ""
        self.hello: Hello | None = None
        self.on_state: Callable[[State, str], None] | None = None
        self._command = command
        self._log_path = log
        self._ready: Ready | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Event]] = {}
        self._streams: dict[int, EventQueue] = {}
        self._process: WorkerProcess | None = None
        self._session: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # ready, or never will be
        self._changing = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None
        self._closing = False
        self._fault: WorkerError | None = None

    async def start(self) -> None:
        """Start the process, unless it runs; returns once it is spawned.

        Cancelling whoever waits here does not cancel the start: others may count on the process.

        Raises:
            WorkerError: It cannot be spawned.
        """
        self._starting = asyncio.create_task(self._start(), name="start of the engine")
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        async with self._changing:
            if self._session and not self._session.done():
                return
            log = WorkerLog(self._log_path or folders.state_home() / "worker.log")
            environment = processes.environment() if self._command is None else None
            self.hello, self._ready, self._fault, self._closing = None, None, None, False
            self._settled.clear()
            try:
                self._process = await WorkerProcess.spawn(self._command or COMMAND, log.target, environment)
            except BaseException as error:  # also where the loop is closing: nobody must wait for this process
                log.close()
                self._process = None
                self._fault = error if isinstance(error, WorkerError) else WorkerError("its start was interrupted")
                self._settled.set()
                self._move("dead", str(self._fault))
                raise
            self._session = asyncio.create_task(self._attend(self._process, log), name="engine")
            self._move("starting")

    async def wait_ready(self) -> Ready:
        """Wait until torch is imported.

        Raises:
            WorkerError: The process is not running, or died before that.
        """
        if self.state != "stopped":
            await self._settled.wait()
        if self._ready is None:
            raise self._absence()
        return self._ready

    async def load(self, model: str = "", device: Device = "auto", precision: Precision = "auto") -> Loaded:
        """Make a model ready.

        Raises:
            MiniGPTError: What the engine says is wrong; WorkerError when the process dies or does not run.
        """
        request = Load(id=next(self._ids), model=model, device=device, precision=precision)
        return await self._ask(request, Loaded)

    async def score(
        self, text: str, *, model: str = "", device: Device = "auto", precision: Precision = "auto"
    ) -> Scored:
        """How surprising a text is to a model; raises as `load` does."""
        request = Score(id=next(self._ids), text=text, model=model, device=device, precision=precision)
        return await self._ask(request, Scored)

    def generate(
        self,
        prompt: str = "",
        *,
        prompt_tokens: Sequence[int] | None = None,
        model: str = "",
        device: Device = "auto",
        precision: Precision = "auto",
        params: SamplingParams | None = None,
        pace: float = 0.0,
        alternatives: int = 0,
    ) -> GenerationStream:
        """Write on from a prompt; the arguments are those of `protocol.Generate`.

        The request is sent at once. Whatever is wrong with it is raised by the stream, not here.
        """
        request = Generate(
            id=next(self._ids),
            model=model,
            device=device,
            precision=precision,
            prompt=prompt,
            prompt_tokens=None if prompt_tokens is None else tuple(prompt_tokens),
            params=params or SamplingParams(),
            pace=pace,
            alternatives=alternatives,
        )
        events: EventQueue = asyncio.Queue()
        try:
            self.send(request)
            self._streams[request.id] = events
        except MiniGPTError as error:
            events.put_nowait(error)
        return GenerationStream(self, request.id, events)

    async def close(self) -> None:
        """End the process: ask it to, then make it. May be called at any time, and again."""
        async with self._changing:
            self._closing = True
            session, process = self._session, self._process
            if session and process and not session.done():
                process.write(encode(Shutdown()))
                process.close_stdin()
                try:
                    for force in (signal.SIGTERM, signal.SIGKILL):
                        done, _ = await asyncio.wait({session}, timeout=CLOSE_SECONDS)
                        if done:
                            break
                        process.signal(force)
                    await asyncio.wait({session})
                finally:
                    process.signal(signal.SIGKILL)  # where this itself is cancelled
            if self.state != "stopped":
                self._move("stopped")

    # Requests.

    def send(self, request: Request) -> None:
        """Send a request as it is; its answer goes to whoever waits under its id.

        Raises:
            InvalidSettingError: A number is out of range, or it is longer than a message may be.
            WorkerError: The engine is not running.
        """
        if self._process is None or self.state in ("stopped", "dead"):
            raise self._absence()
        check_request(request)
        try:
            line = encode(request)
        except UnicodeEncodeError:
            raise InvalidSettingError("the text has half characters (lone surrogates)", "remove them") from None
        if len(line) > MAX_MESSAGE_BYTES:
            raise InvalidSettingError(
                f"the text makes a message of {len(line):,} bytes", f"at most {MAX_MESSAGE_BYTES:,} can be sent"
            )
        self._process.write(line)

    def follows(self, id: int) -> bool:
        """Whether a text is being written and somebody follows it."""
        return id in self._streams

    def leave(self, id: int) -> None:
        """Stop listening to a generation, and end it."""
        if self._streams.pop(id, None) and self.state not in ("stopped", "dead"):
            self.send(Cancel(id=id))

    async def _ask(self, request: Load | Score, kind: type[E]) -> E:
        answer: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self.send(request)
        self._answers[request.id] = answer
        try:
            event = await answer
        finally:
            self._answers.pop(request.id, None)
        if not isinstance(event, kind):
            raise WorkerError(f"the engine answered with {type(event).__name__}", DIFFERENT_VERSIONS)
        return event

    def _absence(self) -> WorkerError:
        """Why there is no engine to ask."""
        if self._fault:
            return WorkerError(self._fault.message, self._fault.hint)
        return WorkerError("the engine is not running", "it must be started first")

    # The process.

    async def _attend(self, process: WorkerProcess, log: WorkerLog) -> None:
        """Listen to a process from its start to its end."""
        try:
            await self._listen(process, log)
            if not self._closing and not self._fault and not await process.wait(CLOSE_SECONDS):
                self._fault = WorkerError("the engine's process closed its stdout", f"its log is {log.path}")
        except asyncio.CancelledError:
            self._closing = True  # the loop itself is closing
            raise
        finally:
            how = process.describe_end()
            try:
                await process.release()
            finally:
                self._end(how, log)
                log.close()

    async def _listen(self, process: WorkerProcess, log: WorkerLog) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                while self.hello is None:
                    if (line := await process.read_line()) is None:
                        return
                    self._greet(line, log)
        except TimeoutError:
            self._fault = WorkerError(
                f"the engine's process said nothing for {HELLO_SECONDS:.0f} seconds", f"its log is {log.path}"
            )
            return
        while not self._fault and (line := await process.read_line()) is not None:
            self._take(line, log)
            await asyncio.sleep(0)  # lines that are there already must not keep the screen waiting

    def _greet(self, line: bytes | TooLong, log: WorkerLog) -> None:
        """Wait for hello; a login shell may have said something before it."""
        try:
            event = decode_event(line) if isinstance(line, bytes) else None
        except msgspec.DecodeError:
            event = None
        if not isinstance(event, Hello):
            log.write(f"before hello: {_excerpt(line)}")
            return
        self.hello = event
        if event.protocol == PROTOCOL_VERSION:
            self._move("importing")
        else:
            self._fault = WorkerError(
                f"the engine speaks version {event.protocol} of the protocol, and this program {PROTOCOL_VERSION}",
                DIFFERENT_VERSIONS,
            )

    def _take(self, line: bytes | TooLong, log: WorkerLog) -> None:
        """Bring one line to whoever waits for it."""
        try:
            if isinstance(line, TooLong):
                raise msgspec.DecodeError("too long")
            event = decode_event(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.write(f"not an event ({error}): {_excerpt(line)}")
            id = leading_id(line.head if isinstance(line, TooLong) else line)
            if id is not None:
                self._deliver_error(id, WorkerError("an answer of the engine cannot be read", DIFFERENT_VERSIONS))
            return
        match event:
            case Hello():
                log.write("a second hello")
            case Ready():
                self._ready = event
                self._settled.set()
                self._move("ready")
            case Error(id=None):
                log.write(f"{event.kind}: {event.message}: {event.hint}")
                if self._ready is None:
                    self._fault = WorkerError(event.message, event.hint)
            case Error(id=int(id)):
                self._deliver_error(id, to_exception(event))
            case Loaded() | Scored():
                if (answer := self._answers.get(event.id)) and not answer.done():
                    answer.set_result(event)
            case Started() | Tokens() | ParamsChanged() | Done():
                # A text that nobody follows any more is told nothing: it was cancelled, and ends.
                if events := self._streams.get(event.id):
                    events.put_nowait(event)
                if isinstance(event, Done):
                    self._streams.pop(event.id, None)

    def _deliver_error(self, id: int, error: MiniGPTError) -> None:
        if (answer := self._answers.get(id)) and not answer.done():
            answer.set_exception(error)
        if events := self._streams.pop(id, None):
            events.put_nowait(error)

    def _end(self, how: str, log: WorkerLog) -> None:
        """Tell everyone who waits that no answer will come, and why."""
        last = log.last_line()
        cause = self._fault or WorkerError(
            f"the engine's process {how}", f"its log ends: {last}" if last else f"its log is {log.path}"
        )
        if self._closing:
            cause = WorkerError("the engine was closed")
        self._fault, self._ready = cause, None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._absence())
        for events in self._streams.values():
            events.put_nowait(self._absence())
        self._streams.clear()
        self._settled.set()
        if self._closing:
            self._move("stopped")
        else:
            log.write(str(cause))
            self._move("dead", str(cause))

    def _move(self, state: State, detail: str = "") -> None:
        self.state, self.detail = state, detail
        if self.on_state:
            try:
                self.on_state(state, detail)
            except Exception as error:  # a fault of the listener's must not end the session
                context = {"message": "on_state failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


def to_exception(event: Error) -> MiniGPTError:
    """The error that an event tells of, as the kind that it names."""
    return named(event.kind, event.message, event.hint)


def _excerpt(line: bytes | TooLong) -> str:
    return repr(line.head if isinstance(line, TooLong) else line[:256])
