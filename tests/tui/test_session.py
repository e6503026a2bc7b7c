"""The session on disk: whole when several threads save it, and kept when the system ends the app."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from engine import safe_writing
from minigpt_tui.settings import Session, load_session, save_session, session_file

pytest_plugins = ("play_fixtures",)


def test_threads_that_save_at_the_same_time_leave_the_latest_state_whole(own_home, monkeypatch):
    inside, most = 0, 0
    write = safe_writing.write_file

    def watched(path, data) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.005)
        write(path, data)
        inside -= 1

    monkeypatch.setattr(safe_writing, "write_file", watched)
    session = Session()
    threads = [threading.Thread(target=save_session, args=(session,)) for _ in range(8)]
    for number, thread in enumerate(threads):
        session.prompts = [str(number)]
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1  # one temporary file has one writer
    assert load_session()[0].prompts == ["7"]
    assert [path.name for path in session_file().parent.iterdir()] == ["session.json"]


@pytest.mark.posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
async def test_a_signal_ends_the_app_in_good_order_with_its_settings_kept(make_app, client, name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("escape", "T")
        assert signal.getsignal(number) != before  # else the signal would end the tests
        os.kill(os.getpid(), number)
        for _ in range(50):
            if app._exit:
                break
            await asyncio.sleep(0.02)
        assert app._exit
    assert load_session()[0].params.temperature == pytest.approx(0.85)
    assert signal.getsignal(number) == before
