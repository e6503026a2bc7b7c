"""Keeps a run's status true: what has changed is told here, and the file is renewed every second whatever the process
is busy with, so that its heartbeat never stops while it lives. Knows nothing of torch.
"""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Any, Self

import msgspec

from engine.training.run import RunDirectory, Status

HEARTBEAT_SECONDS = 1.0


class StatusWriter:
    """The status of one run, written by one process; entered while the run is driven.

    Attributes:
        status: What is known now; what is on disk is at most a second older.
    """

    def __init__(self, run: RunDirectory, status: Status) -> None:
        self.status = status
        self._run = run
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self.write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # a full disk: the run has ended all the same
            self.write()

    def tell(self, **changes: Any) -> None:
        """Change fields of the status; readers see it within a second."""
        self.status = msgspec.structs.replace(self.status, **changes)

    def write(self, **changes: Any) -> None:
        """Change fields of the status, and write it at once.

        Raises:
            OSError: It cannot be written.
        """
        self.tell(**changes)
        with self._lock:
            self._run.write_status(self.status)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # what cannot be told now is told later; the run goes on
                self.write()
