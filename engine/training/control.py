"""What others ask of a training run: to pause, to go on, to save, to stop. Anyone who may write into its directory can
ask; the trainer looks at each step's boundary. Knows nothing of the trainer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from engine import safe_writing
from engine.errors import RunError
from engine.training.commands import Command

CONTROL = "control.json"

Wanted = Literal["run", "pause", "stop"]


class Control(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`control.json` of a run: what is wanted of it, rather than what was said last, so that no wish is lost.

    Attributes:
        wanted: Whether it shall run, wait, or end.
        saves: How many times a checkpoint was asked for; the trainer saves when it has grown.
    """

    wanted: Wanted = "run"
    saves: int = 0


def request(run: Path, command: Command) -> None:
    """Ask something of a run.

    Raises:
        RunError: The directory cannot be written.
    """
    try:
        with safe_writing.locked(run):
            control = read_control(run)
            if command == "save":
                control = msgspec.structs.replace(control, saves=control.saves + 1)
            else:
                wanted: Wanted = "run" if command == "resume" else command
                control = msgspec.structs.replace(control, wanted=wanted)
            safe_writing.write_file(run / CONTROL, msgspec.json.encode(control) + b"\n")
    except OSError as error:
        hint = safe_writing.what_to_do(error)
        raise RunError(f"{run / CONTROL} cannot be written ({error.strerror})", hint) from None


def read_control(run: Path) -> Control:
    """What is wanted of a run; to run, where nobody has asked for anything or the file makes no sense."""
    try:
        return msgspec.json.decode(safe_writing.read(run / CONTROL), type=Control)
    except (OSError, ValueError):
        return Control()


def clear(run: Path) -> None:
    """Forget what was asked of a run, before it is started."""
    (run / CONTROL).unlink(missing_ok=True)


class ControlReader:
    """What is wanted of one run, read again only when the file has changed, so that it can be asked at each step."""

    def __init__(self, run: Path) -> None:
        self._path = run
        self._stamp: tuple[int, int, int] | None = None
        self._control = Control()

    def read(self) -> Control:
        """The latest wishes."""
        try:
            found = (self._path / CONTROL).stat()
            stamp = found.st_ino, found.st_mtime_ns, found.st_size
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._stamp, self._control = stamp, read_control(self._path)
        return self._control
