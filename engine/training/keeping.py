"""Which checkpoints of a run stay on disk: the best by validation loss and the last two whole, and about twelve evenly
spaced ones as models alone, to look back at how it learned. It writes and removes them, finds the one to go on from,
and decides at the end which is the best; it knows nothing of how a model is trained or a loss is measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from engine import catalog, safe_writing
from engine.catalog import STATE, Record, read_record
from engine.checkpoints import drop_training, save_checkpoint, write_record
from engine.errors import CheckpointError, MiniGPTError
from engine.model.gpt import GPT
from engine.text.tokenizers import Tokenizer
from engine.training.run import RunDirectory
from engine.training.state import Best, Progress, write_state

KEPT_LAST = 2
"""Checkpoints that are kept whatever their loss: the last one, and the one before it should that be damaged."""

MILESTONES = 12
"""A run's length is cut into so many parts, and the first checkpoint of each is kept as a model."""


class Keeper:
    """The checkpoints of one run. The best one must be saved when it is found, so that it is there to be kept.

    Attributes:
        saved: Where the checkpoints on disk are, by step.
        steps: Length of the run.
    """

    def __init__(self, run: RunDirectory, steps: int) -> None:
        self.run, self.steps = run, steps
        self.saved: dict[int, Path] = {}

    def take_stock(self, progress: Progress) -> None:
        """Find what is on disk before a run goes on, and bring it in order as if no save or removal was ever cut short.

        Args:
            progress: Where the run goes on; the checkpoints of later steps are removed.
        """
        sweep(self.run)
        for path in catalog.run_checkpoints(self.run.path):
            step = _step(path)
            if step > progress.step:
                self.run.log(f"removed the checkpoint of step {step}, from which the run cannot go on")
                safe_writing.remove_directory(path)
            elif step >= 0:
                self.saved[step] = path
        if self.saved:
            self._prune(progress.best)

    def save(
        self, gpt: GPT, tokenizer: Tokenizer, record: Record, tensors: Mapping[str, Tensor], progress: Progress
    ) -> Path:
        """Write the checkpoint of `record.step`, and remove what is no longer kept.

        Raises:
            CheckpointError: It cannot be written; those before it are all still there.
        """
        path = self.run.checkpoint(record.step)
        save_checkpoint(
            path, gpt, tokenizer, record, replace=True, write_training=lambda to: write_state(to, tensors, progress)
        )
        self.saved[record.step] = path
        self._prune(progress.best)
        return path

    def whole(self, best: Best | None) -> set[int]:
        """The steps whose checkpoints are kept whole."""
        return set(sorted(self.saved)[-KEPT_LAST:]) | ({best.step} & set(self.saved) if best else set())

    def _prune(self, best: Best | None) -> None:
        whole = self.whole(best)
        models = milestones(self.saved, self.steps) - whole
        for step in sorted(set(self.saved) - whole):
            with suppress(FileNotFoundError, CheckpointError):  # somebody was quicker
                if step in models:
                    drop_training(self.saved[step])
                elif self._remove(self.saved[step]):
                    del self.saved[step]

    def _remove(self, path: Path) -> bool:
        """Remove a checkpoint; false where somebody has it open on a system that lets it stay then: the next time."""
        try:
            safe_writing.remove_directory(path)
        except FileNotFoundError:
            return True
        except PermissionError:
            if not safe_writing.OPEN_FILES_STAY:
                raise
            return False
        return True

    def settle(self, best: Best | None, measure: Callable[[Path, Record], float | None]) -> tuple[Path, Record]:
        """Find the best checkpoint by losses over whole splits, and write down those that are kept whole.

        While a run goes on its losses may be of parts of the splits; at the end those that matter are of the whole.

        Args:
            best: The best so far.
            measure: The validation loss of a checkpoint over the whole split, or None without a split; a checkpoint
                that cannot be read is left out.

        Returns:
            The checkpoint that goes by the run's name from now on, and its record.
        """
        settled: dict[int, Record] = {}
        for step in sorted(self.whole(best)):  # the last one last: it tells that the run was settled
            path = self.saved[step]
            try:
                record = read_record(path)
                if (loss := measure(path, record)) is not None:
                    if record.running_val_loss is None:
                        record.running_val_loss = record.losses.get("val", loss)
                    record.losses = record.losses | {"val": loss}
                    write_record(path, record)
            except MiniGPTError as error:
                self.run.log(f"the checkpoint of step {step} is left out: {error}")
                continue
            settled[step] = record
        for step in set(self.saved) - self.whole(best):  # of an earlier end, before the run was extended
            with suppress(CheckpointError):
                if (record := read_record(self.saved[step])).running_val_loss is not None:
                    settled[step] = record
        if not settled:
            raise CheckpointError(f"none of the checkpoints of {self.run.name} can be read", "see its log")
        step = min(settled, key=lambda step: (settled[step].losses.get("val", 0.0), -step))
        return self.saved[step], settled[step]


def milestones(saved: Iterable[int], steps: int) -> set[int]:
    """The first of the saved steps in each of MILESTONES parts of a run's length."""
    first: dict[int, int] = {}
    for step in sorted(saved):
        first.setdefault(step * MILESTONES // steps, step)
    return set(first.values())


def resume_point(run: RunDirectory, say: Callable[[str], None]) -> Path | None:
    """The last checkpoint that a run can go on from, or None when it has none yet.

    Args:
        run: The run.
        say: Told what is wrong with later ones.

    Raises:
        CheckpointError: None of those that are there has all that it takes: they stay, as the models they are.
    """
    checkpoints = catalog.run_checkpoints(run.path)
    for path in reversed(checkpoints):
        try:
            is_whole = STATE in read_record(path).files
            problems = catalog.verify_checkpoint(path)
        except CheckpointError as error:
            is_whole, problems = True, [error.message]
        if is_whole and not problems:
            return path
        if problems:
            say(f"the checkpoint {path.name} is damaged ({'; '.join(problems)}); looking at the one before it")
    if checkpoints:
        hint = f"begin another run with one of them: train --like {run.name} --from {run.name}:{checkpoints[-1].name}"
        raise CheckpointError(f"the run {run.name} cannot go on from any of its checkpoints", hint)
    return None


def sweep(run: RunDirectory) -> None:
    """Remove what killed writers left in a run's directory. For the process alone that drives it."""
    checkpoints = run.path / "checkpoints"
    safe_writing.recover_all(checkpoints)
    for folder in (run.path, checkpoints, *checkpoints.glob("step-*")):
        safe_writing.clear_abandoned(folder)
    for left in run.path.glob(".status.json.writing-*"):
        left.unlink(missing_ok=True)
    for path in checkpoints.glob(f"step-*/{catalog.TRAINING}"):
        with suppress(CheckpointError):  # a damaged record says nothing of it
            if STATE not in read_record(path.parent).files:
                shutil.rmtree(path, ignore_errors=True)


def _step(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1
