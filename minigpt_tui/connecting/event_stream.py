"""Server-sent events out of bytes that come in any pieces: lines end with LF, CRLF or CR, comments keep the line alive,
and no event is longer than a limit. Knows nothing of HTTP, nor of what events say.
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 8 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLongError(Exception):
    """An event is longer than any that makes sense."""


class EventStream:
    """Cuts a stream of bytes into the data of its events.

    Args:
        limit: The longest event in bytes.
    """

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def push(self, data: bytes) -> list[bytes]:
        """Add bytes and return the data of the events that they end.

        Raises:
            EventTooLongError: One is over the limit.
        """
        self._pending += data
        events: list[bytes] = []
        place = 0
        for found in _LINE_END.finditer(self._pending):
            if found[0] == b"\r" and found.end() == len(self._pending):
                break  # its LF may be still to come
            event = self._take(bytes(self._pending[place : found.start()]))
            place = found.end()
            if event is not None:
                events.append(event)
        del self._pending[:place]
        if len(self._pending) + self._size > self._limit:
            raise EventTooLongError
        return events

    def close(self) -> list[bytes]:
        """The stream has ended: an event whose last line has no end is one all the same."""
        line, self._pending = bytes(self._pending).rstrip(b"\r"), bytearray()
        ended = [self._take(line) if line else None, self._take(b"")]
        return [event for event in ended if event is not None]

    def _take(self, line: bytes) -> bytes | None:
        """Take a line in; the data of the event that it ends, if it ends one."""
        if not self._begun:
            line, self._begun = line.removeprefix(b"\xef\xbb\xbf"), True
        if not line:
            data, self._data, self._size = self._data, [], 0
            return b"\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":  # comments have no name; other fields say nothing about texts
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)
            if self._size > self._limit:
                raise EventTooLongError
        return None
