"""Drives a run from its directory: reads its text, builds or takes up its model, trains, and leaves word in the status
and in the log, however it ends. Imports torch only once the status says that it does.
"""

from __future__ import annotations

import contextlib
import errno
import traceback
from typing import TYPE_CHECKING

from engine.errors import DeviceError, MiniGPTError, RunError
from engine.processes import lower_priority
from engine.training.orders import Orders, Stopped
from engine.training.ranks import leave_word
from engine.training.run import RunDirectory
from engine.training.status_writer import StatusWriter

if TYPE_CHECKING:
    from engine.training.trackers import Tracker

READING = ("reading", "counting", "encoding")
"""What is told of a text while it is read, without saying of what."""


def drive(run: RunDirectory, orders: Orders, status: StatusWriter, *, niceness: int = 0) -> bool:
    """Train until the run is finished or stopped, or crashes.

    Args:
        run: The run, whose lock this process holds.
        orders: What it obeys.
        status: Entered; its last words are how the run ended.
        niceness: Added to the process's own on the CPU, so that others who use it stay quick.

    Returns:
        Whether it ended in good order.
    """
    with contextlib.ExitStack() as afterwards:
        try:
            _train(run, orders, status, niceness, afterwards)
        except Stopped:  # before the first step
            run.log("stopped before it began")
            status.tell(state="stopped", activity="", done=0.0)
        except Exception as error:
            _leave_word(run, status, error)
            return False
        finally:
            with contextlib.suppress(OSError):  # a full disk, of which the status speaks
                run.close()
    return True


def _train(
    run: RunDirectory, orders: Orders, status: StatusWriter, niceness: int, afterwards: contextlib.ExitStack
) -> None:
    config = run.read_config()
    status.tell(activity="loading PyTorch")
    from engine.devices import resolve_device
    from engine.training.distributed import join
    from engine.training.setup import prepare
    from engine.training.trackers import open_trackers
    from engine.training.trainer import Trainer

    device = resolve_device(config.device)
    if device == "cpu" and niceness:
        lower_priority(niceness)
    team = join(device)

    def report(activity: str, done: float) -> None:
        status.tell(activity=f"{activity} the text" if activity in READING else activity, done=done)
        if orders.wanted == "stop" and team.is_lead:
            raise Stopped

    trackers = open_trackers(config.training, run) if team.is_lead else ()
    for tracker in trackers:
        afterwards.callback(_tell_of_crash, tracker, run, status)
    has_failed = True
    try:  # the lead first: it completes the settings, and encodes the text where nobody has yet
        if team.is_lead:
            report("reading", 0.0)
            prepared = prepare(run, report)
        has_failed = False
    finally:
        may_not = team.sum([has_failed])[0]
    if may_not:
        raise Stopped  # the lead says why
    if not team.is_lead:
        prepared = prepare(run, report, writes=False)
    status.tell(activity="building the model", done=0.0)
    Trainer(run, prepared, orders, status, trackers=trackers, team=team).train()


def _tell_of_crash(tracker: Tracker, run: RunDirectory, status: StatusWriter) -> None:
    """Tell a tracker of an end that the trainer did not live to tell of."""
    if status.status.state == "crashed":
        tracker.end(run, status.status)


def _leave_word(run: RunDirectory, status: StatusWriter, error: Exception) -> None:
    """Write down why the run crashed, the status first; where the disk is full, as much as it takes."""
    known = _known(run, error)
    status.tell(
        state="crashed", activity="", done=0.0, reason=known.message, hint=known.hint, kind=type(known).__name__
    )
    try:
        status.write()
    except OSError:
        with contextlib.suppress(OSError):
            run.overwrite_status(status.status)
    with contextlib.suppress(OSError):
        if known is not error:
            run.log("".join(traceback.format_exception(error)).rstrip())
        run.log(f"crashed at step {status.status.step}: {known}")
    leave_word(run, status.status)


def _known(run: RunDirectory, error: Exception) -> MiniGPTError:
    """The error as one for a user's eyes."""
    if isinstance(error, MiniGPTError):
        return error
    line = next(iter(str(error).splitlines()), "") or "no more is known"
    if _is_out_of_memory(error):
        return DeviceError("out of memory", "make batch_size smaller and accumulation larger, or block_size smaller")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"free some space, then minigpt-tui runs resume {run.name}"
        return RunError(f"{error.filename or run.path} cannot be written ({error.strerror})", hint)
    if isinstance(error, OSError) and error.filename:
        return RunError(f"{error.filename}: {error.strerror}", "free some space, or see whose it is")
    return RunError(f"{type(error).__name__}: {line}", f"its log has the traceback: {run.path / 'log.txt'}")


def _is_out_of_memory(error: Exception) -> bool:
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    from engine.training import losses  # which imports torch, as what raises a RuntimeError mostly has

    return losses.is_out_of_memory(error)
