"""The training loop: it takes steps, does what is due after each, obeys, and writes the run's directory. Once the
checkpoint of a step is there, everything of that step is: its line of metrics, its sample, what it was evaluated at.
It knows nothing of screens, nor of who reads the directory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np

from engine.catalog import Record
from engine.checkpoints import load_model, write_record
from engine.errors import TrainingDivergedError
from engine.text.batches import Batches
from engine.training import epochs
from engine.training.control import Wanted
from engine.training.distributed import ALONE, Team
from engine.training.drafting import leave_table
from engine.training.examining import Examiner
from engine.training.keeping import Keeper
from engine.training.orders import Orders, Stopped
from engine.training.run import Metrics, RunDirectory, Sample, State, Status
from engine.training.setup import Prepared
from engine.training.state import EpochSums, Progress
from engine.training.status_writer import StatusWriter
from engine.training.stepper import Stepper
from engine.training.stopwatch import Stopwatch
from engine.training.trackers import Tracker
from engine.validation import to_dict

RECENT_STEPS = 20
"""The speed that the status tells is a mean over these."""

PAUSE_POLL_SECONDS = 0.05
"""How often a run that waits looks whether it may go on."""


class Trainer:
    """One training run, from the step where it begins or goes on to its end.

    The global batch is a pure function of (seed, step) and dropout is seeded by (seed, step, rank), so what a step does
    depends on nothing but the weights, what the optimizers remember, and the settings.

    Args:
        run: Where to write; in all but the lead of a team an `Onlooker`.
        prepared: What the run begins or goes on with.
        orders: What it obeys.
        status: Where it tells how it goes.
        trackers: Who is told of it beside.
        team: The processes that train together; the lead alone writes.

    Raises:
        DataError: The text is too short for one window.
        InvalidSettingError: So many epochs are more steps than a run can have.
    """

    def __init__(
        self,
        run: RunDirectory,
        prepared: Prepared,
        orders: Orders,
        status: StatusWriter,
        *,
        trackers: Sequence[Tracker] = (),
        team: Team = ALONE,
    ) -> None:
        self.run, self.orders, self.status, self.trackers, self.team = run, orders, status, trackers, team
        self.run_config, self.config = prepared.config, prepared.config.training
        self.device, self.precision = prepared.device, prepared.precision
        self.text, self.tokenizer = prepared.text, prepared.text.tokenizer
        self.batches = Batches(
            self.text.train,
            self.config.block_size,
            self.config.batch_size * self.config.accumulation,
            self.config.seed,
            self.tokenizer.eot_id,
            starts=self.text.starts,
        )
        self.steps = epochs.run_length(self.config, self.batches.batches_per_epoch)
        self.parameters = prepared.gpt.parameter_count()
        self.stepper = Stepper(
            prepared.gpt.to(self.device),
            self.config,
            self.steps,
            self.batches,
            device=self.device,
            precision=self.precision,
            team=team,
            report=run.log,
        )
        if prepared.tensors:
            self.stepper.load_state(prepared.tensors)
        self.progress: Progress = prepared.progress
        self.keeper = Keeper(run, self.steps)
        self.examiner = Examiner(self.tokenizer, self.config, self.device, status, self._obey, team)
        self.watch = Stopwatch(self.progress.seconds)
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT_STEPS)  # tokens and seconds of a step
        self._saved: tuple[int, bool] | None = None  # step of the last checkpoint, and whether the step was concluded

    def train(self) -> Status:
        """Run to the end, or until a stop is asked for.

        Returns:
            The status in which it ended: finished, or stopped.

        Raises:
            TrainingDivergedError: A loss is not finite; the checkpoints before it are kept.
            CheckpointError: A checkpoint cannot be written; those before it are kept.
        """
        self._begin()
        state: State = "finished"
        try:
            if self.progress.pending is not None:
                self._conclude(self.progress.pending)
            while not self._is_over(self.progress):
                self._obey()
                self._take_step()
            self._finish()
        except Stopped:
            if self.progress.step:
                self._save_unless_saved()
            state = "stopped"
            self.run.log(f"stopped at step {self.progress.step}")
        return self._end(state)

    def _begin(self) -> None:
        progress = self.progress
        written = progress.step - (progress.pending is not None)  # the line of a step that is pending is written anew
        if self.team.is_lead:
            self.keeper.take_stock(progress)
        is_there = self.run.checkpoint(progress.step) in self.keeper.saved.values()
        if self.team.lead_says([is_there])[0]:
            self._saved = progress.step, progress.pending is None
        if (self.run.path / "metrics.jsonl").exists():
            self.run.append_resumed(written)
            self.run.log(f"goes on from step {progress.step} of {self.steps}")
        config, best = self.config, progress.best
        if self._is_over(progress) and progress.step < self.steps:
            self.run.log(f"{progress.since_best} evaluations without a gain: it goes on with patience=0")
        if left_out := self.tokenizer.encode_prompt(config.sample_prompt)[2]:
            self.run.log(f"the sample prompt has characters that the text does not: {left_out}")
        self.status.write(
            state="running",
            activity="",
            done=0.0,
            step=progress.step,
            steps=self.steps,
            seconds=progress.seconds,
            tokens=progress.tokens,
            tokens_per_second=0.0,
            train_loss=progress.train_loss,
            val_loss=progress.val_loss,
            best_val_loss=best.loss if best else None,
            best_step=best.step if best else None,
            test_loss=None,
            best="",
            parameters=self.parameters,
            vocab_size=self.tokenizer.vocab_size,
            tokens_per_step=self.batches.batch_size * config.block_size,
            train_tokens=len(self.text.train),
            val_tokens=len(self.text.val),
            device=self.device,
            precision=self.precision,
            threads=self.run_config.threads,
        )
        begun = msgspec.structs.replace(self.status.status, step=written)
        for tracker in self.trackers:
            tracker.begin(self.run_config, begun)
        self.watch.start()

    # A step, and what is due after it

    def _is_over(self, progress: Progress) -> bool:
        is_out_of_patience = bool(self.config.patience) and progress.since_best >= self.config.patience
        return progress.step >= self.steps or is_out_of_patience

    def _take_step(self) -> None:
        began, before = time.perf_counter(), self.progress
        result = self.stepper.take(before.step)
        step = before.step + 1
        if not result.is_finite:
            what, value = ("gradient's norm", result.grad_norm) if np.isfinite(result.loss) else ("loss", result.loss)
            self._diverged(what, value, step)
        self._recent.append((result.tokens, time.perf_counter() - began))
        metrics = Metrics(
            step=step,
            time=round(self.watch.seconds, 3),
            tokens=before.tokens + result.tokens,
            train_loss=result.loss,
            lr=result.lr,
            grad_norm=result.grad_norm,
            tokens_per_second=round(result.tokens / self._recent[-1][1], 1),
        )
        self.progress = msgspec.structs.replace(
            before, step=step, tokens=metrics.tokens, train_loss=result.loss, pending=metrics
        )
        self.status.tell(
            step=step,
            seconds=metrics.time,
            tokens=metrics.tokens,
            tokens_per_second=sum(tokens for tokens, _ in self._recent) / sum(spent for _, spent in self._recent),
            train_loss=result.loss,
        )
        self._conclude(metrics)

    def _conclude(self, metrics: Metrics) -> None:
        """Do all that is due after a step: evaluate, write its line, sample, and save when everything else is there."""
        config, step = self.config, metrics.step
        is_due = bool(config.eval_interval) and step % config.eval_interval == 0
        if is_due or step >= self.steps:
            try:
                metrics = self._evaluated(metrics)
            except Stopped:
                self._write_line(metrics)
                raise
        progress = self.progress.concluded(metrics)
        self._write_line(metrics)
        is_over = self._is_over(progress)
        if is_over or (step % config.sample_interval == 0 if config.sample_interval else is_due):
            self._sample()
        seconds, each = self.watch.seconds, self.batches.batches_per_epoch
        if config.epochs is not None and (number := epochs.ends(step, each, is_over)):
            self.run.log(epochs.summary(number, config.epochs, progress.epoch, seconds, metrics.lr))
            progress = msgspec.structs.replace(progress, epoch=EpochSums(since=seconds))
        self.progress = progress
        best = progress.best
        self.status.tell(
            val_loss=progress.val_loss,
            best_val_loss=best.loss if best else None,
            best_step=best.step if best else None,
        )
        is_best = best is not None and best.step == step
        if is_over or is_best or (step % config.save_interval == 0 if config.save_interval else is_due):
            self._save()

    def _write_line(self, metrics: Metrics) -> None:
        self.run.append_metrics(metrics)
        for tracker in self.trackers:
            tracker.metrics(metrics)

    def _diverged(self, what: str, value: float, step: int) -> NoReturn:
        saved = self.keeper.saved
        kept = f"the checkpoint of step {max(saved)} is kept" if saved else "no checkpoint was written yet"
        lower = "learning_rate" if self.config.optimizer == "adamw" else "muon_learning_rate and learning_rate"
        raise TrainingDivergedError(f"the {what} became {value} at step {step}; {kept}", f"try a lower {lower}")

    # What is asked of it

    def _wishes(self) -> tuple[Wanted, bool]:
        """What is wanted, and whether a checkpoint is: the lead's word, as all processes must decide alike."""
        wanted = self.orders.wanted
        told = self.team.lead_says([WANTED.index(wanted), float(self.orders.take_save())])
        return WANTED[int(told[0])], bool(told[1])

    def _obey(self) -> None:
        """Wait or save where that is asked for.

        Raises:
            Stopped: A stop is asked for.
        """
        wanted, save = self._wishes()
        if save:
            self._save_unless_saved()
        if wanted == "pause":
            wanted = self._wait()
        if wanted == "stop":
            raise Stopped

    def _wait(self) -> Wanted:
        """Wait as long as a pause is wanted; the time does not count."""
        self.watch.stop()
        self.run.sync_lines()
        self.run.log(f"paused at step {self.progress.step}")
        self.status.write(state="paused")
        while True:
            wanted, save = self._wishes()
            if save:
                self._save_unless_saved()
            if wanted != "pause":
                break
            time.sleep(PAUSE_POLL_SECONDS)
        self.status.write(state="running")
        self.watch.start()
        return wanted

    # Evaluating, sampling, saving

    def _evaluated(self, metrics: Metrics) -> Metrics:
        """The line of a step with the losses of the validation and the training split, of `eval_tokens` each."""
        val, train, limit, val_loss = self.text.val, self.text.train, self.config.eval_tokens, None
        with self.stepper.whole_model() as gpt:
            if len(val):
                val_loss = self.examiner.loss(gpt, val, "evaluating", limit, last=0.5)
            train_split_loss = self.examiner.loss(gpt, train, "evaluating", limit, first=0.5 if len(val) else 0.0)
        for what, loss in (("validation loss", val_loss), ("loss of the training split", train_split_loss)):
            if loss is not None and not np.isfinite(loss):  # before it is saved, as JSON has no way to write it
                self._diverged(what, loss, metrics.step)
        return msgspec.structs.replace(metrics, val_loss=val_loss, train_split_loss=train_split_loss)

    def _sample(self) -> None:
        with self.stepper.whole_model() as gpt:
            if not self.team.is_lead:
                return
            prompt, text = self.examiner.sample(gpt)
        sample = Sample(step=self.progress.step, prompt=prompt, text=text, seed=self.config.seed)
        self.run.append_sample(sample)
        for tracker in self.trackers:
            tracker.sample(sample)

    def _save_unless_saved(self) -> None:
        if self.progress.step and self._saved != (self.progress.step, self.progress.pending is None):
            self._save()

    def _save(self) -> None:
        progress = msgspec.structs.replace(self.progress, seconds=self.watch.seconds)
        tensors = self.stepper.state()  # every process of a team gives its share
        with self.stepper.whole_model() as gpt:
            if self.team.is_lead:
                before = self.status.status.activity
                self.status.tell(activity="saving")
                self.run.sync_lines()
                self.keeper.save(gpt, self.tokenizer, self._record(progress), tensors, progress)
                self.status.tell(activity=before)
                self.run.log(f"saved step {progress.step}")
                leave_table(self.run, self.text.train, gpt.config.vocab_size)
        self._saved = progress.step, progress.pending is None

    def _record(self, progress: Progress) -> Record:
        is_evaluated = progress.evaluated == progress.step
        losses = {"val": progress.val_loss, "train": progress.train_split_loss} if is_evaluated else {}
        return Record(
            run=self.run.name,
            step=progress.step,
            tokens_seen=progress.tokens,
            seconds=round(progress.seconds, 1),
            losses={split: loss for split, loss in losses.items() if loss is not None},
            data=self.text.data,
            training=to_dict(self.config) | {"steps": self.steps, "precision": self.precision},
            history=progress.history.rounded(progress.step),
            device=self.device,
        )

    # The end

    def _finish(self) -> None:
        """Evaluate what is kept over whole splits, find the best of it, and measure that on the test split."""
        self._save_unless_saved()
        if not self.team.is_lead:
            return
        self.team = self.examiner.team = ALONE  # the others have nothing left to do
        path, record = self.keeper.settle(self.progress.best, self._measure)
        if len(self.text.test):
            model = load_model(str(path), self.device, "fp32")
            loss = self.examiner.loss(model.gpt, self.text.test, "evaluating on the test split")
            record = msgspec.structs.replace(record, losses=record.losses | {"test": loss})
            write_record(path, record)
        val_loss = record.losses.get("val")
        self.status.tell(
            best_val_loss=val_loss,
            best_step=record.step if val_loss is not None else None,
            test_loss=record.losses.get("test"),
            best=path.name,
        )
        told = "" if val_loss is None else f", its validation loss {val_loss:.4f}"
        self.run.log(f"finished at step {self.progress.step}; {path.name} is the best{told}")

    def _measure(self, path: Path, record: Record) -> float | None:
        """The validation loss of a checkpoint over the whole split; None without a split."""
        if not len(self.text.val):
            return None
        if self.config.eval_tokens >= len(self.text.val) - 1 and "val" in record.losses:
            return record.losses["val"]  # it was of the whole already
        model = load_model(str(path), self.device, "fp32")
        return self.examiner.loss(model.gpt, self.text.val, f"evaluating {path.name} on the whole split")

    def _end(self, state: State) -> Status:
        """Close the files, write the last status, and tell the trackers, which may take their time."""
        self.watch.stop()
        best = self.progress.best
        if state == "stopped" and self.keeper.saved:
            step = best.step if best and best.step in self.keeper.saved else max(self.keeper.saved)
            self.status.tell(best=self.keeper.saved[step].name)
        self.status.tell(activity="", done=0.0, seconds=round(self.watch.seconds, 3))
        self.run.close()
        self.status.write(state=state)
        for tracker in self.trackers:
            tracker.end(self.run, self.status.status)
        return self.status.status


WANTED: tuple[Wanted, ...] = ("run", "pause", "stop")
