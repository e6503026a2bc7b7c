"""How the tests are shared out among processes (`pytest -n`): by files, those that take longest first."""

from __future__ import annotations

import pytest

# No process is left alone with one of these at the end. Those that start processes take turns with those that start
# none: all at once they would hold each other up.
LONGEST = (
    "test_train_with_process", "test_train_form", "test_session_in_terminal", "test_compare_screen", "test_distributed",
    "test_train_screen", "test_kills", "test_decoder", "test_run_process", "test_speculation", "test_runs_session",
    "test_play_screen", "cli/test_train.py", "test_together", "tests/server", "test_models_screen",
    "test_bundled_model", "test_onnx", "test_play_with_engine", "test_chat_screen", "test_bench",
    "test_history_screen", "test_wheel", "test_branches_on_screen", "test_ssh_training", "test_trackers",
    "_with_engine", "test_resume", "end_to_end",
)  # fmt: skip


def place(nodeid: str) -> int:
    """Where a test stands in the order: those that are not among the longest come after them, as they were found."""
    file = file_of(nodeid)
    return next((place for place, name in enumerate(LONGEST) if name in file), len(LONGEST))


def file_of(nodeid: str) -> str:
    """The file that a test is in."""
    return nodeid.partition("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first."""
    items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """The tests of a file go to one process, and those of the server: what they share is made once. What one asks
    for by `--dist` is done instead.
    """
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = file_of(nodeid)
            return "tests/server" if "tests/server" in file else file

    config.option.loadscopereorder = False  # it would put files of many tests first, and not those that take long
    return ByFile(config, log)
