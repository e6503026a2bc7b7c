"""What the tests of the app share: a home of its own for each, and the app with a scripted engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_client import ScriptedClient

from minigpt_tui.app import MiniGPTApp


@pytest.fixture(autouse=True)
def own_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test starts without an earlier session, and leaves none; models stay where the session's home has them."""
    from engine import folders

    monkeypatch.setattr(folders, "state_home", lambda: tmp_path / "state")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return tmp_path / "state"


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient()


@pytest.fixture
def make_app(client: ScriptedClient) -> Callable[[], MiniGPTApp]:
    return lambda **options: MiniGPTApp(**({"client": client} | options))
