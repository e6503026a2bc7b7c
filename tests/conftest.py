"""What tests share: a home of their own, and a tiny model."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

# Tiny models gain nothing from a second thread, and the processes that tests start would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from tiny_models import make_tiny


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory):
    """All that the program writes goes here, in this process and in those that it starts."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_HOME", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session", autouse=True)
def apps_that_can_be_let_go():
    """The app spares the collector what lives as long as it does. Here hundreds of them live in one process."""
    import minigpt_tui.app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minigpt_tui.app, "gc", SimpleNamespace(collect=lambda: 0, freeze=lambda: None))
        yield


@pytest.fixture(autouse=True)
def no_texts_of_the_test_before():
    """Each app begins without the texts that the one before it left."""
    yield
    if home := os.environ.get("MINIGPT_HOME"):
        (Path(home) / "state" / "branches.msgpack").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def tiny_model(home: Path) -> Path:
    """A checkpoint of about 30,000 weights that goes by the name `tiny`: nanochat family, char tokenizer, block 64."""
    return make_tiny("tiny")
