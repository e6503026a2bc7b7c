"""`minigpt-tui completion`: the script that lets a shell complete commands, options and models' names."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from minigpt_tui.cli.streams import say

_SHELLS = {
    "bash": 'eval "$(minigpt-tui completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(minigpt-tui completion zsh)"  in ~/.zshrc, after compinit',
    "fish": "minigpt-tui completion fish > ~/.config/fish/completions/minigpt-tui.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(tuple(_SHELLS)), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    r"""Print the completion script of a shell; without SHELL, of the one that you use.

    \b
    bash   eval "$(minigpt-tui completion bash)"    in ~/.bashrc
    zsh    eval "$(minigpt-tui completion zsh)"     in ~/.zshrc, after compinit
    fish   minigpt-tui completion fish > ~/.config/fish/completions/minigpt-tui.fish
    """
    from minigpt_tui.cli.root import COMPLETE_VARIABLE, PROG_NAME

    name = shell or Path(os.environ.get("SHELL", "")).name
    script = get_completion_class(name)
    if name not in _SHELLS or script is None:
        raise click.UsageError(f"no completion for the shell {name!r}; choose {', '.join(_SHELLS)}")
    click.echo(script(ctx.find_root().command, {}, PROG_NAME, COMPLETE_VARIABLE).source())
    say(f"to use it: {_SHELLS[name]}")
