"""Which models the worker keeps, and which it lets go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from endless import make_endless

from engine.errors import ModelNotFoundError
from engine.worker import models
from engine.worker.models import Models


@pytest.fixture(scope="module")
def names(home: Path) -> list[str]:
    """Three models that differ in nothing but their weights."""
    return [make_endless(f"kept-{seed}", seed).name for seed in range(3)]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that were read from disk, in order."""
    load, found = models.load_model, []
    monkeypatch.setattr(models, "load_model", lambda *asked: (found.append(asked[0]), load(*asked))[1])
    return found


def test_a_model_is_loaded_once_whatever_it_is_asked_for_by(names: list[str], loaded: list[str]) -> None:
    held = Models()
    first = held.get(names[0], "auto", "auto")
    again = held.get(first.path.as_posix(), first.device, first.precision)
    assert loaded == names[:1]
    assert again is first
    assert again.decoder is first.decoder  # the weights are laid out once, not for every text


def test_another_precision_is_another_model(names: list[str], loaded: list[str]) -> None:
    held = Models()
    assert held.get(names[0], "cpu", "fp32").precision == "fp32"
    assert held.get(names[0], "cpu", "bf16").precision == "bf16"
    assert len(loaded) == 2


def test_when_memory_is_short_the_least_recently_used_goes(
    names: list[str], loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Models()
    held.get(names[0], "cpu", "fp32")
    held.get(names[1], "cpu", "fp32")
    held.get(names[0], "cpu", "fp32")
    room = iter([(0, 100), (10**12, 10**12)])  # short, until one has gone
    monkeypatch.setattr(models, "_memory", lambda: next(room))
    held.get(names[2], "cpu", "fp32")
    held.get(names[0], "cpu", "fp32")
    assert loaded == names
    monkeypatch.setattr(models, "_memory", lambda: (10**12, 10**12))
    held.get(names[1], "cpu", "fp32")
    assert loaded == [*names, names[1]]


def test_there_are_never_more_than_the_limit(
    names: list[str], loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "MAX_MODELS", 2)
    held = Models()
    for name in (*names, names[2], names[1], names[0]):
        held.get(name, "cpu", "fp32")
    assert loaded == [*names, names[0]]


def test_a_model_that_does_not_fit_beside_the_others_is_tried_once_more_alone(
    names: list[str], loaded: list[str]
) -> None:
    held = Models()
    held.get(names[0], "cpu", "fp32")
    tries = []

    def work() -> str:
        tries.append(len(held._held))
        if held._held:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert held.retry_alone(work) == "done"
    assert tries == [1, 0]

    def too_large() -> str:
        tries.append(0)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        held.retry_alone(too_large)
    assert len(tries) == 3  # nothing more could be let go


def test_a_model_that_went_away_is_not_found_though_it_was_held(names: list[str], home: Path) -> None:
    path = make_endless("leaving")
    held = Models()
    held.get("leaving", "cpu", "fp32")
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    with pytest.raises(ModelNotFoundError):
        held.get("leaving", "cpu", "fp32")


def test_the_memory_of_this_machine_is_told_in_bytes_where_it_is_known() -> None:
    memory = models._memory()
    if memory is not None:
        free, total = memory
        assert 0 < free <= total
        assert total > 100_000_000
