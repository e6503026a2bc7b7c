"""A terminal that goes without a signal: the app and its engine go too, and what was typed before is kept."""

from __future__ import annotations

import os
import sys

import msgspec
import psutil
import pytest

pytest.importorskip("pty", reason="a terminal of this kind is not on every system")

from terminal import Terminal

APP = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from minigpt_tui.app import MiniGPTApp
MiniGPTApp._heed_signals = lambda self: None
MiniGPTApp(device="cpu", precision="fp32").run()
"""


def test_an_app_without_a_terminal_does_not_live_on(tmp_path):
    environment = {"MINIGPT_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with Terminal([sys.executable, "-c", APP], environment) as terminal:
        terminal.until("cpu fp32")  # the engine is there
        terminal.type("ONCE")
        terminal.until("ONCE")
        app = psutil.Process(terminal.pid)
        family = [app, *app.children(recursive=True)]
        terminal.hang_up()
        assert terminal.ends(30) in (0, 1, 120)  # 120: Python had something left for a terminal that is gone
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive
    kept = msgspec.msgpack.decode((tmp_path / "state" / "branches.msgpack").read_bytes())
    assert kept["draft"] == "ONCE"
