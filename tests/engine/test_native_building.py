"""The library that passes go through is built once, and where it cannot be, one line says why and torch goes on. The
compilers here are stand-ins: what they hand out was built for all tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine import safe_writing
from engine.inference.native import building

pytestmark = pytest.mark.posix

HANGS = "sleep 1000 & echo $! > '{folder}/sleeper'; wait"
RAISES_SIGILL = "#include <signal.h>\nint works(void) { raise(SIGILL); return 1; }\n"
IS_WRONG = "int works(void) { return 0; }\n"

FINDS = """
import sys
from engine.inference.native import building
print("ready", flush=True)
building.begin_to_find()
found = building.find()
print(found.says, found.library is not None, "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def built():
    """The library's file, built by the compiler that is here."""
    library = building.find().library
    if library is None:
        pytest.skip("there is no C compiler here")
    return library._name


class Compiler:
    """A command that is called like a C compiler, and what was built of what it gave."""

    def __init__(self, folder: Path, built: str, does: str) -> None:
        self.folder, self.kept, self.path = folder, folder / "kept", folder / "bin" / "cc"
        self.path.parent.mkdir()
        self.does(f"[ -e '{folder}/mended' ] && exec cp '{built}' \"$to\"\n{does.format(folder=folder, built=built)}")

    def does(self, script: str) -> None:
        """What it does, after it has noted the call, with the path of its file in `to`."""
        begins = f"echo \"$@\" >> '{self.folder}/calls'; case \"$*\" in *--version) exec echo 'cc 1.0';; esac"
        finds = 'while [ "$1" != -o ]; do shift; done; to=$2; echo part > "$TMPDIR/part.o"'
        self.path.write_text(f"#!/bin/sh\n{begins}\n{finds}\n{script}\n")
        self.path.chmod(0o755)

    def mend(self) -> None:
        """From now on it hands out what works."""
        (self.folder / "mended").touch()

    @property
    def calls(self) -> list[str]:
        """The arguments of each call."""
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    @property
    def files(self) -> list[str]:
        """What is in the folder where libraries are kept, by the ends of their names."""
        return sorted(path.suffix for path in self.kept.iterdir()) if self.kept.exists() else []


@pytest.fixture
def compiler_that(tmp_path, monkeypatch, built):
    """Make the only compiler one that does what a script says."""

    def make(does: str) -> Compiler:
        made = Compiler(tmp_path, built, does)
        monkeypatch.setenv("PATH", f"{made.path.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv(building.VARIABLE, str(made.kept))
        monkeypatch.delenv("CC", raising=False)
        return made

    return make


@pytest.fixture
def compiler(compiler_that):
    """One that works."""
    return compiler_that("exec cp '{built}' \"$to\"")


def find():
    """Look anew, as another process would."""
    return building._found.__wrapped__()


def test_what_was_built_works_and_says_by_what(built):
    found = building.find()
    assert found.library.works() == 1
    assert found.library.lanes() in (4, 8, 16)
    assert found.says.startswith("built by /")
    assert found is building.find()
    assert building.version(building.find_compiler()).strip()


@pytest.mark.parametrize(
    ("does", "says", "calls"),
    [
        ("echo 'In file: x' >&2; echo 'pass.c:1: error: no good' >&2; exit 1", "pass.c:1: error: no good", 3),
        ("exit 3", "cc ended with status 3", 3),
        ("kill -TERM $$", "cc was ended by signal 15 (", 3),
        (HANGS, "cc was not done after 1 s", 1),
        ("exit 0", "it wrote no file", 1),
        ('echo no library > "$to"', "in a trial, OSError: ", 1),
    ],
)
def test_a_compiler_that_fails_is_one_line_and_is_not_asked_again(does, says, calls, compiler_that, monkeypatch):
    compiler = compiler_that(does)
    monkeypatch.setattr(building, "BUILD_SECONDS", 1.0 if does == HANGS else 120.0)
    check_that_it_fails(compiler, says, calls)
    sleeper = compiler.folder / "sleeper"
    if sleeper.exists() and (pid := sleeper.read_text().strip()):  # what it had started is gone as well
        assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("source", "says"), [(RAISES_SIGILL, "was ended by signal 4"), (IS_WRONG, "in a trial, its answers are wrong")]
)
def test_what_crashes_or_errs_in_a_trial_is_never_loaded(source, says, compiler_that, tmp_path):
    real = building.find_compiler()[0]
    (tmp_path / "other.c").write_text(source)
    check_that_it_fails(compiler_that(f"exec {real} -shared -fPIC -o \"$to\" '{{folder}}/other.c'"), says, 1)


def check_that_it_fails(compiler, says, calls):
    """It does, in one line; that is remembered until the user takes it away; and nothing else is left."""
    found = find()
    assert found.library is None
    assert says in found.says
    assert "\n" not in found.says
    (failed,) = compiler.kept.iterdir()
    assert failed.suffix == ".failed"
    assert str(failed) in found.mend
    assert len(compiler.calls) == calls
    compiler.mend()
    assert find() == found
    assert len(compiler.calls) == calls
    failed.unlink()
    assert find().library is not None
    assert len(compiler.calls) == calls + 1
    assert compiler.files == [".sha256", ".so"]


def test_without_a_compiler_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv(building.VARIABLE, str(tmp_path / "kept"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert find() == (None, "", "there is no C compiler", "install gcc or clang")
    monkeypatch.setenv("CC", "icx -m64")
    assert find()[2:] == ("CC is icx, which is not there", "let it name a C compiler, or unset it")
    monkeypatch.setenv("CC", "gcc '-m64")
    assert find().says == "CC is no command (No closing quotation)"
    assert not (tmp_path / "kept").exists()


def test_cc_may_have_arguments(compiler, monkeypatch):
    compiler.path.rename(compiler.path.with_name("my-cc"))
    monkeypatch.setenv("CC", "my-cc -m64 '-DTWO=1 2'")
    found = find()
    assert found.library is not None
    assert found.says == f"built by {compiler.path.parent}/my-cc -m64 '-DTWO=1 2' for this processor"
    (call,) = compiler.calls
    assert call.startswith(f"-m64 -DTWO=1 2 {' '.join(building.FLAGS)} -march=native -o ")
    assert building.version(building.find_compiler()) == "cc 1.0"


def test_a_compiler_that_does_not_know_this_processor_is_asked_for_any_of_its_kind(compiler, built):
    compiler.does(f'case "$(tail -n 1 {compiler.folder}/calls)" in *=native*) exit 1;; esac; exec cp {built} "$to"')
    assert find().library is not None
    assert ["=native" in call for call in compiler.calls] == [True, True, False]


def test_it_is_built_once_for_each_source_compiler_and_processor(compiler, monkeypatch, tmp_path):
    names = [find().name]
    assert find().name == names[0]
    assert len(compiler.calls) == 1
    with monkeypatch.context() as patch:
        patch.setattr(building, "_processor", lambda: ["another"])
        names.append(find().name)
    with monkeypatch.context() as patch:
        patch.setenv("CC", "cc -m64")
        names.append(find().name)
    with monkeypatch.context() as patch:
        package = Path(shutil.copytree(building.SOURCE.parent, tmp_path / "package"))
        header = sorted(package.glob("*.h"))[-1]
        header.write_text(f"{header.read_text()}/* another */\n")
        patch.setattr(building, "SOURCE", package / building.SOURCE.name)
        names.append(find().name)
    compiler.path.write_text(compiler.path.read_text() + "# a newer one\n")
    names.append(find().name)
    assert len(set(names)) == len(compiler.calls) == 5
    assert sorted(path.stem for path in compiler.kept.glob("*.so")) == sorted(names)


@pytest.mark.parametrize("damage", ["cut off", "another byte", "another library's", "no sum", "somebody else's"])
def test_a_library_that_is_not_what_was_built_is_built_again(damage, compiler, monkeypatch):
    made = Path(find().library._name)
    monkeypatch.setenv(building.VARIABLE, str(compiler.folder / "again"))  # what was loaded once is not loaded anew
    compiler.kept = Path(shutil.copytree(compiler.kept, compiler.folder / "again"))
    file, data = compiler.kept / made.name, made.read_bytes()
    if damage == "cut off":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "another byte":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "another library's":  # as after a change of the system's own: whole, and not for this one
        file.write_bytes(b"\x7fELF of another system")
        building._sum_of(file).write_bytes(building._digest(file))
    elif damage == "no sum":
        building._sum_of(file).unlink()
    elif os.geteuid() == 0:
        os.chown(file, 1, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: made.stat().st_uid + 1)
    assert find().library is not None
    assert len(compiler.calls) == 2
    assert compiler.files == [".sha256", ".so"]


def test_what_it_writes_is_private_and_whole(compiler, monkeypatch):
    monkeypatch.setenv(building.VARIABLE, str(compiler.kept / "deep" / "er"))
    mask = os.umask(0)
    try:
        assert find().library is not None
    finally:
        os.umask(mask)
    for folder in (compiler.kept, compiler.kept / "deep" / "er"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (library,) = (compiler.kept / "deep" / "er").glob("*.so")
    assert stat.S_IMODE(library.stat().st_mode) == 0o600


def test_it_is_in_the_cache_folder_or_in_the_one_that_is_named(compiler, monkeypatch, tmp_path):
    monkeypatch.delenv(building.VARIABLE)
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    found = find()
    assert found.library._name == str(tmp_path / "home" / "cache" / "native" / f"{found.name}.so")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(building.VARIABLE, "~/here")
    assert find().library._name == str(tmp_path / "here" / f"{found.name}.so")


def test_a_folder_that_cannot_be_written_is_one_line(compiler, monkeypatch):
    compiler.kept.write_text("a file")
    found = find()
    assert found.library is None
    assert found.says.startswith(f"{compiler.kept} cannot be written (")
    assert building.VARIABLE in found.mend
    assert compiler.calls == []


def test_a_full_disk_is_not_taken_for_a_fault_of_the_compilers(compiler, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(safe_writing, "sync", full)
        found = find()
    assert "No space left on device" in found.says
    assert compiler.files == []
    assert find().library is not None


def test_what_is_there_is_used_where_nothing_can_be_written(compiler):
    find()
    compiler.kept.chmod(0o500)
    try:
        assert find().library is not None
    finally:
        compiler.kept.chmod(0o700)
    assert len(compiler.calls) == 1


@pytest.mark.parametrize("word", ["off", "OFF", "0"])
def test_it_can_be_switched_off(word, compiler, monkeypatch):
    monkeypatch.setenv(building.VARIABLE, word)
    assert find() == (None, "", f"MINIGPT_NATIVE is {word}", "")
    assert compiler.calls == []


def test_windows_does_without(compiler, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        found = find()
    assert found == (None, "", "it is built on Linux and macOS alone", "")
    assert compiler.calls == []


def test_a_mac_without_developer_tools_is_not_asked_to_install_them(compiler, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(building, "STAND_INS", compiler.path.parent)
    select, sysctl = compiler.path.with_name("xcode-select"), compiler.path.with_name("sysctl")
    for program, script in ((select, "exit 2"), (sysctl, "echo Apple M0")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    for command in ("", "cc -O2"):
        monkeypatch.setenv("CC", command)
        assert find() == (None, "", "there is no C compiler", "xcode-select --install")
    assert compiler.calls == []
    select.write_text("#!/bin/sh\necho /Library/Developer/CommandLineTools\n")
    names = [find().name]
    sysctl.write_text("#!/bin/sh\necho Apple M9\n")
    names.append(find().name)
    assert len(set(names)) == len(compiler.calls) == 2
    select.write_text("#!/bin/sh\nexit 2\n")
    monkeypatch.setattr(building, "STAND_INS", Path("/usr/bin"))  # a compiler from elsewhere needs none of it
    assert find().library is not None


def start_to_find():
    process = subprocess.Popen([sys.executable, "-c", FINDS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_at_once_build_it_once_and_without_torch(compiler, built):
    compiler.does(f"while [ ! -e '{compiler.folder}/go' ]; do sleep 0.02; done; exec cp '{built}' \"$to\"")
    processes = [start_to_find(), start_to_find()]
    (compiler.folder / "go").touch()
    for process in processes:
        said, errors = process.communicate(timeout=60)
        assert said == f"built by {compiler.path} for this processor True False\n", errors
    assert len(compiler.calls) == 1
    assert compiler.files == [".sha256", ".so"]


def test_ctrl_c_while_it_is_built_ends_the_compiler_and_is_not_held_against_it(compiler_that):
    compiler = compiler_that("echo $$ > '{folder}/pid.new'; mv '{folder}/pid.new' '{folder}/pid'; exec sleep 1000")
    script = "from engine.inference.native import building\nprint('ready', flush=True)\nbuilding.find()"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    while not (compiler.folder / "pid").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    with contextlib.suppress(psutil.NoSuchProcess):  # it is gone, or about to be
        psutil.Process(int((compiler.folder / "pid").read_text())).wait(30)
    assert compiler.files == []
