"""What tests share: a home of their own, and a tiny model."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

# Tiny models gain nothing from a second thread, and the processes that tests start would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from textual._animator import Animator
from textual.css.stylesheet import Stylesheet
from tiny_models import make_tiny

from engine import file_locks, folders

pytest_plugins = ("command_line", "sharing_out")


def pytest_configure(config: pytest.Config) -> None:
    """The library that passes go through is built once, for all processes of these tests. And an app that opens makes
    objects by the ten thousands: to look for garbage at each 700 of them takes a fifth of the time.
    """
    gc.set_threshold(20_000)
    if "MINIGPT_NATIVE" not in os.environ:
        folder = os.environ["MINIGPT_NATIVE"] = tempfile.mkdtemp(prefix="minigpt-native-")
        config.add_cleanup(functools.partial(shutil.rmtree, folder, ignore_errors=True))


def pytest_collection_finish() -> None:
    """What was imported lives as long as the tests: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """pytest looks five times for what was left: once is enough, the other four need not walk through all again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a system of POSIX is not run on another."""
    if os.name != "posix":
        for item in items:
            if item.get_closest_marker("posix"):
                item.add_marker(pytest.mark.skip(reason="signals, modes of files, links or a shell of POSIX"))


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
        patch.setattr(minigpt_tui.app, "gc", SimpleNamespace(freeze=lambda: None, enable=lambda: None))
        yield


@pytest.fixture(scope="session", autouse=True)
def stylesheets_that_are_read_once():
    """Each app reads some seventy stylesheets. Hundreds of apps have the same ones here: what was read is kept.

    Yields Textual's own way to read one.
    """
    read = Stylesheet._parse_rules

    @functools.cache
    def rules(variables, css, read_from, is_default_rules, tie_breaker, scope):
        return read(Stylesheet(variables=dict(variables)), css, read_from, is_default_rules, tie_breaker, scope)

    def kept(self, css, read_from, is_default_rules=False, tie_breaker=0, scope=""):
        return rules(tuple(self._variables.items()), css, read_from, is_default_rules, tie_breaker, scope)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", kept)
        yield read


@pytest.fixture(scope="session", autouse=True)
def keys_that_are_waited_for_once():
    """Whoever presses a key waits until the app is idle, until nothing moves, and once more until it is idle. Where
    nothing moved it is so already, and the second time is left out: these were half of what tests of screens waited.
    """
    import textual.app

    press, wait, still = textual.app.App._press_keys, textual.app.wait_for_idle, Animator.wait_until_complete
    state = SimpleNamespace(nothing_moved=False)

    async def press_each(self, keys):
        for key in keys:
            state.nothing_moved = False
            await press(self, [key])

    async def until_nothing_moves(self):
        state.nothing_moved = self._complete_event.is_set()
        await still(self)

    async def until_idle(*seconds):
        if not state.nothing_moved:
            await wait(*seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textual.app.App, "_press_keys", press_each)
        patch.setattr(Animator, "wait_until_complete", until_nothing_moves)
        patch.setattr(textual.app, "wait_for_idle", until_idle)
        yield


@pytest.fixture(autouse=True)
def no_texts_of_the_test_before():
    """Each app begins without the texts that the one before it left."""
    yield
    if home := os.environ.get("MINIGPT_HOME"):
        (Path(home) / "state" / "branches.msgpack").unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock among all processes of these tests."""
    descriptor = file_locks.open_lock(path, os.O_RDWR | os.O_CREAT)
    try:
        if descriptor is not None:
            file_locks.lock(descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@pytest.fixture(scope="session")
def tiny_model(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of about 30,000 weights that goes by the name `tiny`: nanochat family, char tokenizer, block 64.

    It is trained once, for all processes of these tests.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make_tiny("tiny")
    shared = tmp_path_factory.getbasetemp().parent / "tiny"
    with locked(shared.with_name("tiny.lock")):
        if not shared.exists():
            made = make_tiny("tiny")
            shutil.copytree(made, part := shared.with_name("tiny.part"))
            part.rename(shared)
            return made
    path = folders.user_checkpoints() / "tiny"
    shutil.copytree(shared, path)
    return path
