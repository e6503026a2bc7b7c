"""The environment of the Python processes that this one starts, their priority, and how one is asked a question. Knows
nothing of what they do.
"""

from __future__ import annotations

import contextlib
import os
import site
import sys
import threading
from pathlib import Path

LIFELINE = "MINIGPT_LIFELINE"
"""1 in the environment of a process whose stdin stays open as long as somebody waits for its answer."""


def environment() -> dict[str, str]:
    """This process's environment, changed so that a Python started with it finds the same `engine` as this one.

    A checkout's folder goes to the end of PYTHONPATH. Empty entries leave it, since they stand for the current folder,
    where a file could pass for a module; and an installed package's folder is not added, since it would come before
    the standard library.
    """
    import sysconfig  # only here: the app's first screen does not wait for it

    environment = dict(os.environ)
    home = Path(__file__).resolve().parent.parent
    installed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()]
    entries = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if home not in [Path(folder).resolve() for folder in installed] and str(home) not in entries:
        entries.append(str(home))
    environment.pop("PYTHONPATH", None)
    if entries:
        environment["PYTHONPATH"] = os.pathsep.join(entries)
    return environment


def read_request() -> bytes:
    """The request on stdin: all of it; or a line, where stdin stays open as long as somebody waits for the answer.

    Then this process ends when stdin does.
    """
    if os.environ.pop(LIFELINE, "") != "1":
        return sys.stdin.buffer.read()
    request = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_stdin, name="lifeline", daemon=True).start()
    return request


def _end_with_stdin() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock would be held at the interpreter's end
        pass
    os._exit(1)


def lower_priority(niceness: int) -> None:
    """Let the other programs of this machine go first, as far as the system has a way to say so.

    Linux may share the processor out among sessions first (sched_autogroup). Then a process's own niceness counts
    within its session alone, and one that leads a session of its own has to lower that of the session too.

    Args:
        niceness: Added to the process's own, from 0 to 19; also the session's.
    """
    if not hasattr(os, "nice"):
        _leave_normal_priority()
        return
    os.nice(niceness)
    getsid = getattr(os, "getsid", None)
    if getsid is not None and getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no such sharing here
            Path("/proc/self/autogroup").write_text(str(niceness))


def _leave_normal_priority() -> None:
    """The same on Windows, which has a few classes instead of numbers."""
    import psutil

    if (below := getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", None)) is not None:
        with contextlib.suppress(psutil.Error):
            psutil.Process().nice(below)
