"""The worker's end of the line: requests from a pipe into a queue, events out, one JSON object per line, none longer
than the protocol allows. Knows nothing of torch, nor of what the messages ask for.
"""

from __future__ import annotations

import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from engine.errors import InvalidSettingError, WorkerError
from engine.worker.protocol import (
    MAX_MESSAGE_BYTES,
    Ask,
    Cancel,
    Error,
    Event,
    Generate,
    Inspect,
    Request,
    Shutdown,
    decode_request,
    encode,
)

GRACE_SECONDS = 2.0
"""How long what runs may go on after the client has gone, before the process ends in the middle of it."""

READ_BYTES = MOST_HELD = 1 << 16
MAX_PACE = 1e6
MAX_ALTERNATIVES = 1000

# An id is read from a broken line only where it stands before anything that a user could have written.
_LEADING_ID = re.compile(rb'\s*\{\s*(?:"type"\s*:\s*"[a-z_]*"\s*,\s*)?"id"\s*:\s*(\d{1,18})\b')


class Arrival(NamedTuple):
    """A request, or the error that its line is answered with.

    Attributes:
        time: When it was read, on the monotonic clock.
    """

    message: Request | Error
    time: float


class MessageTooLongError(WorkerError):
    """An event does not fit in one message."""


class Connection:
    """Reads requests in a thread of its own, so that none waits for the model; writes from the caller's thread.

    When the client has gone, `Shutdown` arrives as if it had been sent, and `GRACE_SECONDS` later the process ends
    wherever it is, so that no orphan stays behind.

    Args:
        source: File descriptor to read requests from.
        sink: File descriptor to write events to; writing waits for a client that is slow to read.

    Attributes:
        aside: Takes the questions about this machine, which wait for nothing else; without it nobody does. It says
            whether it has taken what it was given: a `Cancel` may be a text's.
    """

    def __init__(self, source: int, sink: int) -> None:
        self.aside: Callable[[Ask | Cancel], bool] | None = None
        self._source = source
        self._sink = sink
        self._sending = threading.Lock()
        self._held: bytearray | None = None
        self._holder = 0
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        if hasattr(os, "set_blocking"):  # where it is missing, a pipe blocks
            os.set_blocking(sink, True)

    def listen(self) -> None:
        """Start to read."""
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def receive(self, timeout: float | None) -> list[Arrival]:
        """All that has arrived, in order.

        Args:
            timeout: Seconds to wait for a first one; None to wait for as long as it takes.
        """
        arrivals: list[Arrival] = []
        try:
            if timeout is None or timeout > 0:
                arrivals.append(self._arrivals.get(timeout=timeout))
            while True:
                arrivals.append(self._arrivals.get_nowait())
        except queue.Empty:
            return arrivals

    def send(self, event: Event) -> None:
        """Write one event.

        Raises:
            MessageTooLongError: It is longer than a message may be; nothing was written.
            SystemExit: Nobody is there to read it.
        """
        line = encode(event)
        if len(line) > MAX_MESSAGE_BYTES:
            raise MessageTooLongError(
                f"the answer has {len(line):,} bytes, and a message holds {MAX_MESSAGE_BYTES:,}", "ask with less text"
            )
        if self._held is not None and threading.get_ident() == self._holder:
            self._held += line
            if len(self._held) >= MOST_HELD:
                self.release()
        else:
            self._write(line)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep what this thread sends meanwhile, and write all of it at once: 64 texts are 64 writes otherwise, and as
        many times that the client is woken.
        """
        self._held, self._holder = bytearray(), threading.get_ident()
        try:
            yield
        finally:
            self.release()
            self._held = None

    def release(self) -> None:
        """Write what is held."""
        if self._held:
            held, self._held = self._held, bytearray()
            self._write(held)

    def _write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        try:
            with self._sending:  # answers come from threads of their own
                while view:
                    view = view[os.write(self._sink, view) :]
        except OSError:
            raise SystemExit(0) from None

    def _read(self) -> None:
        lines = LineBuffer(MAX_MESSAGE_BYTES)
        while True:
            try:
                data = os.read(self._source, READ_BYTES)
            except OSError:  # a socket whose other end closed with our events unread is reset
                data = b""
            for line in lines.push(data):
                message = read_request(line)
                if isinstance(message, Ask | Cancel) and self.aside is not None and self.aside(message):
                    continue
                self._arrivals.put(Arrival(message, time.monotonic()))
                if isinstance(message, Shutdown):
                    self._end()
            if not data:
                self._arrivals.put(Arrival(Shutdown(), time.monotonic()))
                self._end()

    def _end(self) -> None:
        time.sleep(GRACE_SECONDS)
        sys.stderr.flush()
        os._exit(0)


class TooLong(NamedTuple):
    """A line over the limit; what is left of it is its beginning."""

    head: bytes


class LineBuffer:
    """Cuts a stream of bytes into lines, and never holds more of one than the limit.

    Args:
        limit: The longest line in bytes, newline included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._too_long: TooLong | None = None

    def push(self, data: bytes) -> list[bytes | TooLong]:
        """Add bytes and return the lines that they end, without their newlines; empty lines are left out."""
        lines: list[bytes | TooLong] = []
        *ended, rest = data.split(b"\n")
        for part in ended:
            if not self._pending and not self._too_long and len(part) < self._limit:  # most lines come whole
                if part and not part.isspace():
                    lines.append(part)
                continue
            self._append(part)
            if self._too_long:
                lines.append(self._too_long)
            elif self._pending.strip():
                lines.append(bytes(self._pending))
            self._pending.clear()
            self._too_long = None
        self._append(rest)
        return lines

    def _append(self, part: bytes) -> None:
        if self._too_long:
            return
        self._pending += part
        if len(self._pending) >= self._limit:
            self._too_long = TooLong(bytes(self._pending[:256]))
            self._pending.clear()


