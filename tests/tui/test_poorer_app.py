"""What the app's own files and processes do where a system has less: its log, its history, its dates, its questions."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from history_maker import make_entry

from engine import file_locks
from minigpt_tui import ending_signals, one_answer, worker_log
from minigpt_tui.history import database, dates
from minigpt_tui.history.errors import HistoryError
from minigpt_tui.history.store import Store
from minigpt_tui.worker_log import WorkerLog


def test_the_log_tells_the_last_words_where_a_file_cannot_be_read_from_a_place(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "pread", raising=False)
    monkeypatch.delattr(os, "fchmod", raising=False)
    log = WorkerLog(tmp_path / "worker.log")
    os.write(log.target, b"one\nFatal Python error: Aborted\nthe stack\n")
    assert log.last_line() == "Fatal Python error: Aborted"
    assert os.lseek(log.target, 0, os.SEEK_CUR) == log.path.stat().st_size  # where the engine writes on
    log.close()


def test_a_long_log_that_another_app_has_open_is_written_on(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(worker_log, "MAX_BYTES", 10)
    path = tmp_path / "worker.log"
    path.write_text("of another app\n")
    monkeypatch.setattr(Path, "replace", denied)
    log = WorkerLog(path)
    log.write("of this one")
    log.close()
    assert path.read_text().startswith("of another app\n")
    assert "of this one" in path.read_text()


@pytest.mark.parametrize("locks", [None, "windows"])
def test_the_history_opens_without_flock(tmp_path, monkeypatch, locks):
    taken: list[int] = []
    windows = SimpleNamespace(LK_NBLCK=2, locking=lambda descriptor, mode, count: taken.append(count))
    monkeypatch.setattr(file_locks, "fcntl", None)
    monkeypatch.setattr(file_locks, "msvcrt", windows if locks else None)
    with Store(tmp_path / "history.db") as store:
        number = store.add(make_entry(text="kept"))
        assert store.entry(number).text == "kept"
    assert taken == ([1] if locks else [])


def test_a_damaged_history_that_another_app_has_open_is_one_clear_line(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "history.db"
    path.write_bytes(b"no database" * 100)
    monkeypatch.setattr(Path, "rename", denied)
    with pytest.raises(HistoryError, match="Permission denied"):
        Store(path)
    assert path.exists()


def test_a_history_that_may_only_be_read_is_found_by_any_path(tmp_path, monkeypatch):
    path = tmp_path / "a folder with % and #?" / "é.db"
    with Store(path) as store:
        number = store.add(make_entry(text="kept"))
    monkeypatch.setattr(database, "_may_write", lambda path: False)
    with Store(path) as store:
        assert store.entry(number).text == "kept"
        with pytest.raises((HistoryError, sqlite3.Error)):
            store.add(make_entry())


class NoLocalPast(dt.datetime):
    """As on Windows: what has no zone cannot be told one within a day of 1970."""

    def astimezone(self, tz=None):
        if self.tzinfo is None and self.year < 1971:
            raise OSError(22, "Invalid argument")
        return super().astimezone(tz)


def test_any_moment_has_a_local_time(monkeypatch):
    now = dt.datetime(2026, 11, 21, 17, 12).timestamp()
    assert dates.time_text(now) == "2026-11-21 17:12"
    monkeypatch.setattr(dates.dt, "datetime", NoLocalPast)
    for seconds in (0.0, 3600.0, -1e300, float("nan"), 1e300):
        assert dates.local(seconds).year in (1969, 1970)


@pytest.mark.posix
async def test_a_signal_is_heard_where_the_loop_takes_none(monkeypatch):
    def none(*_):
        raise NotImplementedError

    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(type(loop), "add_signal_handler", none)
    monkeypatch.setattr(ending_signals, "NAMES", ("SIGTERM", "SIGBREAK"))
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)  # what Windows has for a closed window
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    give_back = ending_signals.heed(heard.set)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        heard.clear()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(20):
            await heard.wait()
    give_back()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


async def test_a_question_that_is_given_up_ends_its_process_where_there_are_no_groups(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text(
        "import os, pathlib, time\npathlib.Path(os.environ['PID']).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PID", str(tmp_path / "pid"))
    monkeypatch.delattr(os, "killpg", raising=False)
    asking = asyncio.create_task(one_answer.ask("endless", {}, dict))
    async with asyncio.timeout(60):
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(0.02)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
