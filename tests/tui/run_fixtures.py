"""What the tests of the training screen share: a maker of runs in the test's own home."""

from __future__ import annotations

import pytest
from run_maker import RunMaker


@pytest.fixture
def make_run(own_home, monkeypatch):
    """Makes runs in the test's own home; the app looks at them more often than it would."""
    monkeypatch.setattr("minigpt_tui.training.run_watch.SECONDS", 0.1)
    monkeypatch.setattr("minigpt_tui.training.run_feed.PICTURE_SECONDS", 0.05)
    monkeypatch.setattr("engine.training.run_reader.INFO_SECONDS", 0.05)
    maker = RunMaker()
    yield maker
    maker.let_go()
