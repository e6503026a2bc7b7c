"""Folders that the user added for models, and keeping order among one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from engine import catalog, folders, own_models
from engine.errors import CheckpointError
from engine.model_folders import added_folders


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch, tiny_model) -> Path:
    """A home with the tiny model in it as `mine`, for one test alone."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    shutil.copytree(tiny_model, folders.user_checkpoints() / "mine")
    folders.config_home().mkdir(parents=True)
    return tmp_path


def add(*names: object) -> None:
    quoted = ", ".join(f'"{name}"' for name in names)
    (folders.config_home() / "config.toml").write_text(f"# mine\nmodel_folders = [{quoted}]\n")


def names() -> list[str]:
    return [info.name for info in catalog.list_checkpoints()]


def test_models_in_an_added_folder_are_found_by_name_everywhere(own_home, tiny_model):
    shutil.copytree(tiny_model, own_home / "other" / "theirs")
    assert "theirs" not in names()
    add(own_home / "other")
    assert "theirs" in names()
    assert catalog.find_checkpoint("theirs") == own_home / "other" / "theirs"


def test_an_added_folder_may_be_a_model_itself(own_home, tiny_model):
    shutil.copytree(tiny_model, own_home / "alone")
    add(own_home / "alone")
    assert "alone" in names()
    assert catalog.find_checkpoint("alone") == own_home / "alone"


def test_what_was_a_name_stays_one_when_a_folder_is_added(own_home, tiny_model):
    shutil.copytree(tiny_model, own_home / "other" / "mine")
    shutil.copytree(tiny_model, own_home / "other" / catalog.DEFAULT_MODEL)
    before = names()
    add(own_home / "other")
    assert names() == before
    assert catalog.find_checkpoint("mine").parent == folders.user_checkpoints()
    assert catalog.find_checkpoint("").parent == folders.bundled_checkpoints()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[model_folders\n",
        "model_folders = 3",
        'model_folders = [3, ""]',
        "\xff model_folders",
        "[a]\nmodel_folders = ['/x']",
    ],
)
def test_a_file_that_says_nothing_of_folders_adds_none(own_home, text):
    (folders.config_home() / "config.toml").write_bytes(text.encode("latin-1"))
    assert added_folders() == []
    assert "mine" in names()


def test_a_folder_that_is_gone_does_no_harm(own_home):
    add(own_home / "gone", "~nobody-here/models", "relative")
    assert "mine" in names()
    assert added_folders()[2] == folders.config_home() / "relative"


def test_ones_own_model_is_renamed_and_removed(own_home):
    renamed = own_models.rename_model(folders.user_checkpoints() / "mine", "yours")
    assert "yours" in names()
    assert "mine" not in names()
    assert catalog.verify_checkpoint(renamed) == []
    own_models.remove_model(renamed)
    assert "yours" not in names()
    assert not renamed.exists()


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a:b", "../x", "x" * 201, "a b", "mine"])
def test_a_name_that_is_none_or_taken_is_refused(own_home, name):
    with pytest.raises(CheckpointError):
        own_models.rename_model(folders.user_checkpoints() / "mine", name)
    assert "mine" in names()


def test_what_ships_and_what_lies_elsewhere_is_left_alone(own_home, tiny_model):
    shutil.copytree(tiny_model, own_home / "other" / "theirs")
    for path, reason in (
        (folders.bundled_checkpoints() / catalog.DEFAULT_MODEL, "ships with"),
        (own_home / "other" / "theirs", "not in your folder"),
    ):
        for change in (own_models.remove_model, lambda path: own_models.rename_model(path, "new")):
            with pytest.raises(CheckpointError, match=reason):
                change(path)
        assert path.is_dir()


@pytest.mark.posix
def test_of_a_link_the_link_alone_is_removed(own_home, tiny_model):
    (folders.user_checkpoints() / "link").symlink_to(tiny_model)
    own_models.remove_model(folders.user_checkpoints() / "link")
    assert "link" not in names()
    assert tiny_model.is_dir()


def test_of_a_run_a_milestone_can_go_but_not_the_best_nor_the_last(own_home, tiny_model):
    run = folders.runs_folder() / "demo"
    for step, loss in ((10, 2.0), (20, 1.0), (30, 3.0)):
        path = run / "checkpoints" / f"step-{step}"
        shutil.copytree(tiny_model, path)
        record = catalog.read_record(path)
        record.losses = {"val": loss}
        (path / "minigpt.json").write_bytes(msgspec.json.encode(record))
    for step in (20, 30):
        with pytest.raises(CheckpointError, match=r"the (best|last) of demo"):
            own_models.remove_milestone(run / "checkpoints" / f"step-{step}")
    own_models.remove_milestone(run / "checkpoints" / "step-10")
    assert [path.name for path in catalog.run_checkpoints(run)] == ["step-20", "step-30"]


def test_whoever_waits_for_the_hashes_is_told_how_far_they_are(own_home):
    seen: list[int] = []
    path = folders.user_checkpoints() / "mine"
    assert catalog.verify_checkpoint(path, seen.append) == []
    assert sum(seen) == sum((path / name).stat().st_size for name in catalog.read_record(path).files)
