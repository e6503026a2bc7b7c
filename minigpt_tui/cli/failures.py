"""The one place that turns what went wrong into one line on stderr and an exit status: 0 done, 1 failed, 2 wrong
usage, 130 interrupted. A traceback is shown with `--debug` alone.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence

import click

from engine.errors import MiniGPTError
from minigpt_tui.cli.options import Common
from minigpt_tui.cli.streams import close_quietly, say

INTERRUPTED = 130

_WHAT_TO_DO = {
    errno.ENOSPC: ": make room on the disk and run it again",
    errno.EDQUOT: ": delete what is not needed and run it again",
}


def run(command: click.Command, args: Sequence[str], prog_name: str) -> int:
    """Run a command to its end and return the exit status; whatever it raises becomes one line.

    Args:
        command: The root of the command line.
        args: The words after the program's name.
        prog_name: The program's name, for the help.
    """
    common = Common()
    try:
        with command.make_context(prog_name, list(args), obj=common) as ctx:
            command.invoke(ctx)
            sys.stdout.flush()
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        close_quietly()
        return 0  # the reader has had enough, as `head` does
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            say("")  # the terminal's ^C stands on the line
        return INTERRUPTED
    except Exception as error:
        if common.debug:
            traceback.print_exc()
        line, status = describe(error)
        say(f"error: {line}")
        return status
    return 0


def describe(error: Exception) -> tuple[str, int]:
    """What happened and what to do, in one line, and the exit status."""
    if isinstance(error, MiniGPTError):
        return str(error), error.exit_status
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "minigpt-tui"
        return f"{_sentence(error)}: see {path} --help", error.exit_code
    if isinstance(error, click.ClickException):
        return _sentence(error), error.exit_code
    if isinstance(error, ImportError):
        return f"{error}: the installation is not complete, `minigpt-tui doctor` says what is missing", 1
    if isinstance(error, OSError) and error.strerror:
        what = error.strerror[0].lower() + error.strerror[1:] + _WHAT_TO_DO.get(error.errno or 0, "")
        return (f"{error.filename}: {what}" if error.filename else what), 1
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return "out of memory: choose a smaller model, block_size or batch_size, or --device cpu", 1
    about = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (
        f"{about}: this is a mistake in minigpt-tui; --debug shows where, "
        "please report it with that and with what `minigpt-tui doctor` prints"
    ), 1


def _sentence(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]
