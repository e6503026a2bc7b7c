"""How a process is started that nothing of this terminal reaches, and how it is ended with all that it has started; by
what this system has for that. Knows nothing of what processes do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Any


def apart() -> dict[str, Any]:
    """What to add to a process's start, so that neither the terminal's ctrl+c nor the end of the terminal reaches it.

    Windows has no sessions; a process has a console there, and this one's is its own and invisible.
    """
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    return {"creationflags": flags} if flags else {"start_new_session": True}


def ask_to_end(pid: int) -> None:
    """Ask a process that was started `apart`, and what it has started, to end; Windows knows no asking, and ends them.

    Args:
        pid: Of a process that nobody has waited for yet, so that no other has its number.
    """
    _signal(pid, force=False)


def kill(pid: int) -> None:
    """End a process that was started `apart`, and what it has started, whatever they do.

    Args:
        pid: As above.
    """
    _signal(pid, force=True)


def _signal(pid: int, *, force: bool) -> None:
    send = getattr(os, "killpg", None)
    if send is None:
        _signal_each(pid, force=force)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(pid, signal.Signals["SIGKILL"] if force else signal.SIGTERM)


def _signal_each(pid: int, *, force: bool) -> None:
    """The same, one by one: the parents first, so that none is started in the meantime by one that lives on."""
    import psutil

    try:
        leader = psutil.Process(pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.Error:  # gone, or another user's
        return
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill() if force else process.terminate()
