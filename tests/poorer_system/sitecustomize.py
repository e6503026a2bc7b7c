"""Python imports this at its start, before anything of ours: a system without most of what only POSIX has, and with the
locks of Windows. It goes on to every Python that is started from here, through PYTHONPATH.

What is taken away is taken from `os` and `signal` as our modules see them. The modules of the standard library that do
POSIX's work on this system, and psutil, keep whole ones: asyncio's loop and `subprocess` could not start a process
without them, nor psutil end one. `termios` and `tty` stay, as Textual's driver for this system imports them.
"""

from __future__ import annotations

import asyncio.base_subprocess
import asyncio.unix_events
import os
import signal
import subprocess  # before there is a `msvcrt`: by that it tells which system it is on
import sys
import types

import psutil
import psutil._psposix
import windows_locks

MODULES = ("fcntl", "grp", "pty", "readline", "resource")
OF_OS = (
    "fchmod", "fork", "forkpty", "getpgid", "getpgrp", "getsid", "killpg", "mkfifo", "nice", "openpty", "posix_spawn",
    "pread", "preadv", "pwrite", "sched_getaffinity", "sched_setaffinity", "set_blocking", "setpgid", "setsid",
)  # fmt: skip
OF_SIGNAL = ("SIGCHLD", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_sigmask")


def whole(module: types.ModuleType) -> types.ModuleType:
    """A copy of a module as it is."""
    copy = types.ModuleType(module.__name__, module.__doc__)
    copy.__dict__.update(module.__dict__)
    return copy


whole_os, whole_signal = whole(os), whole(signal)
for user in (asyncio.unix_events, asyncio.base_subprocess, subprocess, psutil, psutil._psposix, psutil._pslinux):
    for name, kept in (("os", whole_os), ("signal", whole_signal)):
        if hasattr(user, name):
            setattr(user, name, kept)
for name in MODULES:
    sys.modules[name] = None  # an ImportError for whoever asks
for module, names in ((os, OF_OS), (signal, OF_SIGNAL)):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.modules["msvcrt"] = windows_locks
