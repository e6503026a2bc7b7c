"""One optimizer step: the global batch of its number through the model, the gradient, the update. What a step does
depends on nothing but the weights, the optimizers' state, the settings and its number. Knows nothing of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.config import TrainConfig
from engine.errors import DeviceError, InvalidSettingError
from engine.model.gpt import GPT
from engine.text.batches import Batches
from engine.training.averaging import Average
from engine.training.distributed import Team
from engine.training.loss_scale import LossScale
from engine.training.losses import MicroBatchLoss, is_out_of_memory
from engine.training.optimizers import (
    clip_gradients,
    load_optimizers_state,
    make_optimizers,
    optimizers_state,
    set_learning_rate,
    set_momentum,
)
from engine.training.schedules import learning_rate_share

MICRO_BATCH, LOSS_SCALE = "micro_batch", "loss_scale"
"""Names in the state, beside those of the optimizers' tensors."""


class StepResult(NamedTuple):
    """What a step found, the same in all processes of a team.

    Attributes:
        loss: Of the global batch before the update, in nats per token.
        grad_norm: Before clipping. Where this or the loss is not finite, the weights were left as they were.
        lr: AdamW's learning rate.
        tokens: In the global batch.
        is_skipped: Whether an fp16 gradient overflowed, which is no harm now and then: the weights were left as they
            were, the next step scales its loss less, and `grad_norm` is 0, as nothing was moved.
    """

    loss: float
    grad_norm: float
    lr: float
    tokens: int
    is_skipped: bool = False

    @property
    def is_finite(self) -> bool:
        """Whether training can go on."""
        return bool(np.isfinite(self.loss) and np.isfinite(self.grad_norm))


