"""What is run where, and what comes first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sharing_out import LONGEST, place


class Item:
    """A test with marks."""

    def __init__(self, *names: str) -> None:
        self.names, self.added = names, []

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.names else None

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.added.append(marker.name)


@pytest.mark.parametrize(("system", "added"), [("nt", ["skip"]), ("posix", [])])
def test_what_needs_posix_is_skipped_on_windows_alone(system, added, monkeypatch, pytestconfig):
    file = str(Path(__file__).with_name("conftest.py"))
    hooks = next(one for one in pytestconfig.pluginmanager.get_plugins() if getattr(one, "__file__", "") == file)
    marked, other = Item("asyncio", "posix"), Item("asyncio")
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", system)
        hooks.pytest_collection_modifyitems([marked, other])
    assert (marked.added, other.added) == (added, [])


def test_the_longest_come_first_and_each_of_them_is_there():
    tests = Path(__file__).parent
    files = [f"tests/{file.relative_to(tests).as_posix()}" for file in tests.rglob("test_*.py")]
    assert {place(f"{file}::test_it[tests/server]") for file in files} == set(range(len(LONGEST) + 1))
    assert place("tests/engine/test_config.py::test_it") == len(LONGEST)