def check_request(request: Request) -> None:
    """Raise InvalidSettingError unless the request's numbers are in their ranges (its params are by their making)."""
    pace = getattr(request, "pace", None) or 0.0
    if not 0 <= pace <= MAX_PACE:
        raise InvalidSettingError(
            f"pace is {pace:g}", f"it must be from 0 (no limit) to {MAX_PACE:g} tokens per second"
        )
    for name in ("alternatives", "top"):
        count = getattr(request, name, 0)
        if not 0 <= count <= MAX_ALTERNATIVES:
            raise InvalidSettingError(f"{name} is {count}", f"it must be from 0 to {MAX_ALTERNATIVES}")
    if isinstance(request, Generate):
        places = [change.position for change in request.changes]
        if places != sorted(places):
            raise InvalidSettingError("the changes of settings are out of order", "give them by position")
    if isinstance(request, Inspect) and not 1 <= request.position <= len(request.tokens):
        length = len(request.tokens)
        hint = f"it must be from 1 to {length}, the length of the text" if length else "the text has no tokens yet"
        raise InvalidSettingError(f"position is {request.position}", hint)


def read_request(line: bytes | TooLong) -> Request | Error:
    """The request on a line, or the error to answer it with; that carries the request's id where it can be read."""
    if isinstance(line, TooLong):
        return Error(
            id=leading_id(line.head),
            kind=WorkerError.__name__,
            message=f"a request is longer than {MAX_MESSAGE_BYTES // 2**20} MiB",
            hint="send a shorter text",
        )
    try:
        request = decode_request(line)
        check_request(request)
    except InvalidSettingError as error:
        return _refusal(line, error)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if not isinstance(cause, InvalidSettingError):
            cause = InvalidSettingError("a request is not as it must be", str(error))
        return _refusal(line, cause)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return Error(id=leading_id(line), kind=WorkerError.__name__, message="a request is not JSON", hint=str(error))
    return request


def _refusal(line: bytes, error: InvalidSettingError) -> Error:
    return Error(id=id_of(line), kind=InvalidSettingError.__name__, message=error.message, hint=error.hint)


class _Identified(msgspec.Struct):
    id: int | None = None


def id_of(line: bytes) -> int | None:
    """The id of a message that is JSON and otherwise not understood."""
    try:
        return msgspec.json.decode(line, type=_Identified).id
    except msgspec.DecodeError:
        return None


def leading_id(line: bytes) -> int | None:
    """The id of a line that is no JSON, or only the beginning of some."""
    found = _LEADING_ID.match(line)
    return int(found[1]) if found else None
