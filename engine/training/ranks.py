"""Several processes that train one model: the run's own process starts them with torch's launcher, holds
the lock for them, and says why they ended. They die with it. Knows nothing of what they do, and needs torch only to
start them.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil

from engine.errors import RunError
from engine.training import control
from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, Status

MEETING_VARIABLE = "MINIGPT_TEAM"
"""Names the folder through which the processes of a team find each other, and leave word."""

FOLDER = ".team"
STORE = "store"
"""The meeting folder, in the run's directory, and the file in it through which the processes find each other: a port
for that would be open to the network."""

SHUTDOWN_SECONDS = 10
"""When one process has failed, the others have so long to end by themselves."""

_PARENT_DEATH_SIGNAL = 1
_ENDED = ("finished", "stopped")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why one process of a team failed, as it says itself; `log` is all that it would have written there."""

    rank: int
    time: float
    reason: str
    hint: str
    kind: str
    log: str = ""


class Onlooker(RunDirectory):
    """The run's directory for the processes of a team that only read it; what they would log is kept in `said`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.said: list[str] = []

    def write_config(self, config: RunConfig) -> None:
        """Leave it to the lead, like all that follows."""

    def write_status(self, status: Status) -> None:
        """Nothing."""

    def append_metrics(self, metrics: Metrics) -> None:
        """Nothing."""

    def append_sample(self, sample: Sample) -> None:
        """Nothing."""

    def append_resumed(self, step: int) -> None:
        """Nothing."""

    def sync_lines(self) -> None:
        """Nothing."""

    def log(self, line: str) -> None:
        """Keep the line."""
        self.said.append(line)


def own_rank() -> int | None:
    """This process's place in its team, from 0; None when it was not started by `run_ranks`."""
    return int(os.environ["RANK"]) if MEETING_VARIABLE in os.environ else None


def run_ranks(run: RunDirectory, count: int) -> bool:
    """Start the processes of a run and wait for their end. Ask the run to stop when this process is asked to.

    Args:
        run: Its directory, whose lock this process holds.
        count: How many.

    Returns:
        Whether all of them ended in good order; else the run's status says why not.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _ask_to_stop(run))
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if control.read_control(run.path).wanted == "stop":  # while torch was loaded
        run.log("stopped before it began")
        run.write_status(msgspec.structs.replace(run.read_status(), state="stopped"))
        return True
    folder = run.path / FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(mode=0o700)
    for name, value in _environment(folder, count).items():
        os.environ[name] = value
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what matters is said in the status
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=run.name,
        rdzv_backend="c10d",
        rdzv_endpoint=str(folder / "rendezvous"),
        rdzv_configs={"store_type": "file"},
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
        signals_to_handle="SIGQUIT",  # SIGINT and SIGTERM are the run's own
    )
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "engine.training", str(run.path))
    except ChildFailedError as error:
        exit_codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        _say_why(run, exit_codes, _faults(folder), count)
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _ask_to_stop(run: RunDirectory) -> None:
    try:
        control.request(run.path, "stop")
    except RunError as error:
        run.log(str(error))


def _environment(folder: Path, count: int) -> dict[str, str]:
    """What the processes of a team find in their environment, beside what the launcher gives to each."""
    threads = max(1, len(os.sched_getaffinity(0)) // count) if hasattr(os, "sched_getaffinity") else 1
    wanted = {"OMP_NUM_THREADS": str(threads), "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS)}
    if sys.platform == "linux":  # they are all on this machine, and nobody else need hear them
        wanted |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    return {name: os.environ.get(name, value) for name, value in wanted.items()} | {MEETING_VARIABLE: str(folder)}


def leave_word(run: RunDirectory, status: Status) -> None:
    """Tell the process that started this one why it fails."""
    rank, said = own_rank(), run.said if isinstance(run, Onlooker) else []
    if rank is None:
        return
    fault = Fault(
        rank=rank, time=time.time(), reason=status.reason, hint=status.hint, kind=status.kind, log="\n".join(said)
    )
    Path(os.environ[MEETING_VARIABLE], f"fault-{rank}.json").write_bytes(msgspec.json.encode(fault))


def _faults(folder: Path) -> list[Fault]:
    """What the processes left word of, the first fault first."""
    found: list[Fault] = []
    for path in folder.glob("fault-*.json"):
        with contextlib.suppress(ValueError):  # it was killed in the middle of a word
            found.append(msgspec.json.decode(path.read_bytes(), type=Fault))
    return sorted(found, key=lambda fault: fault.time)


def _say_why(run: RunDirectory, exit_codes: Mapping[int, int], faults: list[Fault], count: int) -> None:
    """Write the cause of a team's end into the status.

    When one fails, the others fail for want of it, the lead among them, which writes that down as its own reason.
    """
    status = run.read_status()
    killed = {rank: -code for rank, code in sorted(exit_codes.items()) if code < 0}
    first = faults[0] if faults else None
    if status.state in _ENDED or (status.state == "crashed" and status.kind != RunError.__name__):
        return
    if killed:
        rank, number = next(iter(killed.items()))
        reason = f"its process {rank + 1} of {count} was killed ({signal.Signals(number).name})"
        hint = f"minigpt-tui runs resume {run.name}"
        status = msgspec.structs.replace(status, reason=reason, hint=hint, kind=RunError.__name__)
    elif first is None:
        reason = f"one of its {count} processes ended without a word"
        status = msgspec.structs.replace(status, reason=reason, hint=f"see {run.path / 'log.txt'}", kind="RunError")
    elif first.rank:
        if first.log:
            run.log(f"process {first.rank + 1} of {count}: {first.log}")
        status = msgspec.structs.replace(status, reason=first.reason, hint=first.hint, kind=first.kind)
    run.write_status(msgspec.structs.replace(status, state="crashed", activity="", done=0.0))
    run.log(f"crashed at step {status.step}: {status.reason}")


def die_with_parent() -> None:
    """Let this process be killed at the moment when the one that started it is gone."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent or parent == 1:
            os._exit(1)
        return
    threading.Thread(target=_outlive_nobody, args=(parent,), name="watches its parent", daemon=True).start()


def _outlive_nobody(parent: int) -> None:
    with contextlib.suppress(psutil.Error):  # it is gone already
        process = psutil.Process(parent)
        while os.getppid() == parent and process.is_running():  # Windows gives nobody another parent
            time.sleep(1.0)
    os._exit(1)
