"""What Windows and macOS lack or do otherwise, one thing at a time: the capability is switched off, and the promise
holds or is the documented lesser one. `tests/end_to_end/test_poorer_systems.py` has all of it at once.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest
import windows_locks

from engine import catalog, checkpoints, file_locks, folders, own_models, process_families, processes, safe_writing
from engine.config import TrainConfig
from engine.errors import CheckpointError, ModelNotFoundError, RunError
from engine.file_names import is_reserved
from engine.text import chat, corpus_cache
from engine.training import control, keeping, launch, measure, run_lock, runs
from engine.training.run import RunConfig, RunDirectory, Status, TextSources
from engine.training.run_names import check_run_name, free_run_name
from engine.worker import models

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its locks are made of Linux'")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def without_flock(monkeypatch):
    """The locks of Windows: of bytes, and never shared."""
    monkeypatch.setattr(file_locks, "fcntl", None)
    monkeypatch.setattr(file_locks, "msvcrt", windows_locks)


@pytest.fixture
def without_locks(monkeypatch):
    monkeypatch.setattr(file_locks, "fcntl", None)
    monkeypatch.setattr(file_locks, "msvcrt", None)


@pytest.fixture(params=["flock", "bytes"])
def locks(request, monkeypatch):
    """Either kind of locks."""
    if request.param == "bytes":
        request.getfixturevalue("without_flock")
    return request.param


@pytest.fixture
def open_files_stay(monkeypatch):
    monkeypatch.setattr(safe_writing, "OPEN_FILES_STAY", True)
    monkeypatch.setattr(safe_writing, "PATIENCE_SECONDS", 0.1)


def make_run(name="demo", state="finished", heartbeat=None):
    config = RunConfig(name=name, created=1.0, training=TrainConfig(), text=TextSources(train=("a",)))
    run = RunDirectory.create(config)
    run.write_status(Status(state=state))
    if heartbeat is not None:
        status = msgspec.structs.replace(run.read_status(), heartbeat=heartbeat)
        (run.path / "status.json").write_bytes(msgspec.json.encode(status))
    return run


# Locks


def test_a_lock_keeps_others_away_until_it_is_closed_and_no_other_path_with_it(locks, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    held, again, beside = file_locks.open_lock(one), file_locks.open_lock(tmp_path / "other" / ".." / "one"), None
    try:
        file_locks.lock(held)
        beside = file_locks.open_lock(other)
        assert file_locks.try_lock(beside)
        assert not file_locks.try_lock(again)
        os.close(held)
        assert file_locks.try_lock(again)
    finally:
        os.close(again)
        os.close(beside)


def test_who_waits_for_a_lock_gets_it_at_last(locks, tmp_path):
    held = file_locks.open_lock(tmp_path)
    file_locks.lock(held)
    child = os.fork()
    if not child:
        os.close(held)  # a copy of the parent's, which would hold the lock with it
        file_locks.lock(file_locks.open_lock(tmp_path))
        os._exit(7)
    os.close(held)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_where_bytes_are_locked_no_lock_is_shared_and_nothing_is_opened_in_what_is_locked(without_flock, tmp_path):
    descriptor = file_locks.open_lock(tmp_path / "not there")
    with pytest.raises(OSError, match="not supported"):
        file_locks.try_lock(descriptor, shared=True)
    assert Path(f"/proc/self/fd/{descriptor}").readlink() == folders.state_home() / "locks"
    assert (folders.state_home() / "locks").stat().st_size == 0
    os.close(descriptor)


def test_a_disk_without_locks_is_an_error_and_not_somebody_elses_lock(monkeypatch, tmp_path):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(file_locks.fcntl, "flock", flock)
    descriptor = file_locks.open_lock(tmp_path)
    with pytest.raises(OSError, match="No locks"):
        file_locks.try_lock(descriptor)
    os.close(descriptor)
    with safe_writing.locked(tmp_path), safe_writing.locked(tmp_path):  # nobody waits for what is not there
        pass


def test_what_a_living_writer_writes_stays_and_what_a_dead_one_left_goes(locks, tmp_path):
    path, left = tmp_path / "models" / "model", tmp_path / "models" / ".model.writing-4711"
    left.mkdir(parents=True)
    with safe_writing.new_directory(path) as first:
        assert not left.exists()
        safe_writing.clear_abandoned(path.parent)
        assert first.exists()
    assert list(path.parent.iterdir()) == [path]


def test_between_two_renames_nobody_brings_back_what_is_being_replaced(locks, tmp_path, monkeypatch):
    monkeypatch.setattr(safe_writing, "_exchange", lambda one, other: False)
    path, seen = tmp_path / "models" / "model", []
    path.mkdir(parents=True)
    (path / "old").touch()
    rename = Path.rename

    def looked_at(self, target):
        moved = rename(self, target)
        if ".old-" in Path(target).name:
            safe_writing.recover(path)  # another process looks for the model at this moment
            seen.append(path.exists())
        return moved

    monkeypatch.setattr(Path, "rename", looked_at)
    with safe_writing.new_directory(path, replace=True) as folder:
        (folder / "new").touch()
    assert seen == [False]
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(path.parent.iterdir()) == [path]


def test_without_locks_what_nobody_has_changed_for_an_hour_is_abandoned(without_locks, tmp_path):
    fresh, old = tmp_path / ".a.writing-1", tmp_path / ".a.writing-2"
    fresh.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 4000,) * 2)
    with safe_writing.locked(tmp_path), safe_writing.locked(tmp_path):
        safe_writing.clear_abandoned(tmp_path)
    assert fresh.exists()
    assert not old.exists()


def test_a_run_has_one_driver_at_a_time(without_flock):
    run = make_run(state="running")
    held = run_lock.take(run.path)
    assert run_lock.take(run.path) is None
    assert runs.read_run(run.path).state == "running"
    with pytest.raises(RunError, match="is under way"):
        runs.remove_run("demo")
    os.close(held)
    assert runs.read_run(run.path).state == "crashed"
    assert not (run.path / run_lock.LOCK).exists()


def test_a_run_whose_process_has_yet_to_take_the_lock_is_starting_and_not_for_ever(without_flock):
    now = time.time()
    assert runs.read_run(make_run("a", "starting").path).state == "starting"
    assert runs.read_run(make_run("b", "starting", now - runs.START_SECONDS - 1).path).state == "crashed"
    assert runs.read_run(make_run("c", "running").path).state == "crashed"


def test_with_flock_a_starting_run_without_a_lock_has_crashed():
    assert runs.read_run(make_run(state="starting").path).state == "crashed"


def test_without_locks_a_run_is_judged_by_its_heartbeat(without_locks):
    now = time.time()
    run = make_run(state="running")
    assert runs.read_run(run.path).state == "running"
    assert runs.read_run(make_run("silent", "running", now - runs.SILENT_SECONDS - 1).path).state == "crashed"
    with pytest.raises(RunError, match="running already"):
        launch.resume_run("demo")
    with pytest.raises(RunError, match="is under way"):
        runs.remove_run("demo")
    os.close(run_lock.take(run.path))


def test_what_was_asked_of_a_run_before_its_process_took_the_lock_is_obeyed(without_flock, monkeypatch):
    started: list[dict[str, str]] = []
    process = SimpleNamespace(wait=lambda: 0)
    popen = SimpleNamespace(DEVNULL=subprocess.DEVNULL, Popen=lambda *_, env, **__: started.append(env) or process)
    monkeypatch.setattr(launch, "subprocess", popen)
    run = make_run(state="stopped")
    control.request(run.path, "pause")  # of the process before
    with launch._lock_of(run) as lock:
        launch._spawn(run, lock)
    assert control.read_control(run.path).wanted == "run"
    control.request(run.path, "stop")
    [environment] = started
    code = (
        "import sys; from engine.training import __main__ as it;"
        "it.drive = lambda run, *_, **__: sys.exit({'stop': 0}.get(it.control.read_control(run.path).wanted, 3));"
        "it.main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(run.path)], env=environment, check=False)
    assert done.returncode == 0


def test_copies_of_texts_have_no_lease_that_could_be_broken_and_are_removed_all_the_same(without_flock, tmp_path):
    entry = corpus_cache.entries_folder() / "one"
    entry.mkdir(parents=True)
    os.utime(entry, (1e9, 1e9))
    assert corpus_cache.lease(entry) is not None
    assert entry.stat().st_mtime > 1e9  # it was used just now
    assert corpus_cache._remove(entry)
    assert corpus_cache.lease(entry) is None


# Files that are open


def test_a_writer_waits_for_a_reader_and_then_says_what_to_do(open_files_stay, tmp_path, monkeypatch):
    refusals, replace = [1, 1], Path.replace

    def busy(self, target):
        if refusals and refusals.pop():
            raise PermissionError(errno.EACCES, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", busy)
    safe_writing.write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"

    run = make_run()
    monkeypatch.setattr(Path, "replace", lambda *_: denied())
    with pytest.raises(RunError, match="close the programs that have it open"):
        control.request(run.path, "stop")
    monkeypatch.setattr(Path, "rename", lambda *_: denied())
    for work in (lambda: runs.remove_run("demo"), lambda: runs.rename_run("demo", "other")):
        with pytest.raises(RunError, match=r"Permission denied.*close the programs that have it open"):
            work()
    model = folders.user_checkpoints() / "mine"
    model.mkdir(parents=True)
    for work in (lambda: own_models.remove_model(model), lambda: own_models.rename_model(model, "other")):
        with pytest.raises(CheckpointError, match=r"Permission denied.*close the programs that have it open"):
            work()


def denied():
    raise PermissionError(errno.EACCES, "Permission denied")


def test_where_it_is_nobodys_open_file_a_refusal_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_writing, "PATIENCE_SECONDS", 1000.0)
    monkeypatch.setattr(Path, "rename", lambda *_: denied())
    make_run()
    with pytest.raises(RunError, match="see whose it is"):
        runs.remove_run("demo")


def test_a_run_goes_on_when_an_old_checkpoint_is_open_elsewhere(open_files_stay, monkeypatch):
    run = make_run()
    keeper = keeping.Keeper(run, 10_000)  # the first four steps are in one part of it, and the first of them stays
    for step in (1, 2, 3, 4):
        keeper.saved[step] = run.checkpoint(step)
        keeper.saved[step].mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: denied())
        keeper._prune(None)
        assert sorted(keeper.saved) == [1, 2, 3, 4]
    keeper._prune(None)  # after the next checkpoint
    assert sorted(keeper.saved) == [1, 3, 4]
    assert not run.checkpoint(2).exists()


def test_a_loaded_model_maps_no_file_that_could_then_not_be_replaced(
    tiny_model, open_files_stay, monkeypatch, tmp_path
):
    own = shutil.copytree(tiny_model, tmp_path / "own")  # another test may have mapped the other

    def mapped() -> bool:
        return str(own) in Path("/proc/self/maps").read_text()

    model = checkpoints.open_checkpoint(own)
    assert not mapped()
    monkeypatch.setattr(safe_writing, "OPEN_FILES_STAY", False)
    again = checkpoints.open_checkpoint(own)
    assert mapped()  # or the test above says nothing
    assert all((a == b).all() for a, b in zip(model[0].parameters(), again[0].parameters(), strict=True))


def test_files_are_synced_where_that_takes_a_file_open_for_writing(tmp_path, monkeypatch):
    import fcntl

    synced: list[str] = []

    def fsync(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(safe_writing, "_READERS_SYNC", False)
    monkeypatch.setattr(os, "fsync", fsync)
    safe_writing.write_file(tmp_path / "file", b"new")
    with safe_writing.new_directory(tmp_path / "folder") as folder:
        (folder / "inside").touch()
    assert synced == ["file", "inside"]


# Processes


def family() -> tuple[subprocess.Popen[bytes], int]:
    """A process that has started another, which would both go on for long."""
    command = ["sh", "-c", "sleep 600 & echo $!; wait"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, **process_families.apart())
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize("end", [process_families.ask_to_end, process_families.kill])
@pytest.mark.parametrize("groups", [True, False], ids=["group", "one by one"])
def test_a_process_ends_with_what_it_has_started(end, groups, monkeypatch):
    if not groups:
        monkeypatch.delattr(os, "killpg")
    parent, child = family()
    grandchild = psutil.Process(child)
    end(parent.pid)
    assert parent.wait(20) == (-signal.SIGTERM if end is process_families.ask_to_end else -signal.SIGKILL)
    parent.stdout.read()  # both have let go of it
    parent.stdout.close()
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    end(parent.pid)  # nobody is there any more, and nothing happens


def test_a_process_is_started_apart_by_what_the_system_has(monkeypatch):
    assert process_families.apart() == {"start_new_session": True}
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x08000000, raising=False)
    assert process_families.apart() == {"creationflags": 0x08000200}


def test_a_lower_priority_is_asked_for_in_the_systems_own_way(monkeypatch):
    asked = []
    monkeypatch.delattr(os, "nice")
    processes.lower_priority(10)  # a system that has neither
    monkeypatch.setattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 0x4000, raising=False)
    monkeypatch.setattr(psutil.Process, "nice", lambda self, value: asked.append((self.pid, value)))
    processes.lower_priority(10)
    assert asked == [(os.getpid(), 0x4000)]


def test_what_a_run_prints_overwrites_nothing_where_appending_is_not_inherited(tmp_path):
    code = (
        "import sys; from pathlib import Path; from engine.training.__main__ import append_prints;"
        "log = Path(sys.argv[1]); append_prints(log); log.open('a').write('logged\\n');"
        "print('printed', file=sys.stderr, flush=True)"
    )
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    with log.open("r+b") as inherited:  # its place is the file's beginning
        subprocess.run([sys.executable, "-P", "-c", code, str(log)], stderr=inherited, check=True)
    assert log.read_text() == "before\nlogged\nprinted\n"


def test_a_process_tells_its_memory_and_limits_it_where_that_can_be_done(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert measure._peak_memory() > 10_000_000
    chat._limit_memory()  # there is no way to, and the template is drawn all the same


def test_the_memory_of_this_machine_is_known_on_any_system(monkeypatch):
    free, total = models._memory()
    assert 0 < free <= total
    monkeypatch.setattr(psutil, "virtual_memory", lambda: (_ for _ in ()).throw(OSError("no /proc")))
    assert models._memory() is None


# Names


def test_a_path_with_a_drives_letter_is_no_checkpoint_of_a_run(tiny_model, tmp_path, monkeypatch):
    make_run("C")
    shutil.copytree(tiny_model, tmp_path / "C:" / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    assert catalog.find_checkpoint("C:/models/mine") == Path("C:/models/mine")
    with pytest.raises(ModelNotFoundError, match="there is no model"):
        catalog.find_checkpoint("C:\\models\\mine")
    with pytest.raises(CheckpointError, match="the run C has no checkpoint best"):
        catalog.find_checkpoint("C:best")


@pytest.mark.parametrize("name", ["con", "NUL", "aux.txt", "Com1", "lpt9.tar.gz", "prn", "end."])
def test_a_name_that_windows_keeps_for_itself_is_refused_in_words(name):
    assert is_reserved(name)
    with pytest.raises(RunError, match="Windows keeps that name"):
        check_run_name(name)
    with pytest.raises(CheckpointError, match="Windows keeps that name"):
        own_models.check_model_name(name)
    check_run_name(free_run_name(name))


@pytest.mark.parametrize("name", ["console", "nullify", "com10", "auxiliary.txt", "a.con", "v1.2"])
def test_a_name_that_only_looks_like_one_of_them_is_taken(name):
    check_run_name(name)
    own_models.check_model_name(name)


def test_a_run_or_model_can_change_the_case_of_its_name_where_that_makes_no_difference(monkeypatch):
    make_run("demo")
    make_run("taken")
    model = folders.user_checkpoints() / "mine"
    model.mkdir(parents=True)
    stat, lstat = os.stat, os.lstat

    def either_case(look):
        def call(path, **options):
            path = Path(path) if isinstance(path, str | Path) else path
            if isinstance(path, Path) and path.parent.parent == folders.data_home():
                path = next((each for each in path.parent.iterdir() if each.name.lower() == path.name.lower()), path)
            return look(path, **options)

        return call

    monkeypatch.setattr(os, "stat", either_case(stat))
    monkeypatch.setattr(os, "lstat", either_case(lstat))
    with pytest.raises(RunError, match="there is a run Taken already"):
        runs.rename_run("demo", "Taken")
    assert free_run_name("Demo") == "Demo-2"
    assert runs.rename_run("demo", "Demo").name == "Demo"
    assert {run.name for run in runs.list_runs()} == {"Demo", "taken"}
    assert own_models.rename_model(model, "Mine").name == "Mine"
    assert [path.name for path in model.parent.iterdir()] == ["Mine"]
