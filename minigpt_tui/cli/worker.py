"""`minigpt-tui worker`: the engine as a process that speaks its protocol on stdin and stdout, for an app elsewhere."""

from __future__ import annotations

import os
import sys

import click


@click.command()
def worker() -> None:
    """Run the engine for an app at the other end of stdin and stdout.

    This is what `minigpt-tui --ssh HOST` starts on HOST. It is of no use at a keyboard.
    """
    if sys.stdin.isatty():
        raise click.UsageError("it speaks to an app, not to a keyboard; `minigpt-tui --ssh HOST` starts it on HOST")
    from engine.worker.__main__ import main

    status = main()
    sys.stderr.flush()
    os._exit(status)  # as the module itself ends: taking torch down would keep the app waiting
