"""A click group that knows its commands' names and help, and imports a command's module only when it is used.
Knows nothing of what the commands do.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class LazyCommand(NamedTuple):
    """Where a command lives (`module:attribute`), and its line in the list of commands."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group whose commands are named by `lazy` and imported one at a time."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], shared: tuple[click.Option, ...] = (), **kw: Any):
        super().__init__(*args, **kw)
        self.lazy = lazy
        self.shared = shared
        """Options that every command below this one takes as well."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of their declaration."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or None when there is none of that name."""
        if cmd_name not in self.lazy:
            return None
        if cmd_name not in self.commands:
            module, _, attribute = self.lazy[cmd_name].target.partition(":")
            command = getattr(importlib.import_module(module), attribute)
            self._adopt(command)
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.lazy.items()])

    def _adopt(self, command: click.Command) -> None:
        """Give a command, or all commands of a group, the shared options."""
        if isinstance(command, click.Group):
            command.no_args_is_help = False  # a missing command is an error in one line, like any other
            for below in command.commands.values():
                self._adopt(below)
            return
        known = {word for parameter in command.params for word in parameter.opts}
        command.params += [option for option in self.shared if known.isdisjoint(option.opts)]
