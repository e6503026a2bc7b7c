"""Real runs, really killed. `make kills` does it fifty times; here it is a few."""

from __future__ import annotations

from kill_harness import kill_runs


def test_runs_that_are_killed_again_and_again_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    assert kill_runs(3, seed=3).total() == 3
