"""The training loop: a text and settings in, checkpoints and metrics out. It writes to a run directory and tells an
observer what happens; it knows nothing of screens, and nothing of who reads the directory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import torch

from engine.catalog import Record, read_record
from engine.checkpoints import LoadedModel, load_model
from engine.config import MAX_STEPS, SamplingParams, TrainConfig
from engine.devices import DTYPES, resolve_device
from engine.errors import DataError, InvalidSettingError, MiniGPTError, TrainingDivergedError
from engine.evaluation import evaluate
from engine.inference.generator import Generation
from engine.model.gpt import GPT
from engine.text.batches import Batches, paragraph_starts
from engine.text.corpus import Corpus, encode_documents
from engine.text.provenance import text_record
from engine.text.tokenizers import Tokenizer, train_tokenizer
from engine.training.events import Began, Ended, Evaluating, Sampled, Saved, Stepped, TrainEvent
from engine.training.keeping import Keeper
from engine.training.optimizers import clip_gradients, make_optimizers, set_learning_rate
from engine.training.precision import choose_precision
from engine.training.run import Metrics, RunDirectory, Sample, State, Status
from engine.training.schedules import learning_rate_share
from engine.validation import to_dict

STATUS_SECONDS = 1.0
"""`status.json` is renewed at most this often."""

HISTORY_POINTS = 200
"""Points of the loss curve that a checkpoint carries."""


class Trainer:
    """One training run, from the first step to the last.

    The global batch is a pure function of (seed, step) and dropout is seeded by (seed, step), so what a step does
    depends on nothing but the weights and the settings.
    """

    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        run: RunDirectory,
        observer: Callable[[TrainEvent], None],
        *,
        device: str = "auto",
    ) -> None:
        """Encode the text and build the model.

        Args:
            config: All settings.
            corpus: The text, split.
            run: Where to write.
            observer: Called with each event, between steps.
            device: auto, cpu, cuda or mps.

        Raises:
            DataError: The text is too short for one window, or a split for one token.
            InvalidSettingError: So many epochs are more steps than a run can have.
            DeviceError: The device is not there, or cannot compute in the precision.
        """
        self.corpus, self.run, self.observer = corpus, run, observer
        self.device = resolve_device(device)
        # an alphabet is of the whole text, or validation could not be read; merges are learned from the training split
        learned_from = corpus.train if config.tokenizer == "bpe" else (*corpus.train, *corpus.val, *corpus.test)
        self.tokenizer: Tokenizer = train_tokenizer(config.tokenizer, learned_from, config.vocab_size)
        self.train_tokens = encode_documents(self.tokenizer, corpus.train)
        self.val_tokens = encode_documents(self.tokenizer, corpus.val)
        self.test_tokens = encode_documents(self.tokenizer, corpus.test)
        self.batches = Batches(
            self.train_tokens,
            config.block_size,
            config.batch_size * config.accumulation,
            config.seed,
            self.tokenizer.eot_id,
            starts=paragraph_starts(self.train_tokens, self.tokenizer),
        )
        for split, tokens in (("validation", self.val_tokens), ("test", self.test_tokens)):
            if len(tokens) == 1:
                raise DataError(f"the {split} split has fewer than two tokens", "use a longer text")
        self.config, self.steps = config, config.steps
        if config.epochs is not None:
            self.steps = max(1, round(config.epochs * self.batches.batches_per_epoch))
            if self.steps > MAX_STEPS:
                hint = f"a run has at most {MAX_STEPS:,}; choose fewer epochs"
                raise InvalidSettingError(f"epochs={config.epochs:g} of this text are {self.steps:,} steps", hint)
        self.gpt = GPT(config.model_config(self.tokenizer.vocab_size))
        self.gpt.initialize(torch.Generator().manual_seed(config.seed))
        self.gpt.to(self.device)
        self.optimizers = make_optimizers(self.gpt, config)
        self.precision = choose_precision(config, self.device)
        self.metrics: list[Metrics] = []
        self.keeper = Keeper(run)
        self.step = 0
        self._stopping = False
        self._began = time.perf_counter()
        self._status_at = 0.0

    def stop(self) -> None:
        """Save and end at the next step's boundary."""
        self._stopping = True

    def train(self) -> Ended:
        """Run to the end, or to `stop`.

        Returns:
            How it ended. Validation and test losses are over the whole splits; the training loss is over a part of
            its split as long as the validation split, spread evenly.

        Raises:
            TrainingDivergedError: A loss is not finite; the checkpoints before it are kept.
            CheckpointError: A checkpoint cannot be written; those before it are kept.
        """
        self._began = time.perf_counter()
        try:
            self.observer(self._describe())
            self._write_status("running", force=True)
            metrics = self._take_step()
            while not self._is_last():
                self._between(metrics)
                metrics = self._take_step()
            ended = self._finish(metrics, "stopped" if self._stopping and self.step < self.steps else "finished")
        except BaseException as error:
            self._leave_word(error)
            raise
        self.run.close()
        return ended

    def _leave_word(self, error: BaseException) -> None:
        """Write down why the run crashed, the status first; where the disk is full, as much as it takes."""
        reason = str(error) if isinstance(error, MiniGPTError) else f"{type(error).__name__}: {error}"
        with suppress(OSError):
            self._write_status("crashed", force=True, reason=reason)
        with suppress(OSError):
            self.run.log(f"crashed at step {self.step}: {reason}")
        with suppress(OSError):
            self.run.close()

    # One step

    def _take_step(self) -> Metrics:
        began = time.perf_counter()
        config, step = self.config, self.step
        share = learning_rate_share(config, step, self.steps)
        set_learning_rate(self.optimizers, share)
        x, y = (torch.from_numpy(ids) for ids in self.batches.batch(step))  # (B x accumulation, T)
        torch.manual_seed(_mix(config.seed, step))  # dropout
        loss = 0.0
        for first in range(0, len(x), config.batch_size):
            inputs, targets = x[first : first + config.batch_size], y[first : first + config.batch_size]
            with self._autocast():
                part = self.gpt.loss(inputs.to(self.device), targets.to(self.device)) / config.accumulation
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.item()
        grad_norm = clip_gradients(self.gpt, config.grad_clip)
        if not (np.isfinite(loss) and np.isfinite(grad_norm)):
            what, value = ("gradient's norm", grad_norm) if np.isfinite(loss) else ("loss", loss)
            self._diverged(what, value, step + 1)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step = step + 1
        return Metrics(
            step=self.step,
            time=round(time.perf_counter() - self._began, 3),
            tokens=self.step * x.numel(),
            train_loss=loss,
            lr=config.learning_rate * share,
            grad_norm=grad_norm,
            tokens_per_second=round(x.numel() / (time.perf_counter() - began), 1),
        )

    def _is_last(self) -> bool:
        return self.step >= self.steps or self._stopping or self._out_of_patience()

    def _between(self, metrics: Metrics) -> None:
        """Evaluate, save and sample where it is due after a step that is not the last."""
        config = self.config
        due = bool(config.eval_interval) and self.step % config.eval_interval == 0
        is_best = False
        if due and len(self.val_tokens):
            val_loss = self._evaluate(self.gpt, self.val_tokens, limit=config.eval_tokens)
            if not np.isfinite(val_loss):
                self._diverged("validation loss", val_loss, self.step)
            metrics = msgspec.structs.replace(metrics, val_loss=val_loss)
            is_best = self.keeper.is_new_best(self.step, val_loss)
        self._write_metrics(metrics)
        self._tell(metrics)
        if is_best or (self.step % config.save_interval == 0 if config.save_interval else due):
            self._save({"val": metrics.val_loss})
        if self.step % config.sample_interval == 0 if config.sample_interval else due:
            self._sample()
        self._write_status("running")

    def _write_metrics(self, metrics: Metrics) -> None:
        self.metrics.append(metrics)
        self.run.append_metrics(metrics)

    def _tell(self, metrics: Metrics) -> None:
        best = self.keeper.best
        best_loss, best_step = (best.loss, best.step) if best else (None, None)
        self.observer(Stepped(metrics=metrics, best_val_loss=best_loss, best_step=best_step))

    def _diverged(self, what: str, value: float, step: int) -> NoReturn:
        saved = self.keeper.saved
        kept = f"the checkpoint of step {max(saved)} is kept" if saved else "no checkpoint was written yet"
        lower = "learning_rate" if self.config.optimizer == "adamw" else "muon_learning_rate and learning_rate"
        raise TrainingDivergedError(f"the {what} became {value} at step {step}; {kept}", f"try a lower {lower}")

    def _out_of_patience(self) -> bool:
        patience, best = self.config.patience, self.keeper.best
        if not patience or best is None:
            return False
        since = [metrics for metrics in self.metrics if metrics.val_loss is not None and metrics.step > best.step]
        return len(since) >= patience

    # Evaluating, saving, sampling

    def _evaluate(self, gpt: GPT, tokens: Any, *, limit: int | None = None) -> float:
        def report(done: int, total: int) -> None:
            self.observer(Evaluating(done=done, total=total))
            self._write_status("running")

        return evaluate(gpt, self.tokenizer, tokens, limit=limit, progress=report).loss

    def _held_out(self, gpt: GPT) -> dict[str, float]:
        """The losses of a model over the whole of the splits that it was not trained on."""
        splits = {"val": self.val_tokens, "test": self.test_tokens}
        return {split: self._evaluate(gpt, tokens) for split, tokens in splits.items() if len(tokens)}

    def _finish(self, metrics: Metrics, state: State) -> Ended:
        """Evaluate over whole splits, save the last checkpoint, and find the best of those that are kept.

        Whatever is not finite is found before it is saved, as JSON has no way to write it.
        """
        like_val = max(len(self.val_tokens), self.config.block_size + 1)
        losses = {"train": self._evaluate(self.gpt, self.train_tokens, limit=like_val)} | self._held_out(self.gpt)
        for split, loss in losses.items():
            if not np.isfinite(loss):
                self._diverged(f"loss of the {split} split", loss, self.step)
        metrics = msgspec.structs.replace(metrics, val_loss=losses.get("val"))
        self._write_metrics(metrics)
        best_path = self._save(losses)
        if "val" in losses:
            best_path = self.keeper.settle({self.step: losses["val"]}, self._measure_saved)
        self._tell(metrics)  # not before it is settled which step is the best
        best = self.keeper.best
        self._sample()
        ended = Ended(
            state=state,
            step=self.step,
            seconds=time.perf_counter() - self._began,
            val_loss=best.loss if best else None,
            train_loss=losses["train"],
            test_loss=read_record(best_path).losses.get("test"),
            best=best_path,
        )
        self.run.log(f"{state} at step {self.step}; {best_path.name} is the best, its validation loss {ended.val_loss}")
        self._write_status(state, force=True)
        self.observer(ended)
        return ended

    def _measure_saved(self, checkpoint: Path) -> dict[str, float]:
        return self._held_out(load_model(str(checkpoint), self.device, "fp32").gpt)

    def _save(self, losses: Mapping[str, float | None]) -> Path:
        record = Record(
            run=self.run.name,
            step=self.step,
            tokens_seen=self.metrics[-1].tokens if self.metrics else 0,
            seconds=round(time.perf_counter() - self._began, 1),
            losses={name: loss for name, loss in losses.items() if loss is not None},
            data=text_record(self.corpus, len(self.train_tokens), len(self.val_tokens), len(self.test_tokens)),
            training=to_dict(self.config) | {"steps": self.steps, "precision": self.precision},
            history=_thinned(self.metrics),
            device=self.device,
        )
        path = self.keeper.save(self.gpt, self.tokenizer, record)
        self.run.log(f"saved step {self.step}")
        self.observer(Saved(step=self.step, path=path))
        return path

    def _sample(self) -> None:
        ids, prompt, left_out = self.tokenizer.encode_prompt(self.config.sample_prompt)
        params = SamplingParams(max_new_tokens=self.config.sample_tokens, seed=self.config.seed)
        self.gpt.eval()
        try:
            model = LoadedModel("", None, self.gpt, self.tokenizer, Record(), self.device, "fp32", "")
            generation = Generation(model, ids, params)
            text = "".join(token.text for token in generation) + generation.tail
        finally:
            self.gpt.train()
        if left_out:
            self.run.log(f"the sample prompt has characters that the text does not: {left_out}")
        sample = Sample(step=self.step, prompt=prompt, text=text, seed=self.config.seed)
        self.run.append_sample(sample)
        self.observer(Sampled(sample=sample))

    # What the run is

    def _describe(self) -> Began:
        config = self.config
        return Began(
            parameters=self.gpt.parameter_count(),
            vocab_size=self.tokenizer.vocab_size,
            tokens_per_step=config.batch_size * config.accumulation * config.block_size,
            steps=self.steps,
            train_tokens=len(self.train_tokens),
            val_tokens=len(self.val_tokens),
            device=self.device,
            precision=self.precision,
        )

    def _write_status(self, state: State, *, force: bool = False, reason: str = "") -> None:
        if not force and time.monotonic() - self._status_at < STATUS_SECONDS:
            return
        self._status_at = time.monotonic()
        evaluated = [metrics.val_loss for metrics in self.metrics if metrics.val_loss is not None]
        best = self.keeper.best
        self.run.write_status(
            Status(
                state=state,
                step=self.step,
                steps=self.steps,
                started=time.time() - (time.perf_counter() - self._began),
                train_loss=self.metrics[-1].train_loss if self.metrics else None,
                val_loss=evaluated[-1] if evaluated else None,
                best_val_loss=best.loss if best else None,
                best_step=best.step if best else None,
                parameters=self.gpt.parameter_count(),
                device=self.device,
                precision=self.precision,
                reason=reason,
            )
        )

    # Arithmetic

    def _autocast(self) -> Any:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, dtype=DTYPES[self.precision])


def _mix(seed: int, step: int) -> int:
    """One 63-bit seed from a seed and a step, so that neighbouring ones share nothing."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def _thinned(metrics: list[Metrics]) -> list[tuple[int, float | None, float | None]]:
    """At most about HISTORY_POINTS (step, mean train loss since the last point, validation loss or None)."""
    stride = max(1, len(metrics) // HISTORY_POINTS)
    points: list[tuple[int, float | None, float | None]] = []
    for start in range(0, len(metrics), stride):
        piece = metrics[start : start + stride]
        vals = [m.val_loss for m in piece if m.val_loss is not None]
        mean = sum(m.train_loss for m in piece) / len(piece)
        points.append((piece[-1].step, round(mean, 5), round(vals[-1], 5) if vals else None))
    return points
