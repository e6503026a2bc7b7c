"""A run keeps its best and last checkpoints whole and some on the way as models; its best is the one that it tells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_here import TINY, after_saving, dying, kill, new_run, take_up, tiny_text

from engine import catalog, checkpoints
from engine.checkpoints import load_model
from engine.errors import CheckpointError
from engine.evaluation import evaluate
from engine.training import keeping
from engine.training.keeping import MILESTONES, Keeper, milestones
from engine.training.run import RunDirectory
from engine.training.state import Best, read_state


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Make a run and its trainer, in a home of the test's own."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    text = tiny_text(tmp_path)
    return lambda config=TINY: take_up(new_run("demo", config, text))


@torch.no_grad()
def spoil(trainer):
    """Make the model worse than it began."""
    trainer.stepper.gpt.head.weight.normal_(0.0, 5.0)


def steps_of(run, *, whole=None):
    found = catalog.run_checkpoints(run.path)
    kept = [path for path in found if whole in (None, (path / catalog.STATE).exists())]
    return [int(path.name.removeprefix("step-")) for path in kept]


def val_loss(trainer, path):
    model = load_model(str(path))
    return evaluate(model.gpt, model.tokenizer, trainer.text.val).loss


def test_the_best_and_the_last_two_are_whole_and_milestones_are_models(start):
    trainer = start(TINY.replace(steps=48, eval_interval=3))
    after_saving(trainer, lambda step, _: spoil(trainer) if step >= 15 else None)
    ended = trainer.train()
    run = trainer.run
    assert ended.best_step == 15
    assert steps_of(run) == [3, 6, 9, 12, 15, 18, 21, 24, 30, 33, 36, 42, 45, 48]
    assert steps_of(run, whole=True) == [15, 45, 48]
    for path in catalog.run_checkpoints(run.path):
        assert catalog.verify_checkpoint(path) == []
        assert load_model(str(path)).record.step == int(path.name.removeprefix("step-"))
    assert not any(path.name.startswith(".") for path in (run.path / "checkpoints").iterdir())


@given(steps=st.integers(1, 5000), saved=st.lists(st.integers(1, 5000), unique=True))
def test_milestones_are_the_first_of_each_part_whatever_was_removed_before(steps, saved):
    saved = sorted(step for step in saved if step <= steps)
    kept: set[int] = set()
    for step in saved:  # as they come, with those that are no milestones removed at once
        kept = milestones({*kept, step}, steps)
    assert kept == milestones(saved, steps)
    assert len(kept) <= MILESTONES + 1
    for step in saved:
        assert any(other <= step and other * MILESTONES // steps == step * MILESTONES // steps for other in kept)


def test_a_model_is_loaded_without_its_training_state_and_exported_without_it(start, tmp_path, monkeypatch):
    trainer = start()
    trainer.train()
    path = trainer.run.checkpoint(12)
    assert catalog.STATE in catalog.read_record(path).files
    tensors, progress = read_state(path)
    assert progress.step == 12
    assert {name.partition(".")[0] for name in tensors} == {"adamw", "muon"}
    checkpoints.export_model("demo:last", tmp_path / "export")
    assert not (tmp_path / "export" / catalog.TRAINING).exists()
    assert not any("training" in name for name in catalog.read_record(tmp_path / "export").files)
    read, hash_file = [], catalog.hash_file
    monkeypatch.setattr(catalog, "hash_file", lambda file, *more: read.append(file.name) or hash_file(file, *more))
    load_model("demo:last")
    assert "state.safetensors" not in read
    (path / catalog.STATE).write_bytes(b"damaged")
    load_model("demo:last")
    (problem,) = catalog.verify_checkpoint(path)
    assert problem.startswith("training/state.safetensors is not what was written")


def test_a_checkpoint_that_loses_its_state_is_whole_at_every_moment(start, monkeypatch):
    trainer = start()
    trainer.train()
    path = trainer.run.checkpoint(12)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed before it is removed
    checkpoints.drop_training(path)
    assert (path / catalog.STATE).exists()
    assert catalog.verify_checkpoint(path) == []
    monkeypatch.undo()
    keeping.sweep(trainer.run)
    assert not (path / catalog.TRAINING).exists()
    assert load_model(str(path)).record.step == 12


def test_a_new_best_is_saved_whenever_it_is_found(start):
    trainer, saved = start(TINY.replace(steps=14, eval_interval=2, save_interval=5)), []

    def note(step, _):
        saved.append(step)
        if step == 2:
            spoil(trainer)

    after_saving(trainer, note)
    ended = trainer.train()
    assert saved == [2, 5, 10, 14]
    assert ended.best == "step-2" == catalog.find_checkpoint("demo").name


def test_checkpoints_come_at_their_interval(start):
    trainer, saved = start(TINY.replace(steps=10, eval_interval=0, save_interval=3)), []
    after_saving(trainer, lambda step, _: saved.append(step))
    trainer.train()
    assert saved == [3, 6, 9, 10]


@pytest.mark.parametrize("spoilt_after", [4, 8, 99])
def test_the_best_that_a_run_tells_is_the_one_that_goes_by_its_name(start, spoilt_after):
    trainer = start(TINY.replace(eval_tokens=32))
    after_saving(trainer, lambda step, _: spoil(trainer) if step == spoilt_after else None)
    ended = trainer.train()
    whole = [path for path in catalog.run_checkpoints(trainer.run.path) if (path / catalog.STATE).exists()]
    assert len(whole) >= 2
    losses = {path: val_loss(trainer, path) for path in whole}
    for path, loss in losses.items():  # of the whole split, so that they can be compared
        assert catalog.read_record(path).losses["val"] == pytest.approx(loss, abs=1e-6)
    best = min(losses, key=losses.get)
    assert ended.best == best.name == catalog.find_checkpoint("demo").name
    assert best == trainer.run.checkpoint(min(spoilt_after, 12))
    assert ended.best_val_loss == trainer.run.read_status().best_val_loss == pytest.approx(losses[best], abs=1e-6)


def pretend(run: Path, step: int, val: float | None, running: float | None = None):
    """A folder that says of itself what a checkpoint of this step would."""
    path = run / "checkpoints" / f"step-{step}"
    path.mkdir(parents=True, exist_ok=True)
    record = catalog.Record(step=step, losses={} if val is None else {"val": val}, running_val_loss=running)
    checkpoints.write_record(path, record)


def test_losses_of_parts_and_of_whole_splits_are_never_compared(tmp_path):
    def best():
        return catalog.run_checkpoint(tmp_path, "best").name

    for step, loss in ((10, 1.5), (20, 1.2), (30, 1.3), (40, 1.4)):
        pretend(tmp_path, step, loss)
    assert best() == "step-20"
    pretend(tmp_path, 20, 1.36, running=1.2)  # at the end, those that are whole are measured
    pretend(tmp_path, 30, 1.35, running=1.3)
    pretend(tmp_path, 40, 1.37, running=1.4)
    assert best() == "step-30"  # though 10 has a loss of a part that is lower than some
    pretend(tmp_path, 10, 1.0)
    assert best() == "step-30"
    pretend(tmp_path, 50, 1.19)  # the run was extended
    pretend(tmp_path, 10, 1.5)
    assert best() == "step-50"
    pretend(tmp_path, 50, 1.21)
    assert best() == "step-20"


def test_a_run_that_was_extended_tells_the_best_of_both_ends(tmp_path):
    pretend(tmp_path, 30, 1.1, running=1.3)  # the best of the first end, now a milestone
    for step, running in ((80, 1.2), (90, 1.25), (100, 1.27)):
        pretend(tmp_path, step, running)
    keeper = Keeper(RunDirectory(tmp_path), 100)
    keeper.saved = {step: keeper.run.checkpoint(step) for step in (30, 80, 90, 100)}
    path, record = keeper.settle(Best(1.2, 80), lambda path, record: record.losses["val"] + 0.05)
    assert (path.name, record.losses["val"]) == ("step-30", 1.1)
    assert catalog.run_checkpoint(tmp_path, "best") == path


def test_a_removal_that_is_cut_short_leaves_nothing_that_looks_like_a_checkpoint(start, monkeypatch):
    trainer = start(TINY.replace(steps=36, eval_interval=1))
    original = shutil.rmtree

    def killed(path, *args, **kwargs):
        weights = [file for file in Path(path).rglob("model.safetensors") if "step-4" in file.parts]
        if weights:
            weights[0].unlink()
            kill()
        original(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with dying(trainer):
        trainer.train()
    monkeypatch.undo()
    monkeypatch.setenv("MINIGPT_HOME", str(trainer.run.path.parents[2]))
    kept = steps_of(trainer.run)
    assert 4 not in kept
    assert all(catalog.verify_checkpoint(path) == [] for path in catalog.run_checkpoints(trainer.run.path))
    again = take_up(trainer.run)
    assert again.progress.step == kept[-1]
    again.keeper.take_stock(again.progress)
    assert not any(path.name.startswith(".") for path in (trainer.run.path / "checkpoints").iterdir())


def test_a_checkpoint_that_somebody_removed_does_not_stop_a_run(start):
    trainer = start(TINY.replace(steps=16))

    def remove_all(step, _):
        if step == 8:
            for path in catalog.run_checkpoints(trainer.run.path):
                shutil.rmtree(path)

    after_saving(trainer, remove_all)
    ended = trainer.train()
    assert steps_of(trainer.run) == [12, 16]
    assert ended.best in ("step-12", "step-16")


def test_a_run_whose_checkpoints_are_all_gone_at_the_end_says_so(start):
    trainer = start(TINY.replace(steps=4, eval_tokens=32))
    after_saving(trainer, lambda _, path: (path / "model.safetensors").write_bytes(b""))
    with pytest.raises(CheckpointError, match="none of the checkpoints of demo can be read"):
        trainer.train()
    assert "step 4 is left out" in (trainer.run.path / "log.txt").read_text()


def test_the_size_of_a_checkpoint_is_that_of_all_its_files(start):
    trainer = start()
    trainer.train()
    path = trainer.run.checkpoint(12)
    assert catalog.read_info(path).size == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert catalog.read_info(path).size > (path / catalog.STATE).stat().st_size > 0
    assert json.loads((path / "minigpt.json").read_text())["running_val_loss"] is not None
