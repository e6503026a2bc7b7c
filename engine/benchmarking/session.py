"""One benchmark from its request to its last figure: what is measured, in which order, and how long each may take.
Whatever is measured is told at once, so that whoever ends it early keeps what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, get_args

import msgspec
import psutil
import torch

from engine import __version__
from engine.benchmarking.figures import MEASURES, SECONDS, UNITS, Facts, Figure, LeftOut, Measure, Starting, figure
from engine.benchmarking.losses import OwnText
from engine.benchmarking.memory import MemoryRequest, MemoryTaken
from engine.benchmarking.speed import decode_speed, first_token_time, prefill_speed, together_speed, unguessed_speed
from engine.checkpoints import LoadedModel, load_model
from engine.config import Architecture, ModelConfig, Precision, TrainConfig
from engine.devices import processor, resolve_device, resolve_precision
from engine.errors import CheckpointError, DeviceError, MiniGPTError
from engine.training.estimate import FULL, Measurement, MeasureRequest

SPEEDS: dict[Measure, Callable[[LoadedModel, float], Figure | None]] = {
    "decode": decode_speed,
    "unguessed": unguessed_speed,
    "together": together_speed,
    "prefill": prefill_speed,
    "first-token": first_token_time,
}

LOSS_SECONDS, MEMORY_SECONDS, TRAINING_SECONDS = 1.0, 3.0, 5.0
"""What the measures take, about, whose time does not depend on what there is of it; the loss, of each precision."""

LOOK_SECONDS = 0.1
"""How long it looks at what else the machine does."""

LEAST_SECONDS = 0.02
"""What each of the other measures may take at least."""

TRAINING_BATCH = 8
"""Windows in the training step that is timed."""

Event = Facts | Starting | LeftOut | Figure
A = TypeVar("A")


class Ask(Protocol):
    """Asks a module a question in a process of its own, as `minigpt_tui.one_answer.ask` does."""

    def __call__(self, module: str, request: Any, answer: type[A], /) -> A:
        """What it answers."""


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    Attributes:
        model: A name, a path or RUN:CHECKPOINT; empty for the default model.
        device: auto, cpu, cuda or mps.
        precisions: Which ones; none is every one that the device can compute in.
        measures: Which ones.
        seconds: How long it may take, about.
    """

    model: str = ""
    device: str = "auto"
    precisions: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = MEASURES
    seconds: float = SECONDS


def bench(request: BenchRequest, ask: Ask) -> Iterator[Event]:
    """Measure, and tell of it as it goes on: the facts come first.

    Args:
        request: What to measure.
        ask: For what is measured in a process of its own.

    Raises:
        ModelNotFoundError, CheckpointError: The model cannot be loaded, or answers with what is no number.
        DeviceError: The device is not there, or cannot compute in a precision that was asked for.
        WorkerError: A process of its own ended without an answer.
    """
    plan = _plan(request)
    first = _ready(request.model, plan.device, plan.precisions[0])
    yield _facts(first)
    own_text: OwnText | None = None
    if "loss" in request.measures:
        try:
            own_text = OwnText(first)
        except MiniGPTError as error:
            yield LeftOut("loss", error.message)
    for precision in plan.precisions:
        model = first if precision == first.precision else _ready(request.model, plan.device, precision)
        for measure in plan.speeds:
            yield Starting(measure, precision)
            if (measured := SPEEDS[measure](model, plan.share)) is not None:
                threads = {"threads": model.decoder.threads}
                yield msgspec.structs.replace(measured, details=measured.details | threads)
        if own_text is not None:
            yield Starting("loss", precision)
            yield own_text.loss_of(model)
    if "memory" in request.measures:
        for precision in plan.precisions if request.precisions else (_auto(request, plan.device),):
            yield Starting("memory", precision)
            yield _memory(first, precision, ask)
    if "training" in request.measures:
        yield Starting("training", "")
        try:
            yield _training(first.config, plan.device, ask)
        except MiniGPTError as error:
            yield LeftOut("training", error.message)


