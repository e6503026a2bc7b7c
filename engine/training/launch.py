"""Starts the process that trains: in a session of its own, so that neither the end of the app nor that of its terminal
reaches it. Knows nothing of torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine import process_families, processes
from engine.config import Architecture, TrainConfig
from engine.errors import InvalidSettingError, RunError, named
from engine.training import control, run_lock
from engine.training.run import RunConfig, RunDirectory, Status
from engine.training.run_names import free_run_name
from engine.training.runs import RunInfo, find_run, read_run
from engine.validation import make, to_dict

COMMAND = (sys.executable, "-P", "-m", "engine.training")

POLL_SECONDS = 0.05
LAST_WORDS_SECONDS = 10.0

FIXED = (*(name for name in Architecture.__struct_fields__ if name != "dropout"), "tokenizer", "vocab_size", "seed",
         "normalize", "logit_soft_cap")  # fmt: skip
"""Settings that a run keeps for life: another model, another text or another order is another run."""


def start_run(config: RunConfig) -> RunDirectory:
    """Make a run's directory and start its process; returns before it has begun (see `wait_until_running`).

    Raises:
        RunError: The name is taken or none for a run, or the process cannot be started; then nothing is left behind.
    """
    run = RunDirectory.create(config)
    try:
        with _lock_of(run) as lock:
            _spawn(run, lock)
    except RunError:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run


def resume_run(name: str, changes: Mapping[str, Any] | None = None, *, nproc: int | None = None) -> RunDirectory:
    """Let a run go on from its last checkpoint, in a process of its own; or, where it is paused, in the one it has.

    Args:
        name: The run.
        changes: Settings to change, such as `steps`, by name; a finished run needs more steps to go on.
        nproc: Processes that train together from now on; None for as many as before.

    Raises:
        RunError: There is none of that name, or it is running already.
        InvalidSettingError: A setting is out of range, unknown, or fixed for the life of a run.
    """
    run = RunDirectory(find_run(name))
    info = read_run(run.path)
    if info.state == "paused" and not changes and nproc in (None, info.config.nproc if info.config else 1):
        control.request(run.path, "resume")
        return run
    if info.is_under_way:
        raise RunError(f"the run {name} is {info.state} already", f"minigpt-tui runs watch {name}, or stop it first")
    _wait_for_its_end(run)
    with _lock_of(run) as lock:  # before the settings are touched: whoever is too late changes nothing
        config = changed(run.read_config(), changes or {}, info.status.step)
        if info.state == "finished" and info.status.step >= _steps_wanted(config, info):
            raise InvalidSettingError(
                f"the run {name} is finished, at step {info.status.step:,}",
                f"give it more: runs resume {name} --set steps={2 * info.status.step}",
            )
        if nproc not in (None, config.nproc):  # others share the cores, and the thread count is theirs to find anew
            config = msgspec.structs.replace(config, nproc=nproc, threads=0)
        run.write_config(config)
        run.log("resumed")  # what the process before said is not why this one ends
        _spawn(run, lock)
    return run


def _steps_wanted(config: RunConfig, info: RunInfo) -> int:
    """How long the run shall be; how many steps some epochs are is known to the trainer alone."""
    training = config.training
    if training.epochs is None:
        return training.steps
    same = info.config is not None and info.config.training.epochs == training.epochs
    return info.status.steps if same else sys.maxsize


def changed(config: RunConfig, changes: Mapping[str, Any], step: int) -> RunConfig:
    """The settings of a run with some of them changed from a step on.

    Raises:
        InvalidSettingError: One is out of range, unknown, or fixed for the life of a run.
    """
    if not changes:
        return config
    values = dict(changes)
    if "steps" in values and "epochs" not in values:
        values["epochs"] = None  # the length that was said last is the one that counts
    before = to_dict(config.training)
    training: TrainConfig = make(TrainConfig, before | values)
    for name in FIXED:
        if getattr(training, name) != getattr(config.training, name):
            hint = f"start another run like it: minigpt-tui train ... --set {name}=..."
            raise InvalidSettingError(f"{name} is fixed for the life of a run", hint)
    after = to_dict(training)
    told = {name: after[name] for name in after if after[name] != before.get(name)}
    if not told:
        return config
    precision = "" if "precision" in told else config.precision  # else what was chosen for the run stays
    return msgspec.structs.replace(
        config, training=training, precision=precision, changes=(*config.changes, (step, told))
    )


def another_like(config: RunConfig, name: str = "", changes: Mapping[str, Any] | None = None) -> RunConfig:
    """The configuration of a new run with the text and settings of another one.

    Args:
        config: The other run.
        name: The new run's name; a free one like the other's when it is empty.
        changes: Settings to change, by name.

    Raises:
        InvalidSettingError: A setting is unknown or out of range.
    """
    training: TrainConfig = make(TrainConfig, to_dict(config.training) | dict(changes or {}))
    return RunConfig(
        name=name or free_run_name(config.name),
        created=time.time(),
        training=training,
        text=config.text,
        device=config.device,
        nproc=config.nproc,
        base=config.base,
    )


def wait_until_running(run: RunDirectory, *, discard: bool = False) -> Status:
    """Wait until a run that was started takes its steps, or has ended already.

    Args:
        run: The run.
        discard: Whether the directory goes when the run cannot begin, as nothing was trained; unless the error's hint
            sends the user there.

    Raises:
        MiniGPTError: It could not begin; the error is the one that its process met.
    """
    while True:
        info = read_run(run.path)
        if info.state == "crashed":
            error = named(info.status.kind or RunError.__name__, info.reason, info.hint)
            if discard and info.status.step == 0 and not _is_needed(run, info.status.hint):
                _wait_for_its_end(run)
                shutil.rmtree(run.path, ignore_errors=True)
                error.hint = info.status.hint
            raise error
        if info.state != "starting":
            return info.status
        time.sleep(POLL_SECONDS)


def _is_needed(run: RunDirectory, hint: str) -> bool:
    """Whether what to do about a crash is to read the run's log, or to resume it."""
    return str(run.path) in hint or hint.endswith(f"runs resume {run.name}")


