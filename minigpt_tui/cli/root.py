"""`minigpt-tui` itself: its options, its list of commands, and what it does alone. Imports neither torch nor textual
before it must, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

import click
from click.shell_completion import shell_complete

from engine import __version__
from minigpt_tui.cli.connecting import Elsewhere, connect_options
from minigpt_tui.cli.failures import run
from minigpt_tui.cli.lazy import LazyCommand, LazyGroup
from minigpt_tui.cli.options import Common, debug_option, engine_options
from minigpt_tui.cli.streams import prepare_streams, say
from minigpt_tui.config_file import load_config

PROG_NAME = "minigpt-tui"
COMPLETE_VARIABLE = "_MINIGPT_TUI_COMPLETE"

COMMANDS = {
    "generate": LazyCommand("minigpt_tui.cli.generate:generate", "Write on from a prompt."),
    "train": LazyCommand("minigpt_tui.cli.train:train", "Train a GPT on your own text."),
    "runs": LazyCommand("minigpt_tui.cli.runs:runs", "List, watch, pause, resume, stop and compare training runs."),
    "eval": LazyCommand("minigpt_tui.cli.evaluate:evaluate", "Measure a model on a text: loss, bits per byte."),
    "bench": LazyCommand("minigpt_tui.cli.bench:bench", "Measure a model's speed and memory on this machine."),
    "models": LazyCommand("minigpt_tui.cli.models:models", "List, show, verify, import, export and remove models."),
    "presets": LazyCommand("minigpt_tui.cli.presets:presets", "List and show sampler settings that have names."),
    "history": LazyCommand("minigpt_tui.cli.history:history", "List, search, export what was generated."),
    "data": LazyCommand("minigpt_tui.cli.data:data", "List, get and show texts to train on."),
    "config": LazyCommand("minigpt_tui.cli.config:config", "Show and change what you have decided: config.toml."),
    "serve": LazyCommand("minigpt_tui.cli.serve:serve", "Serve models over HTTP, as OpenAI's API has it and plainly."),
    "serve-tui": LazyCommand("minigpt_tui.cli.serve_tui:serve_tui", "Show the app in a browser."),
    "paths": LazyCommand("minigpt_tui.cli.paths:paths", "Print every folder and file, and what it holds."),
    "doctor": LazyCommand("minigpt_tui.cli.doctor:doctor", "Check this machine, and say how to mend what is wrong."),
    "completion": LazyCommand("minigpt_tui.cli.completion:completion", "Print a shell's completion script."),
    "worker": LazyCommand("minigpt_tui.cli.worker:worker", "Be the engine of an app elsewhere; --ssh starts this."),
}

_WITHOUT_CONFIG = ("config", "serve-tui", "paths", "doctor", "completion", "data", "presets", "worker")
"""Commands that heed nothing of `config.toml`, or speak of it themselves."""


@click.command(
    cls=LazyGroup,
    lazy=COMMANDS,
    shared=(debug_option,),
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[debug_option],
)
@engine_options
@connect_options
@click.version_option(__version__, prog_name=PROG_NAME, message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context, elsewhere: Elsewhere) -> None:
    """The workbench for small GPTs, in the terminal.

    Without a command it opens the app: write with a model, turn its settings while it writes.
    """
    common = ctx.ensure_object(Common)
    place = elsewhere.place(ctx.invoked_subcommand)
    if ctx.invoked_subcommand in _WITHOUT_CONFIG:
        return
    given = {name: getattr(common, name) for name in ("model", "device", "precision") if name in common.given}
    loaded = load_config()
    common.begin_with(loaded.config.model, loaded.config.device, loaded.config.precision)
    if ctx.invoked_subcommand is not None:
        for problem in loaded.problems:
            say(problem)
        return
    driver = os.environ.get("TEXTUAL_DRIVER")  # another front end than a terminal, such as a browser's
    if not sys.stdout.isatty() and not driver and place is not None:
        raise click.UsageError("the app needs a terminal, and stdout is none")
    if not sys.stdout.isatty() and not driver:
        from minigpt_tui.cli.generate import write_sample

        write_sample(common)
        return
    if not sys.stdin.isatty() and not driver:
        raise click.UsageError("the app needs a keyboard and stdin is no terminal; `generate` takes a piped prompt")
    gc.disable()  # the app enables it: walking through all that is new took a sixth of the time to the first picture
    from minigpt_tui.app import MiniGPTApp
    from minigpt_tui.engine_client import EngineClient

    if place is None:
        app = MiniGPTApp(common.model, common.device, common.precision, loaded=loaded)
    else:
        app = MiniGPTApp(**given, client=EngineClient(place=place), loaded=loaded)
    app.run(mouse=loaded.config.mouse)
    ctx.exit(app.return_code or 0)


def main() -> NoReturn:
    """Run the command line on `sys.argv` and exit with its status."""
    prepare_streams()
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        sys.exit(shell_complete(root, {}, PROG_NAME, COMPLETE_VARIABLE, instruction))
    sys.exit(run(root, sys.argv[1:], PROG_NAME))
