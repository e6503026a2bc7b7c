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
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from ctypes import c_int, c_int32, c_int64, c_long, c_void_p
from pathlib import Path
from typing import NamedTuple

from engine import folders, process_families, safe_writing

VARIABLE, OFF = "MINIGPT_NATIVE", "off"

SOURCE = Path(__file__).with_name("pass.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-fno-strict-aliasing", "-shared", "-fPIC", "-pthread", "-Wno-psabi")
FOR_THIS_PROCESSOR = (("-march=native",), ("-mcpu=native",), ())
"""What compilers call it, the best first; with nothing, it is built for any of its kind."""

NUMBERS = {1: "bf16", 2: "int8"}
"""What the processor may have instructions for, by how `built_for` counts them."""

BUILD_SECONDS, TRY_SECONDS, ASK_SECONDS = 120.0, 20.0, 10.0
"""How long building, trying and a question to the system may take."""

STAND_INS = Path("/usr/bin")
"""Where macOS has compilers that open a window which offers to install them."""

_TRY = "import ctypes, sys; sys.exit(0 if ctypes.CDLL(sys.argv[1]).works() == 1 else 'its answers are wrong')"


class Native(NamedTuple):
    """What was found.

    Attributes:
        library: None where torch has to do.
        name: Of the file that it is; it tells source, compiler and processor.
        says: How it was built, or why it was not.
        mend: What would get one; empty where nothing does, or where none is wanted.
    """

    library: ctypes.CDLL | None
    name: str
    says: str
    mend: str = ""


class UnusableError(Exception):
    """There is no library.

    Attributes:
        mend: What to do about it.
    """

    def __init__(self, says: str, mend: str) -> None:
        super().__init__(says)
        self.mend = mend


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
    folder = folders.expanded(Path(place)).absolute() if place else folders.cache_home() / "native"
    try:
        compiler = find_compiler()
        file = folder / f"pass-{_key(compiler)}.so"
        library = _load_or_build(compiler, file)
    except UnusableError as error:
        return Native(None, "", str(error), error.mend)
    return Native(library, file.stem, f"built by {shlex.join(compiler)} for this processor")


def find_compiler() -> list[str]:
    """The C compiler's command: `CC` in the environment, or the first that is there.

    Raises:
        UnusableError: There is none.
    """
    try:
        wanted = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise UnusableError(f"CC is no command ({error})", "let it name a C compiler, or unset it") from None
    names = wanted[:1] or COMPILERS
    found = next((found for name in names if (found := shutil.which(name))), None)
    if found is None and wanted:
        raise UnusableError(f"CC is {wanted[0]}, which is not there", "let it name a C compiler, or unset it")
    is_mac = sys.platform == "darwin"
    if found is None or (is_mac and Path(found).parent == STAND_INS and not _has_developer_tools()):
        raise UnusableError("there is no C compiler", "xcode-select --install" if is_mac else "install gcc or clang")
    return [found, *wanted[1:]]


def version(compiler: list[str]) -> str:
    """What a compiler calls itself, in a line; its command where it does not say.

    Args:
        compiler: Its command.
    """
    with suppress(_FailedError):
        if said := _run([*compiler, "--version"], ASK_SECONDS).strip():
            return said.splitlines()[0]
    return shlex.join(compiler)


def load(file: Path) -> ctypes.CDLL:
    """A library of `pass.c`.

    Raises:
        OSError: It cannot be loaded.
    """
    library = ctypes.CDLL(str(file))
    library.scratch_bytes.argtypes, library.scratch_bytes.restype = [c_void_p, c_long, c_long, c_long], c_long
    library.read_rows.argtypes, library.read_rows.restype = [c_void_p, c_void_p], None
    library.draw_rows.argtypes, library.draw_rows.restype = [c_void_p], None
    library.fill_table.argtypes = [c_void_p, c_void_p, c_int64, c_int32, c_int64]
    library.guess_all.argtypes = [c_void_p, c_int32]
    library.fill_table.restype = library.guess_all.restype = None
    library.lanes.restype = library.built_for.restype = c_int
    return library


def _load_or_build(compiler: list[str], file: Path) -> ctypes.CDLL:
    """Load the library, which is built where it is not there, and once more where what is there cannot be loaded."""
    if _is_whole(file):
        with suppress(OSError):
            return load(file)
        with suppress(OSError):
            file.unlink()
    _build_once(compiler, file)
    try:
        return load(file)
    except OSError as error:
        raise UnusableError(f"{file} cannot be loaded ({error})", "remove it") from None