def _wait_for_its_end(run: RunDirectory) -> None:
    """Let a process that has said its last words end: it holds the lock until then, and may write still."""
    until = time.monotonic() + LAST_WORDS_SECONDS
    while run_lock.is_held(run.path) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def _lock_of(run: RunDirectory) -> Iterator[int]:
    """Hold a run's lock while its process is prepared and started.

    Raises:
        RunError: Another process drives the run, or what is done meanwhile finds no room or may not be done.
    """
    try:
        lock = run_lock.take(run.path)
        if lock is None:
            raise RunError(f"the run {run.name} is driven by another process", f"minigpt-tui runs watch {run.name}")
        try:
            yield lock
        finally:
            os.close(lock)
    except OSError as error:
        raise RunError(f"the process of {run.name} cannot be started ({error})", "minigpt-tui doctor") from None


def _spawn(run: RunDirectory, lock: int) -> None:
    """Start the process of a run, which holds the run's lock from this moment on."""
    control.clear(run.path)
    status = _read_status(run)
    run.write_status(msgspec.structs.replace(status, state="starting", reason="", hint="", kind=""))
    process = _popen(run.path, lock)
    # It is nobody's business when it ends, but a process whose parent does not ask stays in the table as a zombie.
    threading.Thread(target=process.wait, name=f"reaps {run.name}", daemon=True).start()


def _read_status(run: RunDirectory) -> Status:
    with contextlib.suppress(RunError):
        return run.read_status()
    return Status(state="starting")


def _popen(path: Path, lock: int) -> subprocess.Popen[bytes]:
    environment = processes.environment()
    environment[run_lock.LOCK_VARIABLE] = run_lock.TO_TAKE
    inherited: dict[str, Any] = {}
    if run_lock.can_be_handed_over():
        environment[run_lock.LOCK_VARIABLE] = str(lock)
        inherited = {"pass_fds": (lock,)}
    with (path / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*COMMAND, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=path,  # a folder that is there as long as the run is
            **process_families.apart(),
            **inherited,
        )
