"""The signals that ask the app to end, by what this system has: the terminal closes, its window is closed, the system
shuts down. Knows nothing of the app.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")
"""SIGBREAK is what Windows makes of a console's window that is closed."""


def heed(leave: Callable[[], object]) -> Callable[[], None]:
    """Have something done in this loop at each of these signals, instead of the sudden end.

    Args:
        leave: Begins to end the app in good order.

    Returns:
        What gives the signals back to whoever had them. In a thread that can take no signals nothing was done.
    """
    loop = asyncio.get_running_loop()
    taken = contextlib.ExitStack()
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is None:
            continue
        with contextlib.suppress(RuntimeError, ValueError):  # not the main thread
            try:
                loop.add_signal_handler(number, leave)
                taken.callback(loop.remove_signal_handler, number)
            except NotImplementedError:  # the loop of Windows takes none
                before = signal.signal(number, lambda *_: loop.call_soon_threadsafe(leave))
                taken.callback(signal.signal, number, signal.SIG_DFL if before is None else before)
    return taken.close
