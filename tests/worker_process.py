"""The engine's real process for tests, spoken to line by line."""

from __future__ import annotations

import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from engine.worker.protocol import Done, Error, Message, Tokens, Written, decode_event, encode

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
new_id = itertools.count(100).__next__


class Worker:
    """A worker process, with its events put aside by the id that they answer."""

    def __init__(self, *command: str, folder: Path, **environment: str) -> None:
        path = os.pathsep.join(filter(None, [environment.pop("first_on_path", ""), str(ROOT)]))
        self.log = folder / f"worker-{next(itertools.count(time.monotonic_ns()))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command or (sys.executable, "-P", "-m", "engine.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
                cwd=folder,
            )
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.aside: list = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def send(self, message: Message | bytes) -> None:
        self.process.stdin.write(message if isinstance(message, bytes) else encode(message))
        self.process.stdin.flush()

    def next(self, id: int | None = None):
        """The next event; with an id, the next one that carries it."""
        for place, event in enumerate(self.aside):
            if id is None or getattr(event, "id", None) == id:
                return self.aside.pop(place)
        while True:
            line = self.lines.get(timeout=PATIENCE)
            assert line, f"the worker ended: {self.log.read_text()}"
            event = decode_event(line)
            if id is None or getattr(event, "id", None) == id:
                return event
            self.aside.append(event)

    def until_done(self, id: int) -> list:
        events = [self.next(id)]
        while not isinstance(events[-1], Done | Error):
            events.append(self.next(id))
        return events

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()


def text_of(events: list) -> str:
    written = "".join(token.text for token in tokens_of(events))
    return written + "".join(event.text for event in events if isinstance(event, Written | Done))


def tokens_of(events: list) -> list:
    return [token for event in events if isinstance(event, Tokens) for token in event.tokens]
