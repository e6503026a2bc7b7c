"""Ends the app when its terminal has gone without a signal, as it may behind a broken link: nobody could ever press a
key again, and what reads keys would look for them without a rest.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

LOOK_SECONDS = 3.0
"""Between two looks whether the terminal is still there."""

LEAVE_SECONDS = 5.0
"""How long leaving in good order may take; writing to a terminal that is not there may wait for ever."""


def watch_terminal(leave: Callable[[], object], keep: Callable[[], object]) -> None:
    """Watch the terminal of stdin, if it is one, from a thread: the loop itself may be waiting for it.

    Args:
        leave: Asks the app to end; called from the thread.
        keep: Writes down what would else be lost, where it does not end; called from the thread.
    """
    if os.name == "posix" and os.isatty(0):
        threading.Thread(target=_watch, args=(leave, keep), name="terminal", daemon=True).start()


def _watch(leave: Callable[[], object], keep: Callable[[], object]) -> None:
    while os.isatty(0):
        time.sleep(LOOK_SECONDS)
    leave()
    time.sleep(LEAVE_SECONDS)
    keep()
    os._exit(1)