def _is_whole(file: Path) -> bool:
    """Whether a library is what was built here: a damaged one takes the process down that loads it, and one that
    somebody else put there could do anything.
    """
    try:
        told, owner = _sum_of(file).read_bytes(), file.stat().st_uid
        return owner in (0, getattr(os, "geteuid", int)()) and told == _digest(file)
    except OSError:
        return False


def _sum_of(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).hexdigest().encode()


def _build_once(compiler: list[str], file: Path) -> None:
    """Build the library, or wait for another process that does; what went wrong is kept, and not tried again."""
    failed = file.with_suffix(".failed")
    again = f"mend that, then remove {failed}"
    try:
        with safe_writing.locked(folders.private(file.parent)):
            if _is_whole(file):
                return
            if failed.is_file():
                raise UnusableError(failed.read_text("utf-8", errors="replace"), again)
            try:
                _build(compiler, file)
            except _FailedError as error:
                says = f"{shlex.join(compiler)} built nothing of use: {error}"
                safe_writing.write_file(failed, says.encode("utf-8", errors="replace"))
                raise UnusableError(says, again) from None
    except OSError as error:
        mend = f"make it yours, or let {VARIABLE} name another folder"
        raise UnusableError(f"{file.parent} cannot be written ({error})", mend) from None


def _build(compiler: list[str], file: Path) -> None:
    """Build the library and try it."""
    with safe_writing.new_file(file) as temporary:
        _compile(compiler, temporary)
        if not temporary.is_file():
            raise _FailedError("it wrote no file")
        try:
            _run([sys.executable, "-I", "-S", "-c", _TRY, str(temporary)], TRY_SECONDS)
        except _FailedError as error:
            raise _FailedError(f"in a trial, {error}") from None
        temporary.chmod(0o600)
        digest = _digest(temporary)
    safe_writing.write_file(_sum_of(file), digest)


def _compile(compiler: list[str], to: Path) -> None:
    for number, processor in enumerate(FOR_THIS_PROCESSOR, 1):
        command = [*compiler, *FLAGS, *processor, "-o", str(to), str(SOURCE), "-lm"]
        try:
            _run(command, BUILD_SECONDS, TMPDIR=str(to.parent))
            return
        except _FailedError as error:
            if error.is_last or number == len(FOR_THIS_PROCESSOR):
                raise


class _FailedError(Exception):
    """A program did not do what it should.

    Attributes:
        is_last: Whether it is of no use to ask it for something else.
    """

    def __init__(self, line: str, *, is_last: bool = False) -> None:
        super().__init__(line)
        self.is_last = is_last


def _run(command: list[str], seconds: float, **variables: str) -> str:
    """Run a program without input and in no language; returns what it prints.

    Raises:
        _FailedError: It failed, with one line of what it says, or took too long, and was ended with all it started.
    """
    name = Path(command[0]).name
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            errors="replace",
            env={**os.environ, "LC_ALL": "C", **variables},
            **process_families.apart(),  # ctrl+c is no failure of the compiler's
        )
    except OSError as error:
        raise _FailedError(str(error), is_last=True) from None
    with process:
        output: str
        errors: str
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise _FailedError(f"{name} was not done after {seconds:g} s", is_last=True) from None
        finally:
            if process.returncode is None:
                process_families.kill(process.pid)
    if process.returncode < 0:
        number = -process.returncode
        raise _FailedError(f"{name} was ended by signal {number} ({signal.strsignal(number)})")
    if process.returncode:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        said = [line for line in lines if "error" in line.lower()] or lines
        raise _FailedError(said[0][:300] if said else f"{name} ended with status {process.returncode}")
    return output


def _has_developer_tools() -> bool:
    try:
        _run(["xcode-select", "-p"], ASK_SECONDS)
    except _FailedError:
        return False
    return True


def _key(compiler: list[str]) -> str:
    """What the library depends on, hashed: its source, the compiler and the processor."""
    digest = hashlib.sha256()
    for file in sorted(SOURCE.parent.glob("*.[ch]")):
        digest.update(file.read_bytes())
    program = Path(compiler[0]).resolve()
    status = program.stat()
    digest.update(repr((compiler, str(program), status.st_size, status.st_mtime_ns, FLAGS, _processor())).encode())
    return digest.hexdigest()[:16]


def _processor() -> list[str]:
    """What the system says of the first processor that decides which instructions it has."""
    said = [platform.machine()]
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        said += [line for line in first if line.startswith(("model name", "flags", "Features", "CPU part"))]
    if sys.platform == "darwin":
        with suppress(_FailedError):
            said.append(_run(["sysctl", "-n", "machdep.cpu.brand_string"], ASK_SECONDS))
    return said
