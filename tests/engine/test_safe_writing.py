"""A save that is killed, or that finds the disk full, loses nothing: the old model or the new one is there, whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from test_checkpoints import save
from test_model import CONFIGS, make

from engine import file_locks, safe_writing
from engine.catalog import Record
from engine.checkpoints import write_record

SAVES = """
import itertools, json, os, resource, shutil, signal, sys
import msgspec
from engine import catalog, checkpoints, folders, safe_writing
from engine.catalog import Record
from engine.config import ModelConfig
from engine.errors import CheckpointError, ModelNotFoundError
from engine.model.gpt import GPT
from engine.text.tokenizers import train_tokenizer

path = folders.user_checkpoints() / "m"
tokenizer = train_tokenizer("char", ["abc"])
gpt = GPT(ModelConfig(vocab_size=4, n_layer=1, n_head=1, n_embd=8, block_size=8))
os.fsync = lambda descriptor: None  # a killed process loses nothing that it wrote; only a power cut does

def save(step):
    checkpoints.save_checkpoint(path, gpt, tokenizer, Record(step=step), replace=True)

def write_record(step):
    checkpoints.write_record(path, msgspec.structs.replace(catalog.read_record(path), step=step))

def kill_at(place):
    places = itertools.count()
    def killing(function):
        def call(*args, **options):
            if next(places) == place:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)
        return call
    for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, killing(getattr(os, name)))
    safe_writing._exchange = killing(safe_writing._exchange)

def found():
    try:
        there = catalog.find_checkpoint("m")
    except ModelNotFoundError:
        return 0
    assert catalog.verify_checkpoint(there) == []
    assert [info.problem for info in catalog.list_checkpoints() if info.name == "m"] == [""]
    return catalog.read_record(there).step

def kill_everywhere(work, first):
    steps = []
    for place in itertools.count():
        shutil.rmtree(path, ignore_errors=True)
        if first:
            save(first)
        child = os.fork()
        if not child:
            kill_at(place)
            work(2)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        steps.append(found())
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            assert status == 0, status
            return steps
        work(2) if path.exists() else save(2)
        litter = [*path.parent.iterdir(), *(file for file in path.iterdir() if file.name.startswith("."))]
        assert litter == [path], (place, litter)

def fill_disk():
    said = []
    for limit in (0, 10, 300):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        for work in (save, write_record):
            try:
                work(3)
            except CheckpointError as error:
                said.append(str(error))
            assert found() == 2
            assert list(path.parent.iterdir()) == [path]
    return said

results = {
    "new": kill_everywhere(save, first=0),
    "replace": kill_everywhere(save, first=1),
    "record": kill_everywhere(write_record, first=1),
}
safe_writing._exchange = lambda one, other: False
results["replace by two renames"] = kill_everywhere(save, first=1)
results["full"] = fill_disk()
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def saves(tmp_path_factory):
    """What saves did that were killed by SIGKILL at each of their calls, and what a full disk said."""
    home = str(tmp_path_factory.mktemp("saves"))
    process = subprocess.run(
        [sys.executable, "-c", SAVES], env={**os.environ, "MINIGPT_HOME": home}, capture_output=True, timeout=100
    )
    assert process.returncode == 0, process.stderr.decode()
    return json.loads(process.stdout)


@pytest.mark.posix
@pytest.mark.parametrize("way", ["new", "replace", "replace by two renames", "record"])
def test_a_save_that_is_killed_at_any_call_leaves_the_old_or_the_new_whole(way, saves):
    steps = saves[way]
    assert set(steps) == {0 if way == "new" else 1, 2}
    assert steps == sorted(steps)  # killed later, it is never the older one again
    assert len(steps) > 4


@pytest.mark.posix
def test_a_full_disk_is_one_clear_error_and_leaves_the_old_model_and_no_litter(saves):
    assert len(saves["full"]) == 6
    for message in saves["full"]:
        assert "cannot be written" in message
        assert "free some space" in message


@pytest.fixture
def events(monkeypatch):
    """What is synced (its inode) and moved, in order."""
    seen: list[object] = []
    fsync, rename, replace, exchange = os.fsync, os.rename, os.replace, safe_writing._exchange

    def recording(move):
        def call(*args):
            seen.append("moved")
            return move(*args)

        return call

    def synced(descriptor):
        seen.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", recording(rename))
    monkeypatch.setattr(os, "replace", recording(replace))
    monkeypatch.setattr(safe_writing, "_exchange", recording(exchange))
    return seen


