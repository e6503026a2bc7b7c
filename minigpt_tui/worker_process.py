"""The engine's process seen from asyncio: lines in, lines out, and how it ended. Knows nothing of what lines say."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import cast

from engine import process_families
from engine.errors import WorkerError
from engine.worker.connection import LineBuffer, TooLong
from engine.worker.protocol import MAX_MESSAGE_BYTES

COMMAND = (sys.executable, "-P", "-m", "engine.worker")

HELD_BYTES = 4 * 1024 * 1024
"""Bytes of unread lines past which the pipe is left alone until they are read."""

DRAIN_SECONDS = 0.5
"""How long after its end a process's last words may take, where another process still holds its stdout."""


class WorkerProcess(asyncio.SubprocessProtocol):
    """One process and its pipes; made by `spawn`."""

    def __init__(self) -> None:
        self._lines: deque[bytes | TooLong] = deque()
        self._held = 0
        self._paused = False
        self._buffer = LineBuffer(MAX_MESSAGE_BYTES)
        self._news = asyncio.Event()
        self._stdout_ended = False
        self._exited = asyncio.Event()
        self._released = asyncio.Event()
        self._transport: asyncio.SubprocessTransport

    @classmethod
    async def spawn(cls, command: Sequence[str], stderr: int, environment: Mapping[str, str] | None) -> WorkerProcess:
        """Start a process.

        Args:
            command: Program and arguments.
            stderr: File descriptor for what it prints.
            environment: Its environment; None for this process's own.

        Raises:
            WorkerError: The program is not there or cannot be run.
        """
        loop = asyncio.get_running_loop()
        try:
            transport, process = await loop.subprocess_exec(
                cls,
                *command,
                stderr=stderr,
                env=environment,
                **process_families.apart(),  # the terminal's ctrl+c must not reach it, not even while Python starts
            )
        except (OSError, ValueError) as error:
            hint = f"{command[0]} cannot be run ({error})"
            raise WorkerError("the engine's process cannot be started", hint) from None
        process._transport = transport
        return process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._transport.get_pid()

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._transport.get_returncode()

    def write(self, line: bytes) -> None:
        """Send bytes to its stdin; nothing happens when it no longer reads."""
        pipe = self._pipe(0)
        if not pipe.is_closing():
            pipe.write(line)

    def close_stdin(self) -> None:
        """Tell it that nothing more will come."""
        self._pipe(0).close()

    async def read_line(self) -> bytes | TooLong | None:
        """The next line of its stdout, without the newline; None after the last one."""
        while (line := self.next_line()) is None:
            if self._stdout_ended:
                return None
            self._news.clear()
            try:
                async with asyncio.timeout(DRAIN_SECONDS if self.returncode is not None else None):
                    await self._news.wait()
            except TimeoutError:
                return None
        return line

    def next_line(self) -> bytes | TooLong | None:
        """The same, where it is there already; else None."""
        if not self._lines:
            return None
        line = self._lines.popleft()
        self._held -= _size(line)
        if self._paused and self._held < HELD_BYTES // 2:
            self._paused = False
            cast(asyncio.ReadTransport, self._transport.get_pipe_transport(1)).resume_reading()
        return line

    async def wait(self, seconds: float) -> bool:
        """Wait for its end for at most `seconds`; whether it has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        return self._exited.is_set()

    def ask_to_end(self) -> None:
        """Ask it, and what it has started, to end."""
        if self.returncode is None:
            process_families.ask_to_end(self.pid)

    def kill(self) -> None:
        """End it, and what it has started, whatever they do."""
        if self.returncode is None:
            process_families.kill(self.pid)

    async def release(self) -> None:
        """End it if it still runs, and let go of its pipes."""
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):  # a process in an uninterruptible wait does not even die of this
                await self._exited.wait()
                self._transport.close()
                await self._released.wait()
        self._transport.close()

    def describe_end(self) -> str:
        """How it ended, in words that go on from "the engine's process"."""
        status = self.returncode
        if status is None:
            return "does not answer"
        if status >= 0:
            return f"ended with status {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"was killed by {name}" + (", perhaps because memory ran out" if name == "SIGKILL" else "")

    # What asyncio calls.

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take bytes from its stdout."""
        lines = self._buffer.push(data)
        self._lines.extend(lines)
        self._held += sum(map(_size, lines))
        if self._held > HELD_BYTES and not self._paused:
            self._paused = True
            cast(asyncio.ReadTransport, self._transport.get_pipe_transport(fd)).pause_reading()
        self._news.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Note the end of its stdout."""
        if fd == 1:
            self._stdout_ended = True
            self._news.set()

    def process_exited(self) -> None:
        """Note its end; what it wrote may still be on its way."""
        self._exited.set()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that process and pipes are gone."""
        self._released.set()

    def _pipe(self, fd: int) -> asyncio.WriteTransport:
        return cast(asyncio.WriteTransport, self._transport.get_pipe_transport(fd))


def _size(line: bytes | TooLong) -> int:
    return len(line.head) if isinstance(line, TooLong) else len(line)