class Stepper:
    """Takes the steps of one run.

    Attributes:
        gpt: The model; where each process has a share of it, `whole_model` has all of it.
        average: The mean of its weights, where the settings want one.
        micro_batch: Rows in one forward pass: `batch_size`, or less where that did not fit into memory.
        loss_scale: Of fp16 alone.
    """

    def __init__(
        self,
        gpt: GPT,
        config: TrainConfig,
        steps: int,
        batches: Batches,
        *,
        device: str,
        precision: str,
        team: Team,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Get ready; with several processes, all of them at once.

        Args:
            gpt: The model, on its device; its weights are trained in place.
            config: All settings.
            steps: Length of the run, for the schedule.
            batches: The global batches.
            device: cpu, cuda or mps.
            precision: fp32, bf16 or fp16, of the forward pass.
            team: The processes that train together.
            report: Told what the user should know, in a line.

        Raises:
            InvalidSettingError: There are more processes than rows in the global batch.
        """
        if team.size > batches.batch_size:
            raise InvalidSettingError(
                f"{team.size} processes cannot share a batch of {batches.batch_size} sequences",
                "make batch_size larger, or use fewer processes",
            )
        self.gpt, self.config, self.steps, self.batches = gpt, config, steps, batches
        self.device, self.precision, self.team = device, precision, team
        self.report = report
        self.micro_batch = self._wanted
        self.loss_scale = LossScale() if precision == "fp16" else None
        self._losses = MicroBatchLoss(gpt, config, device=device, precision=precision, team=team, report=report)
        self.optimizers = make_optimizers(gpt, config)
        self.average = Average(gpt, config.average) if config.average else None

    def take(self, step: int) -> StepResult:
        """Take the step of this number, counted from 0.

        Raises:
            DeviceError: There is not memory enough for a single sequence, or for this process's part of the work.
        """
        share = learning_rate_share(self.config, step, self.steps)
        set_learning_rate(self.optimizers, share)
        set_momentum(self.optimizers, self.config, step)
        while (found := self._gradient(step)) is None:
            self._halve()
        (loss,) = self.team.sum([found])
        norm = clip_gradients(self.gpt, self.config.grad_clip, self.loss_scale.factor if self.loss_scale else 1.0)
        result = StepResult(
            loss=loss,
            grad_norm=norm,
            lr=self.config.learning_rate * share,
            tokens=self.batches.batch_size * self.batches.block_size,
        )
        if result.is_finite:
            self._update()
            if self.average is not None:
                self.average.update(step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return result if self.loss_scale is None else self._scaled(result, self.loss_scale)

    def whole_model(self) -> AbstractContextManager[GPT]:
        """The model with all of its weights, or with their mean where one is kept, for all but training.

        Every process of the team has to ask.
        """
        if self.average is not None:
            return nullcontext(self.average.whole_model())
        return self._losses.whole_model()

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on beside the weights, on the CPU; every process of the team has to ask."""
        found = optimizers_state(self.gpt, self.optimizers)
        if self.average is not None:
            found |= self.average.state()
        if self.micro_batch < self._wanted:
            found[MICRO_BATCH] = torch.tensor(self.micro_batch)
        if self.loss_scale is not None:
            found[LOSS_SCALE] = torch.tensor(self.loss_scale.state(), dtype=torch.float64)
        return found

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, in as many processes as there are now."""
        load_optimizers_state(self.gpt, self.optimizers, tensors)
        if self.average is not None:
            self.average.load_state(tensors)
        if MICRO_BATCH in tensors:
            self.micro_batch = min(self.micro_batch, int(tensors[MICRO_BATCH]))
        if self.loss_scale is not None and LOSS_SCALE in tensors:
            self.loss_scale.load_state(tensors[LOSS_SCALE].tolist())

    def _gradient(self, step: int) -> float | None:
        """Leave the global batch's gradient in the weights, and return this process's part of the loss.

        None where memory ran out: then there is no gradient, and the step can be taken again.
        """
        x, y = (torch.from_numpy(ids[self.team.rows(len(ids))]) for ids in self.batches.batch(step))  # (rows, T)
        pieces = self._pieces(x, y)
        factor = self.team.size * (self.loss_scale.factor if self.loss_scale else 1.0)  # processes take the mean
        try:
            if self._losses.wants_proof and not self._losses.prove(
                self.micro_batch, [(x, y) for x, y, _ in pieces[:1] + pieces[1:][-1:]]
            ):
                return None
            torch.manual_seed(_mix(self.config.seed, step, self.team.rank))  # dropout
            losses = [
                self._losses.backward(x, y, share * factor, is_last=piece == len(pieces) - 1) * share
                for piece, (x, y, share) in enumerate(pieces)
            ]
            return sum(loss.item() for loss in losses)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.team.size > 1:  # the others wait for this one, and cannot be told
                raise _no_room("use a smaller batch_size, with a larger accumulation") from None
        self.gpt.zero_grad(set_to_none=True)
        return None

    def _pieces(self, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor, float]]:
        """This process's rows in micro-batches, each with its share of the global batch's tokens.

        All processes have as many; one that has rows for one less adds a row that counts for nothing.
        """
        count = -(-self._most_rows // self.micro_batch)
        firsts = range(0, count * self.micro_batch, self.micro_batch)
        cut = [(x[first : first + self.micro_batch], y[first : first + self.micro_batch]) for first in firsts]
        total = self.batches.batch_size
        return [(rows, after, len(rows) / total) if len(rows) else (x[:1], y[:1], 0.0) for rows, after in cut]

    @property
    def _most_rows(self) -> int:
        """Rows of the process that has most."""
        return -(-self.batches.batch_size // self.team.size)

    @property
    def _wanted(self) -> int:
        """Rows in one forward pass where there is memory enough."""
        return min(self.config.batch_size, self._most_rows)

    def _halve(self) -> None:
        """Put half as many rows through the model at once from now on."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
        if self.micro_batch == 1:
            raise _no_room("use a smaller block_size or model")
        self.micro_batch = -(-self.micro_batch // 2)
        passes = -(-self._most_rows // self.micro_batch)
        self.report(
            f"the {self.device} device is out of memory: the batch goes through in {passes} passes of"
            f" {self.micro_batch} sequences from now on, which changes nothing else"
        )

    def _update(self) -> None:
        try:
            for optimizer in self.optimizers:
                optimizer.step()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise _no_room("use a smaller model, or more GPUs with parallel=fsdp") from None

    def _scaled(self, result: StepResult, scale: LossScale) -> StepResult:
        """The result of an fp16 step, and the scale of the next one."""
        if np.isfinite(result.grad_norm):
            scale.went_well()
            return result
        scale.overflowed()
        return result if scale.is_hopeless else result._replace(grad_norm=0.0, is_skipped=True)


def _no_room(hint: str) -> DeviceError:
    return DeviceError("the device is out of memory", hint)


def _mix(seed: int, step: int, rank: int) -> int:
    """One 63-bit seed from several numbers, so that neighbouring ones share nothing."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