@pytest.mark.posix
@pytest.mark.parametrize("replace", [False, True])
def test_all_that_a_save_wrote_is_on_the_disk_before_it_has_its_name(replace, tmp_path, events):
    path = tmp_path / "model"
    if replace:
        save(path, make(CONFIGS["nanochat"]))
        events.clear()
    save(path, make(CONFIGS["nanochat"]), replace=replace)
    moved = events.index("moved")
    assert {file.stat().st_ino for file in (path, *path.iterdir())} <= set(events[:moved])
    assert tmp_path.stat().st_ino in events[moved:]
    events.clear()
    write_record(path, Record(step=3))
    moved = events.index("moved")
    assert (path / "minigpt.json").stat().st_ino in events[:moved]
    assert path.stat().st_ino in events[moved:]


@pytest.mark.posix
def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    path = tmp_path / "model"
    for name in (".model.writing-4711", ".model.writing-x7_abc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    others = [tmp_path / name for name in (".other.writing-1", "model.writing-1", ".model.writing-1.writing-2")]
    for other in others:
        other.mkdir()
    with safe_writing.new_directory(path) as first:
        assert sorted(tmp_path.iterdir()) == sorted([first, *others])
        (first / "name").write_text("first")
        with safe_writing.new_directory(path) as second:
            assert first.exists()
            (second / "name").write_text("second")
        with contextlib.suppress(KeyboardInterrupt), safe_writing.new_directory(path, replace=True) as third:
            (third / "name").write_text("third")
            raise KeyboardInterrupt
        assert (path / "name").read_text() == "second"
        first_mode = first.stat().st_mode & 0o777
        (first / "name").write_text("the last")
        path.rename(tmp_path / "second")
    assert (path / "name").read_text() == "the last"
    assert first_mode == 0o700
    assert sorted(tmp_path.iterdir()) == sorted([path, tmp_path / "second", *others])


@pytest.mark.posix
def test_what_was_set_aside_comes_back_unless_its_writer_lives(tmp_path):
    old, path = tmp_path / ".model.old-4711", tmp_path / "model"
    old.mkdir()
    with safe_writing.locked(old):
        safe_writing.recover(path)
        safe_writing.recover_all(tmp_path)
        assert not path.exists()
    safe_writing.recover_all(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    old.mkdir()
    safe_writing.recover(path)  # there is one of that name, which is newer
    assert old.exists()
    with safe_writing.new_directory(path, replace=True):
        assert not old.exists()


@pytest.mark.posix
def test_a_link_stays_a_link_when_what_it_points_to_is_replaced(tmp_path):
    target, link = tmp_path / "there" / "model", tmp_path / "link"
    target.mkdir(parents=True)
    link.symlink_to(target)
    with safe_writing.new_directory(link, replace=True) as folder:
        (folder / "new").touch()
    assert link.is_symlink()
    assert (target / "new").exists()
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_directory_is_removed_with_what_its_killed_writers_left(tmp_path):
    for name in ("model", ".model.writing-1", ".model.old-2", ".model2.old-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    safe_writing.remove_directory(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == [".model2.old-2"]


def test_several_that_write_one_file_at_the_same_moment_all_write_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def write(writer: int) -> None:
        for number in range(100):
            safe_writing.write_file(tmp_path / "file", b"%d of %d" % (number, writer))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes().startswith(b"99 of ")


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_a_writer_whose_directory_goes_before_it_is_locked_makes_another(moment, tmp_path, monkeypatch):
    cleared = []

    def clear(path: os.PathLike[str]) -> None:
        if not cleared:
            cleared.append(path)
            safe_writing.clear_abandoned(tmp_path)

    mkdtemp, lock = tempfile.mkdtemp, file_locks.lock

    def made(**options: Any) -> str:
        path = mkdtemp(**options)
        clear(path)
        return path

    def locked(descriptor: int) -> None:
        clear(f"/{descriptor}")
        lock(descriptor)

    if moment == "before it is opened":
        monkeypatch.setattr(tempfile, "mkdtemp", made)
    else:
        monkeypatch.setattr(file_locks, "lock", locked)
    safe_writing.write_file(tmp_path / "file", b"whole")
    assert len(cleared) == 1
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.posix
@pytest.mark.parametrize("by", ["another writer", "a look at the folder"])
def test_nobody_can_lock_what_is_being_cleared_away(by, tmp_path, monkeypatch):
    left, seen = tmp_path / ".file.writing-4711", []
    left.mkdir()
    rmtree = shutil.rmtree

    def watched(path: os.PathLike[str], **options: Any) -> None:
        if path == left:
            descriptor = os.open(left, os.O_RDONLY)
            seen.append(file_locks.try_lock(descriptor))  # as whoever has made it would, this moment
            os.close(descriptor)
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    if by == "another writer":
        safe_writing.write_file(tmp_path / "file", b"whole")
    else:
        safe_writing.clear_abandoned(tmp_path)
    assert seen == [False]
    assert not left.exists()
