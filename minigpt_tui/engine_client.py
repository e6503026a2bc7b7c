"""The asyncio side of the worker protocol: starts the engine's process, sends it requests, brings each event to whoever
waits for it, and says why when the process dies. Knows nothing of torch, nor of screens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine import folders, processes
from engine.errors import InvalidSettingError, WorkerError, named
from engine.worker.connection import TooLong, check_request, leading_id
from engine.worker.protocol import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Error,
    Hello,
    Ready,
    Request,
    Shutdown,
    decode_event,
    encode,
)
from minigpt_tui.engine_requests import DIFFERENT_VERSIONS, EngineRequests, State
from minigpt_tui.generation_stream import GenerationStream, TextEvent
from minigpt_tui.worker_log import WorkerLog, excerpt
from minigpt_tui.worker_process import COMMAND, WorkerProcess

if TYPE_CHECKING:
    from minigpt_tui.connecting.place import Place

HELLO_SECONDS = 60.0
"""How long a process may take to say hello: a slow disk, or a login on another machine."""

HELLO = b'{"type":"hello"'
"""How the line begins that says hello."""

TURN_BYTES = 1 << 15
"""Lines that are there already are read until they come to so much, before the screen has its turn."""

CLOSE_SECONDS = 2.0
"""How long it may take to end when asked to, before it is ended."""

__all__ = ["EngineClient", "GenerationStream", "State", "TextEvent"]


class EngineClient(EngineRequests):
    """One engine process, and what is asked of it. Belongs to one event loop.

    Args:
        command: The process to start; by default `python -P -m engine.worker` with this Python.
        log: Where its stderr goes; by default `worker.log` in the state folder.
        place: Where the engine is, when it is elsewhere: its process is the link to there.

    Attributes:
        detail: Why it died; else empty.
        hello: Version and process id of the engine, once it is up.
        may_pass: After a death, whether the same could work a little later.
        on_state: Called with state and detail at each change.
    """

    def __init__(
        self, *, command: Sequence[str] | None = None, log: Path | None = None, place: Place | None = None
    ) -> None:
        super().__init__()
        self.detail = ""
        self.hello: Hello | None = None
        self.place = place
        self.may_pass = True
        self.on_state: Callable[[State, str], None] | None = None
        self._command = command if place is None else place.command
        self._log_path = log
        self._ready: Ready | None = None
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
            environment: Mapping[str, str] | None = processes.environment() if self._command is None else None
            if self.place is not None:
                environment = self.place.environment()
            self.hello, self._ready, self._fault, self._closing = None, None, None, False
            self._settled.clear()
            try:
                self._process = await WorkerProcess.spawn(self._command or COMMAND, log.target, environment)
            except BaseException as error:  # also where the loop is closing: nobody must wait for this process
                log.close()
                self._process, self.may_pass = None, False
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

    async def close(self) -> None:
        """End the process: ask it to, then make it. May be called at any time, and again."""
        async with self._changing:
            self._closing = True
            session, process = self._session, self._process
            if session and process and not session.done():
                process.write(encode(Shutdown()))
                process.close_stdin()
                try:
                    for end in (process.ask_to_end, process.kill):
                        done, _ = await asyncio.wait({session}, timeout=CLOSE_SECONDS)
                        if done:
                            break
                        end()
                    await asyncio.wait({session})
                finally:
                    process.kill()  # where this itself is cancelled
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
            how, status = process.describe_end(), process.returncode
            try:
                await process.release()
            finally:
                self._end(how, status, log)
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
            taken = len(line)
            while not self._fault and taken < TURN_BYTES and (line := process.next_line()) is not None:
                self._take(line, log)
                taken += len(line)
            await asyncio.sleep(0)

    def _greet(self, line: bytes | TooLong, log: WorkerLog) -> None:
        """Wait for hello; a login shell may have said something before it."""
        try:
            # What a shell said last may stand before it on its line.
            event = decode_event(line[max(0, line.find(HELLO)) :]) if isinstance(line, bytes) else None
        except msgspec.DecodeError:
            event = None
        if not isinstance(event, Hello):
            log.write(f"before hello: {excerpt(line)}")
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
            log.write(f"not an event ({error}): {excerpt(line)}")
            id = leading_id(line.head if isinstance(line, TooLong) else line)
            if id is not None:
                self._waiting.fail(id, WorkerError("an answer of the engine cannot be read", DIFFERENT_VERSIONS))
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
                self._waiting.fail(id, named(event.kind, event.message, event.hint))
            case _:
                self._waiting.deliver(event)

    def _end(self, how: str, status: int | None, log: WorkerLog) -> None:
        """Tell everyone who waits that no answer will come, and why."""
        last = log.last_line()
        cause, self.may_pass = self._fault, self._fault is None
        if cause is None and self.place is not None:
            cause, self.may_pass = self.place.explain(status, last, was_up=self._ready is not None)
        if cause is None:
            cause = WorkerError(
                f"the engine's process {how}", f"its log ends: {last}" if last else f"its log is {log.path}"
            )
        if self._closing:
            cause = WorkerError("the engine was closed")
        self._fault, self._ready = cause, None
        self._waiting.fail_all(self._absence())
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
