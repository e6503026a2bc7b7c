"""`python -P -m engine.training RUN_DIRECTORY`: the process of one training run. It holds the run's lock as long as it
lives; SIGINT and SIGTERM save and stop, and the end of its terminal changes nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from pathlib import Path

import msgspec

from engine.errors import RunError
from engine.training import control, run_lock
from engine.training.driving import drive
from engine.training.orders import Orders
from engine.training.ranks import Onlooker, die_with_parent, own_rank, run_ranks
from engine.training.run import RunDirectory, Status
from engine.training.status_writer import StatusWriter

NICENESS = 10

APPENDING_IS_INHERITED = os.name == "posix"
"""Whether what this process prints goes behind what is in its log, as the launcher opened that to append."""

HELD_BY_PARENT = -1
"""In place of a lock's descriptor, in the processes of a team."""


def main(arguments: list[str]) -> int:
    """Drive the run whose directory is named; returns the exit status."""
    if len(arguments) != 1:
        print("usage: python -P -m engine.training RUN_DIRECTORY", file=sys.stderr)
        return 2
    path, rank = Path(arguments[0]).absolute(), own_rank()
    run = Onlooker(path) if rank else RunDirectory(path)
    if rank is not None:
        die_with_parent()
    try:
        config = run.read_config()
        was_launched = run_lock.LOCK_VARIABLE in os.environ
        lock = run_lock.take_over() if rank is None else HELD_BY_PARENT
        if lock is None:
            lock = run_lock.take(run.path)
            if lock is not None and not was_launched:
                control.clear(run.path)  # what was asked of the process before it
    except (RunError, OSError) as error:
        print(f"{run.path} cannot be driven: {error}", file=sys.stderr)
        return 1
    if lock is None:
        print(f"the run {run.name} is driven by another process", file=sys.stderr)
        return 1
    if was_launched and not APPENDING_IS_INHERITED:
        append_prints(run.path / "log.txt")
    orders = Orders(run.path)
    obey_signals(orders)
    if rank is None and config.nproc > 1:
        return 0 if run_ranks(run, config.nproc) else 1
    if rank:  # the lead decides for all
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said, it warns of nothing when torch forks its compilers
    status = Status(state="starting", steps=config.training.steps)
    with contextlib.suppress(RunError):
        status = run.read_status()
    status = msgspec.structs.replace(status, state="starting", reason="", hint="", kind="")
    with StatusWriter(run, status) as writer:
        return 0 if drive(run, orders, writer, niceness=NICENESS) else 1


def append_prints(log: Path) -> None:
    """Put all that is printed from here on behind what is in the log by then."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def obey_signals(orders: Orders) -> None:
    """SIGINT and SIGTERM stop the run in good order; SIGHUP is ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: orders.stop())
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    faulthandler.enable()
    exit_status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_status)  # all is written, and taking torch down would only keep the lock a while longer
