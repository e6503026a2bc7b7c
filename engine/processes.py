"""The environment of the Python processes that this one starts, and their priority. Knows nothing of what they do."""

from __future__ import annotations

import contextlib
import os
import site
import sysconfig
from pathlib import Path


def environment() -> dict[str, str]:
    """This process's environment, changed so that a Python started with it finds the same `engine` as this one.

    A checkout's folder goes to the end of PYTHONPATH. Empty entries leave it, since they stand for the current folder,
    where a file could pass for a module; and an installed package's folder is not added, since it would come before
    the standard library.
    """
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


def lower_priority(niceness: int) -> None:
    """Let the other programs of this machine go first, as far as the system has a way to say so.

    Linux may share the processor out among sessions first (sched_autogroup). Then a process's own niceness counts
    within its session alone, and one that leads a session of its own has to lower that of the session too.

    Args:
        niceness: Added to the process's own, from 0 to 19; also the session's.
    """
    if not hasattr(os, "nice"):
        return
    os.nice(niceness)
    if hasattr(os, "getsid") and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no such sharing here
            Path("/proc/self/autogroup").write_text(str(niceness))
