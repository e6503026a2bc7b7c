"""What the tests of the Play screen share: a home of its own for each, and the app with a scripted engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_client import ScriptedClient

from minigpt_tui.app import MiniGPTApp


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No session from before, a terminal of a known size and colour, and nothing left behind."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    for name in ("NO_COLOR", "COLORTERM", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return tmp_path / "home"


@pytest.fixture
def client() -> ScriptedClient:
    """An engine that is ready."""
    return ScriptedClient()


@pytest.fixture
def make_app(own_home: Path, client: ScriptedClient) -> Callable[..., MiniGPTApp]:
    """Makes the app, by default with the scripted engine, for one who has been here before."""

    def make(**options: Any) -> MiniGPTApp:
        app = MiniGPTApp(**({"client": client} | options))
        app.session.welcomed = True
        return app

    return make
