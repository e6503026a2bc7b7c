"""`minigpt-tui train`: a text becomes a model, in a process of its own that this one watches. Imports torch neither
here nor below: that process does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.presets import DEFAULT_PRESET, FINETUNE_PRESET, PRESETS
from minigpt_tui.cli.failures import INTERRUPTED
from minigpt_tui.cli.options import Common, ModelName, RunName, engine_device_option, nproc_option, pass_common
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.cli.training_settings import TrainCommand

if TYPE_CHECKING:
    from engine.training.run import RunConfig


@click.command(cls=TrainCommand)
@click.argument("texts", nargs=-1, metavar="FILE_OR_FOLDER_OR_NAME...")
@click.option(
    "--preset",
    help=f"Settings to begin with: {', '.join(PRESETS)}.  [default: {DEFAULT_PRESET}; {FINETUNE_PRESET} with --from]",
)
@click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE.toml", help="Settings over the preset's."
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting over all others.")
@click.option("--name", help="The run's name, by which the model goes.  [default: the text's]")
@click.option("--val", metavar="FILE", help="Text for validation.  [default: the last 10% of the text]")
@click.option("--test", metavar="FILE", help="Text for a test at the end, which has no say in what is kept.")
@click.option("--column", help="Where the text is in .csv and .jsonl files.  [default: found]")
@click.option("--from", "base", type=ModelName(), metavar="MODEL",
              help="Go on from a model, with its shape and tokenizer: a name, a folder, RUN:CHECKPOINT.")  # fmt: skip
@click.option("--like", type=RunName(), metavar="RUN", help="Begin with the settings and the text of another run.")
@nproc_option
@click.option("--detach", is_flag=True, help="Return as soon as it trains, and print the run's name.")
@click.option("--json", "as_json", is_flag=True, help="With --detach: print one JSON object.")
@engine_device_option
@pass_common
def train(common: Common, /, detach: bool, as_json: bool, **given: Any) -> None:
    """Train a GPT on your own text: files, folders (.txt, .md, .csv, .jsonl, .py), or names from `data list`.

    It trains in a process of its own, which a lost terminal does not reach, and is watched from here; `runs watch`
    and the app show it too. ctrl+c asks it to save and stop. The model goes by the run's name, and at the end the
    path of its checkpoint is printed on stdout.
    """
    if as_json and not detach:
        raise click.UsageError("--json is for --detach; `runs watch --json` prints what a run measures")
    from minigpt_tui.cli.new_run import Wishes, new_run

    config = new_run(Wishes(device=common.device, **given))
    if detach:
        _train_detached(config, as_json)
    else:
        _train_watched(config)


def _train_detached(config: RunConfig, as_json: bool) -> None:
    from engine.training.control import request
    from engine.training.launch import start_run, wait_until_running

    run = start_run(config)
    try:
        status = wait_until_running(run, discard=True)
    except KeyboardInterrupt:
        request(run.path, "stop")
        say(f"{run.name} stops as soon as it has begun")
        raise
    if as_json:
        write_json({"name": run.name, "path": str(run.path), "state": status.state, "pid": status.pid})
    else:
        write_line(run.name)
    say(f"{run.name} is {status.state}, as process {status.pid}; it goes on when this terminal closes")
    say(f"watch it: minigpt-tui runs watch {run.name}   stop it: minigpt-tui runs stop {run.name}")


def _train_watched(config: RunConfig) -> None:
    from engine.training.control import request
    from engine.training.launch import start_run, wait_until_running
    from minigpt_tui.cli.training_following import Interrupts, follow, tell_end
    from minigpt_tui.cli.training_view import open_view

    view = open_view(config.name, "ctrl+c saves and stops", is_new=True)
    with Interrupts() as interrupts:
        run = start_run(config)

        def stop() -> bool:
            if interrupts.count > 1:
                return False
            request(run.path, "stop")
            view.remark("saving and stopping; ctrl+c again leaves, and it stops without you")
            return True

        info = follow(run.path, view, interrupts, stop)
    if info is None:
        say(f"{run.name} is still saving: minigpt-tui runs show {run.name}")
        raise click.exceptions.Exit(INTERRUPTED)
    if info.state == "crashed":
        wait_until_running(run, discard=True)  # raises what its process met
    if tell_end(info):
        say(f"try it: minigpt-tui generate --model {run.name}")
    if info.state == "stopped":
        raise click.exceptions.Exit(INTERRUPTED)
