"""The process that times a training step before a run is started: a request as JSON on stdin, a measurement as one line
on stdout. It takes the steps that a run would take, on random tokens, for some three seconds. Writes no file.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import NamedTuple

import msgspec
import numpy as np
import psutil
import torch
from torch.optim import Optimizer

from engine.allocation import keep_freed_memory
from engine.config import TrainConfig
from engine.devices import resolve_device
from engine.errors import DeviceError, MiniGPTError
from engine.model.gpt import GPT
from engine.processes import lower_priority, read_request
from engine.system_modules import find
from engine.text.batches import Batches
from engine.training.distributed import ALONE
from engine.training.estimate import Measurement, MeasureRequest, check_fits, estimate, free_memory, window
from engine.training.precision import choose_precision
from engine.training.stepper import Stepper

NICE = 10
"""On the CPU it gives way to whatever else runs, as training does."""

PROBE_SECONDS, STEP_SECONDS, EVAL_SECONDS = 0.3, 2.5, 0.5
"""How long steps of one window, all steps and the evaluation are timed, unless a single window takes longer."""

BUSY_SHARE = 0.5
"""A CPU that gives a step less than this share of its threads' time has other things to do."""

MOST_STEPS = 9
EVAL_TOKENS = 8192


class StepTimes(NamedTuple):
    """How long the parts of a step took, in seconds.

    Attributes:
        passes: Through the model, forward and backward.
        update: Of the weights, by the optimizers.
        cpu: Of all threads together.
    """

    passes: float
    update: float
    cpu: float


def measure(request: MeasureRequest) -> Measurement:
    """Time a step of a run.

    Raises:
        DeviceError: The device is not there, cannot compute in the precision, or has not the memory for it.
    """
    training, model = request.training, request.model
    T = window(training, model)
    device = resolve_device(request.device)
    half = device == "cuda" or training.precision in ("bf16", "fp16")  # what auto is on a CPU takes a while to find out
    needed = estimate(training, model, half=half, on_cpu=device == "cpu").memory
    check_fits(needed, torch.cuda.mem_get_info()[0] if device == "cuda" else free_memory())
    precision = choose_precision(training, device)
    gpt = GPT(model)
    gpt.initialize(torch.Generator().manual_seed(training.seed))
    gpt.to(device)
    clock = StepClock(gpt, training, device, precision)

    rows, deadline = 1, time.perf_counter() + STEP_SECONDS
    clock.start(rows)
    times = clock.take_for(PROBE_SECONDS)
    while rows < training.batch_size and time.perf_counter() < deadline:
        one = min(each.passes for each in times) / rows  # the least disturbed: in larger passes a window takes less
        before, rows = rows, max(rows, min(training.batch_size, int(STEP_SECONDS / 3 / one)))
        if rows == before:
            break
        clock.start(rows)
        times = clock.take_for(max(PROBE_SECONDS, deadline - time.perf_counter()))
    one = min(each.passes for each in times) / rows
    wanted = torch.get_num_threads() * sum(each.passes + each.update for each in times)
    scale = training.batch_size * training.accumulation / rows
    whole = [each.passes * scale + each.update for each in times]
    step_seconds = statistics.median(whole)
    return Measurement(
        step_seconds=step_seconds,
        fastest_step=min(whole),
        slowest_step=max(whole),
        steps=len(whole),
        tokens_per_second=training.batch_size * training.accumulation * T / step_seconds,
        eval_tokens_per_second=_eval_speed(gpt, device, T, one / T),
        device=device,
        precision=precision,
        peak_memory=torch.cuda.max_memory_allocated() if device == "cuda" else _peak_memory(),
        is_busy=device == "cpu" and sum(each.cpu for each in times) < BUSY_SHARE * wanted,
        is_part=rows < training.batch_size * training.accumulation,
    )


class StepClock:
    """Takes a run's steps on random tokens and times their parts.

    Args:
        gpt: The model, on its device.
        training: The run's settings.
        device: cpu, cuda or mps.
        precision: Of the forward pass.
    """

    def __init__(self, gpt: GPT, training: TrainConfig, device: str, precision: str) -> None:
        self.gpt, self.training, self.device, self.precision = gpt, training, device, precision
        self._stepper: Stepper
        self._step = 0
        self._update_began = 0.0
        self._update_seconds = 0.0

    def start(self, rows: int) -> None:
        """Begin with steps of one forward pass of so many windows."""
        T, V = window(self.training, self.gpt.config), self.gpt.config.vocab_size
        config = self.training.replace(batch_size=rows, accumulation=1, compile="off", block_size=T)
        tokens = np.random.default_rng(0).integers(V, size=(rows + 2) * T + 1, dtype=np.int64)
        batches = Batches(tokens, T, rows, config.seed, eot_id=0)
        self._stepper = Stepper(
            self.gpt, config, 1000, batches, device=self.device, precision=self.precision, team=ALONE
        )
        for optimizer in self._stepper.optimizers:
            optimizer.register_step_pre_hook(self._before_update)
            optimizer.register_step_post_hook(self._after_update)

    def take(self) -> StepTimes:
        """Take a step."""
        self._update_seconds = 0.0
        synchronize(self.device)
        began, cpu = time.perf_counter(), time.process_time()
        self._stepper.take(self._step)
        synchronize(self.device)
        self._step += 1
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        return StepTimes(took - self._update_seconds, self._update_seconds, cpu)

    def take_for(self, seconds: float) -> list[StepTimes]:
        """Take steps for so long; the first one sets up what the others use, and counts where there is no other."""
        end = time.perf_counter() + seconds
        times = [self.take()]
        while len(times) <= MOST_STEPS and time.perf_counter() < end:
            times.append(self.take())
        return times[1:] or times

    def _before_update(self, _optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        synchronize(self.device)
        self._update_began = time.perf_counter()

    def _after_update(self, _optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        synchronize(self.device)
        self._update_seconds += time.perf_counter() - self._update_began


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


@torch.no_grad()
def _eval_speed(gpt: GPT, device: str, T: int, token_seconds: float) -> float:
    """Tokens of an evaluation in a second; of one with as many windows as there is time for.

    Args:
        gpt: The model.
        device: Where it is.
        T: Tokens in a window.
        token_seconds: What a token of training takes, at most.
    """
    rows = max(1, int(min(EVAL_TOKENS, EVAL_SECONDS / token_seconds) / T))
    tokens = torch.zeros(rows, T, dtype=torch.long, device=device)
    gpt.eval()
    synchronize(device)
    began = time.perf_counter()
    gpt.loss(tokens, tokens)
    synchronize(device)
    return tokens.numel() / (time.perf_counter() - began)


def _peak_memory() -> int:
    """The most memory that this process had, in bytes."""
    resource = find("resource")
    if resource is None:
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    """Answer one request; what a user can do something about is an answer too."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    try:
        request = msgspec.json.decode(read_request(), type=MeasureRequest)
        if resolve_device(request.device) == "cpu":
            lower_priority(NICE)
        keep_freed_memory()
        measurement = measure(request)
    except torch.OutOfMemoryError:
        error = DeviceError("the device ran out of memory", "choose a smaller batch_size or model")
        measurement = Measurement(problem=error.message, hint=error.hint)
    except MiniGPTError as error:
        measurement = Measurement(problem=error.message, hint=error.hint)
    with answers:
        answers.write(msgspec.json.encode(measurement) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