@dataclass(frozen=True)
class _Plan:
    """In which precisions which speeds are measured, and the seconds that each may take."""

    device: str
    precisions: tuple[str, ...]
    speeds: tuple[Measure, ...]
    share: float


def _plan(request: BenchRequest) -> _Plan:
    device = resolve_device(request.device)
    asked = [
        _auto(request, device) if wanted == "auto" else resolve_precision(wanted, device)
        for wanted in request.precisions
    ]
    precisions = tuple(dict.fromkeys(asked)) or tuple(_possible(device))
    speeds = tuple(measure for measure in request.measures if measure in SPEEDS)
    seconds = request.seconds
    if "memory" in request.measures:
        seconds -= MEMORY_SECONDS * max(1, len(asked))
    if "training" in request.measures:
        seconds -= TRAINING_SECONDS
    if "loss" in request.measures:
        seconds -= LOSS_SECONDS * len(precisions)
    elif not speeds:
        precisions = precisions[:1]  # for the facts
    share = max(LEAST_SECONDS, seconds / max(1, len(precisions) * len(speeds)))
    return _Plan(device, precisions, speeds, share)


def _ready(name: str, device: str, precision: str) -> LoadedModel:
    """A model as the worker has it; what is measured of it comes before another one is made ready."""
    model = load_model(name, device, precision)
    model.prepare_to_write()
    return model


def _auto(request: BenchRequest, device: str) -> str:
    """What `auto` is for this model; where that was never measured, it is now."""
    return load_model(request.model, device).precision


def _possible(device: str) -> Iterator[str]:
    """Every precision that a device can compute in, fp32 first."""
    for precision in get_args(Precision):
        if precision != "auto":
            with suppress(DeviceError):
                yield resolve_precision(precision, device)


def _facts(model: LoadedModel) -> Facts:
    config = model.config
    return Facts(
        model=model.name,
        family=config.family,
        parameters=model.parameters,
        n_layer=config.n_layer,
        n_embd=config.n_embd,
        vocab_size=config.vocab_size,
        block_size=config.block_size,
        device=model.device,
        device_name=torch.cuda.get_device_name() if model.device == "cuda" else "",
        processor=processor(),
        threads=model.decoder.threads,
        cpu_in_use=psutil.cpu_percent(LOOK_SECONDS) / 100,
        torch=str(torch.__version__),
        minigpt_tui=__version__,
    )


def _memory(model: LoadedModel, precision: str, ask: Ask) -> Figure:
    """What a process grows by when it loads the model, beside the bytes of its weights in fp32."""
    request = MemoryRequest(model=str(model.path), device=model.device, precision=precision)
    taken = ask("engine.benchmarking.memory", request, MemoryTaken)
    if taken.problem:
        raise CheckpointError(taken.problem, taken.hint)
    weights = FULL * model.parameters
    of_them = {"fp32_weights": weights, "of_fp32_weights": taken.above_torch / weights}
    on_device = {"on_device": taken.on_device} if taken.on_device else {}
    return figure("memory", taken.precision, [taken.above_torch], **of_them, **on_device)


def _training(model: ModelConfig, device: str, ask: Ask) -> Figure:
    """A training step of the model's own shape, as a run would take it, on random tokens."""
    shape = {name: getattr(model, name) for name in (*Architecture.__struct_fields__, "logit_soft_cap")}
    training = TrainConfig(**shape, batch_size=TRAINING_BATCH)
    request = MeasureRequest(training=training, model=model, device=device)
    measured = ask("engine.training.measure", request, Measurement)
    if measured.problem:
        raise DeviceError(measured.problem, measured.hint)
    return Figure(
        measure="training",
        precision=measured.precision,
        unit=UNITS["training"],
        median=measured.step_seconds,
        lowest=measured.fastest_step,
        highest=measured.slowest_step,
        rounds=measured.steps,
        details={
            "tokens_per_second": measured.tokens_per_second,
            "batch_size": training.batch_size,
            "block_size": training.block_size,
            "optimizer": training.optimizer,
            "is_busy": measured.is_busy,
        },
    )
