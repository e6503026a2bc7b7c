"""The training loop: a text and settings in, checkpoints and metrics out. It writes to a run directory and tells an
observer what happens; it knows nothing of screens, and nothing of who reads the directory.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import torch

from engine.catalog import Record
from engine.checkpoints import LoadedModel, load_model, save_checkpoint, write_record
from engine.config import SamplingParams, TrainConfig
from engine.devices import DTYPES, resolve_device
from engine.errors import DataError, MiniGPTError, TrainingDivergedError
from engine.evaluation import Evaluation, evaluate
from engine.inference.generator import Generation
from engine.model.gpt import GPT
from engine.text.batches import Batches, paragraph_starts
from engine.text.corpus import Corpus, encode_documents
from engine.text.tokenizers import Tokenizer, train_tokenizer
from engine.training.events import Began, Ended, Evaluating, Sampled, Saved, Stepped, TrainEvent
from engine.training.optimizers import clip_gradients, make_optimizers, set_learning_rate
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
            DataError: The text is too short for one window.
            DeviceError: The device is not there.
        """
        self.corpus, self.run, self.observer = corpus, run, observer
        self.device = resolve_device(device)
        # an alphabet is of the whole text, or validation could not be read; merges are learned from the training split
        learned_from = corpus.train if config.tokenizer == "bpe" else (*corpus.train, *corpus.val, *corpus.test)
        self.tokenizer: Tokenizer = train_tokenizer(config.tokenizer, learned_from, config.vocab_size)
        self.train_tokens = encode_documents(self.tokenizer, corpus.train)
        self.val_tokens = encode_documents(self.tokenizer, corpus.val)
        self.batches = Batches(
            self.train_tokens,
            config.block_size,
            config.batch_size * config.accumulation,
            config.seed,
            self.tokenizer.eot_id,
            starts=paragraph_starts(self.train_tokens, self.tokenizer),
        )
        if len(corpus.val) and len(self.val_tokens) < 2:
            raise DataError("the validation split has fewer than two tokens", "use a longer text")
        self.config, self.steps = config, config.steps
        if config.epochs is not None:
            self.steps = max(1, round(config.epochs * self.batches.batches_per_epoch))
        self.gpt = GPT(config.model_config(self.tokenizer.vocab_size))
        self.gpt.initialize(torch.Generator().manual_seed(config.seed))
        self.gpt.to(self.device)
        self.optimizers = make_optimizers(self.gpt, config)
        self.precision = self._choose_precision()
        self.metrics: list[Metrics] = []
        self.best: tuple[float, int] | None = None
        self.saved: dict[int, Path] = {}
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
            How it ended, with the losses over the whole splits.

        Raises:
            TrainingDivergedError: The loss is not finite; the checkpoints before it are kept.
        """
        self._began = time.perf_counter()
        self.observer(self._describe())
        self._write_status("running", force=True)
        try:
            metrics = self._take_step()
            while not self._is_last():
                self._between(metrics)
                metrics = self._take_step()
            ended = self._finish(metrics, "stopped" if self._stopping and self.step < self.steps else "finished")
        except BaseException as error:
            reason = str(error) if isinstance(error, MiniGPTError) else f"{type(error).__name__}: {error}"
            self.run.log(f"crashed at step {self.step}: {reason}")
            self._write_status("crashed", force=True, reason=reason)
            raise
        finally:
            self.run.close()
        return ended

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
            self._diverged(loss)
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
        if due and len(self.val_tokens):
            val_loss = self._evaluate(self.val_tokens[: config.eval_tokens + 1]).loss
            metrics = msgspec.structs.replace(metrics, val_loss=val_loss)
            if self.best is None or val_loss < self.best[0]:
                self.best = (val_loss, self.step)
        self._record(metrics)
        if self.step % config.save_interval == 0 if config.save_interval else due:
            self._save(metrics.val_loss)
        if self.step % config.sample_interval == 0 if config.sample_interval else due:
            self._sample()
        self._write_status("running")

    def _record(self, metrics: Metrics) -> None:
        self.metrics.append(metrics)
        self.run.append_metrics(metrics)
        best_loss, best_step = self.best or (None, None)
        self.observer(Stepped(metrics=metrics, best_val_loss=best_loss, best_step=best_step))

    def _diverged(self, loss: float) -> NoReturn:
        kept = f"the checkpoint of step {max(self.saved)} is kept" if self.saved else "no checkpoint was written yet"
        lower = "learning_rate" if self.config.optimizer == "adamw" else "muon_learning_rate and learning_rate"
        raise TrainingDivergedError(f"the loss became {loss} at step {self.step + 1}; {kept}", f"try a lower {lower}")

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        if not patience or self.best is None:
            return False
        since = [metrics for metrics in self.metrics if metrics.val_loss is not None and metrics.step > self.best[1]]
        return len(since) >= patience

    # Evaluating, saving, sampling

    def _evaluate(self, tokens: Any) -> Evaluation:
        def report(done: int, total: int) -> None:
            self.observer(Evaluating(done=done, total=total))
            self._write_status("running")

        return evaluate(self.gpt, self.tokenizer, tokens, progress=report)

    def _finish(self, metrics: Metrics, state: State) -> Ended:
        """Evaluate the whole of both splits, save the last checkpoint, and find the best one by the whole split."""
        val = self._evaluate(self.val_tokens).loss if len(self.val_tokens) else None
        like_val = max(len(self.val_tokens), self.config.block_size + 1)
        train = self._evaluate(self.train_tokens[:like_val]).loss
        self._record(msgspec.structs.replace(metrics, val_loss=val))
        best_path = self._save(val, train)
        if val is not None:
            best_path = self._settle_best(val, best_path)
        self._sample()
        ended = Ended(
            state=state,
            step=self.step,
            seconds=time.perf_counter() - self._began,
            val_loss=self.best[0] if self.best else None,
            train_loss=train,
            best=best_path,
        )
        self.run.log(f"{state} at step {self.step}, validation loss {val}")
        self._write_status(state, force=True)
        self.observer(ended)
        return ended

    def _settle_best(self, val: float, last: Path) -> Path:
        """Compare the last checkpoint with the best so far, both over the whole split; the better one is the best."""
        if self.best is not None and self.best[1] != self.step and (path := self.saved.get(self.best[1])):
            rival = load_model(str(path), self.device, "fp32")
            loss = evaluate(rival.gpt, self.tokenizer, self.val_tokens).loss
            write_record(path, msgspec.structs.replace(rival.record, losses={**rival.record.losses, "val": loss}))
            if loss < val:
                self.best = (loss, self.best[1])
                return path
        self.best = (val, self.step)
        return last

    def _save(self, val_loss: float | None, train_loss: float | None = None) -> Path:
        path = self.run.checkpoint(self.step)
        losses = {"train": train_loss, "val": val_loss}
        record = Record(
            run=self.run.name,
            step=self.step,
            tokens_seen=self.metrics[-1].tokens if self.metrics else 0,
            seconds=round(time.perf_counter() - self._began, 1),
            losses={name: loss for name, loss in losses.items() if loss is not None},
            data=self._data(),
            training=to_dict(self.config) | {"steps": self.steps, "precision": self.precision},
            history=_thinned(self.metrics),
            device=self.device,
        )
        save_checkpoint(path, self.gpt, self.tokenizer, record, replace=True)
        self.saved[self.step] = path
        self._prune()
        self.run.log(f"saved step {self.step}")
        self.observer(Saved(step=self.step, path=path))
        return path

    def _prune(self) -> None:
        """Keep the best checkpoint and the last two."""
        keep = set(sorted(self.saved)[-2:]) | ({self.best[1]} if self.best else set())
        for step in set(self.saved) - keep:
            shutil.rmtree(self.saved.pop(step), ignore_errors=True)

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

    def _data(self) -> dict[str, Any]:
        return {
            "name": self.corpus.name,
            "sha256": self.corpus.sha256,
            "train_tokens": len(self.train_tokens),
            "val_tokens": len(self.val_tokens),
        }

    def _write_status(self, state: State, *, force: bool = False, reason: str = "") -> None:
        if not force and time.monotonic() - self._status_at < STATUS_SECONDS:
            return
        self._status_at = time.monotonic()
        evaluated = [metrics.val_loss for metrics in self.metrics if metrics.val_loss is not None]
        self.run.write_status(
            Status(
                state=state,
                step=self.step,
                steps=self.steps,
                started=time.time() - (time.perf_counter() - self._began),
                train_loss=self.metrics[-1].train_loss if self.metrics else None,
                val_loss=evaluated[-1] if evaluated else None,
                best_val_loss=self.best[0] if self.best else None,
                best_step=self.best[1] if self.best else None,
                parameters=self.gpt.parameter_count(),
                device=self.device,
                precision=self.precision,
                reason=reason,
            )
        )

    # Arithmetic

    def _choose_precision(self) -> str:
        wanted = self.config.precision
        if wanted != "auto":
            return wanted
        if self.device == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
        return "bf16" if self.device == "cpu" and bf16_gains(self.config) else "fp32"

    def _autocast(self) -> Any:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, dtype=DTYPES[self.precision])


def bf16_gains(config: TrainConfig) -> bool:
    """Whether this CPU multiplies matrices of the run's shape at least 1.3 times as fast in bf16 as in fp32.

    Measured, as what a CPU's flags promise is not what every build of torch delivers; some 20 ms.
    """
    x = torch.randn(min(2048, config.batch_size * config.block_size), config.n_embd)
    w = torch.randn(config.n_embd, 4 * config.n_embd)

    def best(dtype: torch.dtype) -> float:
        a, b = x.to(dtype), w.to(dtype)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - began)
        return min(times)

    return best(torch.float32) > 1.3 * best(torch.bfloat16)


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
