"""Options that say where the engine of the app is: on another machine by ssh, or behind a server's API. Imports what
they need only where they are given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from minigpt_tui.connecting.place import Place

KEY_VARIABLE = "MINIGPT_API_KEY"


@dataclass(frozen=True)
class Elsewhere:
    """What was given; all of it empty for an engine on this machine."""

    connect: str = ""
    ssh: str = ""
    ssh_command: str = ""
    ssh_python: str = ""
    api_key: str = field(default="", repr=False)

    def place(self, subcommand: str | None) -> Place | None:
        """Where the engine is; None for this machine.

        Args:
            subcommand: The command that was given; None for the app.

        Raises:
            click.UsageError: The options do not go together.
            InvalidSettingError: The address or the host is none.
        """
        if subcommand is not None and (self.connect or self.ssh):
            raise click.UsageError(f"--connect and --ssh are of the app; {subcommand} computes here")
        if self.connect and self.ssh:
            raise click.UsageError("--connect and --ssh are two places; give one")
        if not self.ssh and (self.ssh_command or self.ssh_python):
            raise click.UsageError("--ssh-command and --ssh-python say how --ssh HOST is reached; give the host")
        if self.api_key and not self.connect:
            raise click.UsageError("--api-key is for --connect URL")
        if self.connect:
            from minigpt_tui.connecting.server_place import ServerPlace

            _need_httpx()
            return ServerPlace(self.connect, self.api_key or os.environ.get(KEY_VARIABLE, ""))
        if self.ssh:
            from minigpt_tui.connecting.ssh import SshPlace

            python = self.ssh_python or os.environ.get("MINIGPT_SSH_PYTHON", "")
            return SshPlace(self.ssh, ssh=self.ssh_command or os.environ.get("MINIGPT_SSH", ""), python=python)
        return None


def _need_httpx() -> None:
    from importlib.util import find_spec

    if find_spec("httpx") is None:
        raise click.ClickException("--connect needs httpx; install it: pip install 'minigpt-tui[connect]'")


def connect_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options; what was given arrives as the argument `elsewhere`."""

    @click.option("--connect", metavar="URL", default="", help="Write with a server that has OpenAI's API.")
    @click.option(
        "--api-key", metavar="KEY", default="", help=f"For --connect. {KEY_VARIABLE} keeps it out of the list of jobs."
    )
    @click.option("--ssh", metavar="HOST", default="", help="Compute on another machine, and show its runs.")
    @click.option("--ssh-command", metavar="CMD", default="", help="ssh with options of your own.  [env: MINIGPT_SSH]")
    @click.option(
        "--ssh-python", metavar="PATH", default="", help="The Python there that has it.  [env: MINIGPT_SSH_PYTHON]"
    )
    @wraps(function)
    def with_options(
        *args: Any, connect: str, api_key: str, ssh: str, ssh_command: str, ssh_python: str, **options: Any
    ) -> None:
        function(*args, elsewhere=Elsewhere(connect, ssh, ssh_command, ssh_python, api_key), **options)

    return with_options
