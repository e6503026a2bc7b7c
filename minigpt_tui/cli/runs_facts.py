"""What is known of a training run, as plain values for scripts and as lines for people."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from engine.catalog import STATE, read_info, run_checkpoint, run_checkpoints
from engine.training.runs import RunInfo, disk_use
from engine.training.stopwatch import clock
from engine.validation import to_dict
from minigpt_tui.cli.streams import write_line
from minigpt_tui.columns import columns, count, size
from minigpt_tui.training.training_words import age


def summary(info: RunInfo) -> dict[str, Any]:
    """What a script wants of each run."""
    status = info.status
    return {
        "name": info.name,
        "state": info.state,
        "step": status.step,
        "steps": status.steps,
        "pid": status.pid,
        "train_loss": status.train_loss,
        "val_loss": status.val_loss,
        "best_val_loss": status.best_val_loss,
        "device": status.device,
        "changed": info.changed,
        "path": str(info.path),
        "reason": info.reason,
        "hint": info.hint,
    }


def details(info: RunInfo) -> dict[str, Any]:
    """All that is known of a run."""
    status = info.status
    names = ("best_step", "test_loss", "activity", "done", "seconds", "tokens", "tokens_per_second", "parameters",
             "vocab_size", "train_tokens", "val_tokens", "precision", "threads", "host")  # fmt: skip
    return {
        **summary(info),
        **{name: getattr(status, name) for name in names},
        "checkpoints": _checkpoints(info),
        "disk": disk_use(info.path),
        "config": None if info.config is None else msgspec.to_builtins(info.config),
    }


def _checkpoints(info: RunInfo) -> list[dict[str, Any]]:
    """The checkpoints of a run by step; a whole one can be resumed from, the others are models alone."""
    found = []
    for path in run_checkpoints(info.path):
        read = read_info(path)
        found.append(
            {
                "name": path.name,
                "step": read.step,
                "val_loss": read.val_loss,
                "size": disk_use(path),
                "whole": (path / STATE).exists(),
                **({"problem": read.problem} if read.problem else {}),
            }
        )
    return found


def write_details(info: RunInfo) -> None:
    """Print all that is known of a run, for people."""
    write_line(info.name)
    _write_rows({name: text for name, text in _facts(info).items() if text})
    if checkpoints := _checkpoints(info):
        best = run_checkpoint(info.path, "best")
        write_line("\ncheckpoints")
        measured = any(entry["val_loss"] is not None for entry in checkpoints)
        rows = [
            _checkpoint_row(entry, best is not None and measured and entry["name"] == best.name)
            for entry in checkpoints
        ]
        for line in columns(rows, right=(1, 2)):
            write_line(line)
    if info.config is not None:
        write_line("\nsettings")
        _write_rows({name: _shown(value) for name, value in to_dict(info.config.training).items()})
        for step, changes in info.config.changes:
            said = ", ".join(f"{name}={_shown(value)}" for name, value in changes.items())
            write_line(f"\nset at step {step:,}: {said}")


def _facts(info: RunInfo) -> dict[str, str]:
    """The facts of a run by their labels; those that are not known yet are empty."""
    status, config = info.status, info.config
    doing = f", {status.activity}" if status.activity and info.is_under_way else ""
    losses = {"train": status.train_loss, "val": status.val_loss, "best val": status.best_val_loss,
              "test": status.test_loss}  # fmt: skip
    model = [f"{count(status.parameters)} parameters"] if status.parameters else []
    model += [f"{status.vocab_size:,} token ids"] if status.vocab_size else []
    compute = [status.device, status.precision] if status.device else []
    return {
        "state": f"{info.state} at step {status.step:,} of {status.steps:,}{doing}",
        "reason": info.reason,
        "what to do": info.hint,
        "process": f"{status.pid} on {status.host}" if info.is_under_way else "",
        "last sign": f"{age(time.time() - info.changed)} ago" if info.changed else "",
        "path": str(info.path),
        "disk": size(disk_use(info.path)),
        "text": "" if config is None else ", ".join(config.text.train),
        "split": f"{status.train_tokens:,} tokens to train, {status.val_tokens:,} to validate"
        if status.train_tokens
        else "",
        "started from": "" if config is None else config.base,
        "model": ", ".join(model),
        "computes on": " ".join(compute) + _threads(status.threads),
        "time": f"{clock(status.seconds)}, {status.tokens:,} tokens, {status.tokens_per_second:,.0f} a second"
        if status.seconds
        else "",
        "losses": ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items() if loss is not None),
    }


def _threads(count: int) -> str:
    return f", {count} thread" + "s" * (count != 1) if count else ""


def _write_rows(rows: dict[str, str]) -> None:
    for line in columns([(f"  {name}", text) for name, text in rows.items()]):
        write_line(line)


def _checkpoint_row(entry: dict[str, Any], is_best: bool) -> tuple[str, ...]:
    words = ["whole" if entry["whole"] else "model alone", *(["best"] if is_best else [])]
    return (
        f"  {entry['name']}",
        "-" if entry["val_loss"] is None else f"val {entry['val_loss']:.4f}",
        size(entry["size"]),
        f"damaged: {entry['problem']}" if "problem" in entry else ", ".join(words),
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
