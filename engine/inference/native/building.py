"""The library of `pass.c`: built once for this processor and compiler, tried in a process of its own, and kept in the
cache folder. It is built without torch, so that it can be while torch is imported.

`MINIGPT_NATIVE` in the environment is `off` for never, or a folder to keep it in.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from ctypes import c_int, c_long, c_void_p
from pathlib import Path
from typing import NamedTuple

from engine import folders, safe_writing

VARIABLE, OFF = "MINIGPT_NATIVE", "off"

SOURCES = ("pass.c", "attention.h", "products.h", "threads.h", "vectors.h")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread", "-Wno-psabi")
FOR_THIS_PROCESSOR = (("-march=native",), ("-mcpu=native",), ())
"""What compilers call it, the best first; with nothing, it is built for any of its kind."""

BUILD_SECONDS, TRY_SECONDS = 120.0, 20.0
"""How long building and trying may take."""

_TRY = "import ctypes, sys; sys.exit(0 if ctypes.CDLL(sys.argv[1]).works() == 1 else 'its answers are wrong')"


class Native(NamedTuple):
    """What was found.

    Attributes:
        library: None where torch has to do.
        name: Of the file that it is; it tells source, compiler and processor.
        says: How it was built, or why it was not.
    """

    library: ctypes.CDLL | None
    name: str
    says: str


_finding = threading.Lock()


def find() -> Native:
    """The library, built where it is not there yet; the same answer for as long as this process lives."""
    with _finding:
        return _found()


def begin_to_find() -> None:
    """Look for it beside what is done next."""
    threading.Thread(target=find, name="native", daemon=True).start()


@functools.cache
def _found() -> Native:
    place = os.environ.get(VARIABLE, "")
    if place.lower() in (OFF, "0"):
        return Native(None, "", f"{VARIABLE} is {place}")
    if os.name != "posix":
        return Native(None, "", "it is built on Linux and macOS alone")
    compiler = find_compiler()
    if not compiler:
        return Native(None, "", "there is no C compiler; install gcc or clang")
    folder = Path(place).absolute() if place else folders.cache_home() / "native"
    file = folder / f"pass-{_key(compiler)}.so"
    if not file.is_file() and (problem := _build_once(compiler, file)):
        return Native(None, "", problem)
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        return Native(None, "", f"{file} cannot be loaded ({error}); remove it")
    library.scratch_bytes.argtypes, library.scratch_bytes.restype = [c_void_p, c_long, c_long, c_long], c_long
    library.read_rows.argtypes, library.read_rows.restype = [c_void_p, c_void_p], None
    library.lanes.restype = library.built_for.restype = c_int
    return Native(library, file.stem, f"built by {shlex.join(compiler)} for this processor")


def _build_once(compiler: list[str], file: Path) -> str:
    """Build the library, or wait for another process that does; what went wrong is kept, and not tried again."""
    failed = file.with_suffix(".failed")
    try:
        with safe_writing.locked(folders.private(file.parent)):
            if file.is_file():
                return ""
            if failed.is_file():
                return f"{failed.read_text('utf-8')}; remove {failed} to try again"
            if problem := build(compiler, file):
                safe_writing.write_file(failed, problem.encode())
            return problem
    except OSError as error:
        return f"{file.parent} cannot be written ({error})"


def find_compiler() -> list[str]:
    """The C compiler's command: `CC` in the environment, or the first that is there; empty without one."""
    if wanted := shlex.split(os.environ.get("CC", "")):
        found = shutil.which(wanted[0])
        return [found, *wanted[1:]] if found else []
    if sys.platform == "darwin" and not _has_developer_tools():
        return []  # its cc would open a window that offers to install them
    return next(([found] for name in COMPILERS if (found := shutil.which(name))), [])


def build(compiler: list[str], file: Path) -> str:
    """Build the library and try it; returns what went wrong, or nothing."""
    source = str(Path(__file__).with_name("pass.c"))
    try:
        with safe_writing.new_file(file) as temporary:
            for processor in FOR_THIS_PROCESSOR:
                command = [*compiler, *FLAGS, *processor, "-o", str(temporary), source, "-lm"]
                built = _run(command, BUILD_SECONDS)
                if not built:
                    break
            problem = built or _run([sys.executable, "-I", "-S", "-c", _TRY, str(temporary)], TRY_SECONDS)
            if problem:
                raise _UnusableError(problem)
    except (_UnusableError, OSError) as error:
        return f"{compiler[0]} could not build it ({error})"
    return ""


class _UnusableError(Exception):
    """What was built is of no use."""


def _run(command: list[str], seconds: float) -> str:
    """Run a program without input; returns what went wrong in one line, or nothing."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error).partition("\n")[0]
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
    return said[0][:300] if said else f"{Path(command[0]).name} ended with status {done.returncode}"


def _has_developer_tools() -> bool:
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(["xcode-select", "-p"], capture_output=True, timeout=10, check=False).returncode == 0
    return False


def _key(compiler: list[str]) -> str:
    """What the library depends on, hashed: its source, the compiler and the processor."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    program = Path(compiler[0]).resolve()
    status = program.stat()
    digest.update(repr((compiler, str(program), status.st_size, status.st_mtime_ns, FLAGS, _processor())).encode())
    return digest.hexdigest()[:16]


def _processor() -> list[str]:
    """What the system says of the first processor that decides which instructions it has."""
    said = [platform.machine(), platform.processor()]
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        said += [line for line in first if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return said
