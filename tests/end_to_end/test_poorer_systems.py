"""Where there is no fork, no flock, no process group and no signal but those of C, as on Windows, the real processes do
their work. What was taken away here is in `tests/poorer_system/sitecustomize.py`; the locks are like those of Windows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
POORER = TESTS / "poorer_system"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its locks are made of Linux'")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict:
    """What a sitting on such a system said at its end."""
    home = tmp_path_factory.mktemp("poorer")
    for name in ("tiny", "spare"):
        shutil.copytree(tiny_model, home / "data" / "checkpoints" / name)
    folders = [str(POORER), str(TESTS), str(TESTS / "tui"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, folders))
    environment = {**os.environ, "PYTHONPATH": path, "MINIGPT_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-P", POORER / "sitting.py"], env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_starts_obeys_and_stops(told):
    training = told["training"]
    assert training["at once"] == "starting"  # also before its process has the lock
    assert "Traceback" not in training["log"]
    assert training["verified"] == []


def test_a_run_that_is_driven_is_driven_by_nobody_else_and_stays_as_it_is(told):
    training = told["training"]
    assert training["second"] == "the run demo is driven by another process\n"
    assert training["resumed"] == "the run demo is running already"
    assert training["renamed"] == "the run demo is under way and cannot be renamed"
    assert told["drivers"] == [True, False]  # the lock dies with its owner


def test_a_run_is_renamed_and_removed_as_nothing_in_it_is_open(told):
    assert "lock" not in told["training"]["files"]  # Windows renames no folder with an open file in it
    assert told["runs"] == []


def test_texts_are_written_and_models_change_under_the_engine(told):
    writing = told["writing"]
    assert len(writing["texts"][0]) >= 30
    assert writing["texts"] == [writing["texts"][0]] * 3
    assert writing["left"] == ["spare"]


def test_the_end_of_the_app_is_the_end_of_its_engine(told):
    assert told["writing"]["gone"]


def test_the_history_and_the_cache_of_texts_work(told):
    assert told["history"]
    assert told["cache"]["same"]
    assert told["cache"]["tokens"]
    assert told["cache"]["said"] == 1
