"""A training run in words, for the training screen's borders and lines: plain functions of what was read."""

from __future__ import annotations

import time

from engine.device_use import DeviceUse, GpuUse
from engine.training.run import State
from engine.training.runs import RunInfo
from minigpt_tui.columns import count, size
from minigpt_tui.training.run_feed import Picture
from minigpt_tui.training.training_words import age
from minigpt_tui.visible import visible_line

SIGNS: dict[State, str] = {
    "starting": "…",
    "running": "●",
    "paused": "‖",
    "finished": "✓",
    "stopped": "■",
    "crashed": "✗",
}
"""What each state looks like where there is no room for the word, and without colour."""

COLOURS: dict[State, str] = {
    "starting": "$accent",
    "running": "$accent",
    "paused": "$accent",
    "finished": "",
    "stopped": "$quiet",
    "crashed": "$text-error",
}

_ALWAYS = ("run_lower", "run_play", "chart_log", "chart_zoom", "chart_axis", "run_mark")

ACTIONS: dict[State, tuple[str, ...]] = {
    "starting": ("run_stop", "run_lower"),
    "running": ("run_pause", "run_save", "run_stop", *_ALWAYS),
    "paused": ("run_pause", "run_save", "run_stop", *_ALWAYS),
    "finished": ("run_extend", *_ALWAYS),
    "stopped": ("run_pause", "run_extend", *_ALWAYS),
    "crashed": ("run_pause", *_ALWAYS),
}
"""What is most likely wanted of a run in each state, that first."""


def loss_text(loss: float | None) -> str:
    """A loss in six cells, with fewer decimals where it is large."""
    if loss is None:
        return "     –"
    return next((text for decimals in (4, 3, 2, 1) if len(text := f"{loss:6.{decimals}f}") == 6), f"{loss:6.0e}")


def age_text(run: RunInfo, now: float | None = None) -> str:
    """How long ago a run did something, such as 5m; `now` while it does."""
    seconds = (time.time() if now is None else now) - run.changed
    return "now" if run.is_under_way and seconds < 10 else age(max(0.0, seconds))


def title(info: RunInfo, asked: str = "") -> str:
    """A run's name, what it trains, on what, and its state: `demo · nanochat 3.2M · char 65 · running`.

    Args:
        info: The run.
        asked: What was asked of it and has not come true yet.
    """
    parts = [info.name]
    if info.config is not None:
        training, status = info.config.training, info.status
        parts.append(training.family + (f" {count(status.parameters)}" if status.parameters else ""))
        parts.append(training.tokenizer + (f" {status.vocab_size:,}" if status.vocab_size else ""))
    parts.append(f"{SIGNS[info.state]} {info.state}" + (f", {asked}" if asked else ""))
    return visible_line(" · ".join(parts))


def progress_text(picture: Picture) -> str:
    """How far the run is: `412 of 700 · 3.4M tokens`."""
    figures = picture.figures
    steps = f"{figures.steps:,}" if figures.steps else "?"
    return f"{figures.step:>{len(steps)},} of {steps} · {count(picture.tokens)} tokens"


def activity_text(info: RunInfo) -> str:
    """What it does beside taking steps, such as `evaluating 40 %`; empty while it takes steps or has ended."""
    status = info.status
    if not info.is_under_way:
        return ""
    if info.state == "starting":
        return visible_line(status.activity) or "starting"
    if not status.activity:
        return ""
    return visible_line(status.activity) + (f" {status.done * 100:.0f} %" if status.done else "")


def crash_text(picture: Picture) -> str:
    """What happened to a crashed run, and what is safe, in sentences."""
    info = picture.info
    reason = visible_line(info.reason).rstrip(".")
    said = [f"{reason[:1].upper()}{reason[1:]}."] if reason else []
    if info.status.hint:  # the trainer's own; what `read_run` says is for the shell
        said.append(visible_line(info.status.hint[:1].upper() + info.status.hint[1:]).rstrip(".") + ".")
    if picture.checkpoints:
        lost = info.status.step - picture.checkpoints[-1]
        behind = f"; the {lost:,} steps after it are taken again" if lost > 0 else ""
        said.append(f"The checkpoint of step {picture.checkpoints[-1]:,} is safe{behind}.")
    else:
        said.append("It had not saved a checkpoint yet.")
    return " ".join(said)


def machine_text(use: DeviceUse) -> str:
    """What computes here, for the top line: `NVIDIA H200` or `cpu · 2 cores`."""
    if use.gpus:
        several = f"{len(use.gpus)} x " if len(use.gpus) > 1 else ""
        return several + visible_line(use.gpus[0].name)
    return f"cpu · {use.cores} cores"


def device_texts(use: DeviceUse) -> list[str]:
    """The use of GPUs, CPU, memory and the run's process, the most telling first; numbers keep their width."""
    texts = [_gpu_text(gpu, f"gpu{place}" if len(use.gpus) > 1 else "gpu") for place, gpu in enumerate(use.gpus)]
    texts.append(f"cpu {use.cpu * 100:3.0f} %")
    if use.process_cpu is not None and use.process_memory is not None:
        texts.append(f"this run {use.process_cpu:4.1f} cores, {size(use.process_memory)}")
    texts.append(f"memory {use.memory_used / 1e9:.1f} of {use.memory_total / 1e9:.0f} GB")
    return texts


def _gpu_text(gpu: GpuUse, name: str) -> str:
    parts = [name]
    if gpu.utilization is not None:
        parts.append(f"{gpu.utilization * 100:3.0f} %")
    if gpu.memory_used is not None and gpu.memory_total:
        parts.append(f"{gpu.memory_used / 1e9:.1f} of {gpu.memory_total / 1e9:.0f} GB")
    if gpu.temperature is not None:
        parts.append(f"{gpu.temperature} °C")
    if gpu.power is not None:
        parts.append(f"{gpu.power:.0f} W")
    return " ".join(parts)
