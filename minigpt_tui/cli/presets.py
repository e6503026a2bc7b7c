"""`minigpt-tui presets`: the sampler settings that have names, as `generate --preset` takes them."""

from __future__ import annotations

import click

from minigpt_tui.cli.options import PresetName
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.columns import columns


@click.group()
def presets() -> None:
    """List and show the presets: settings that have names."""


@presets.command("list")
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per preset.")
def list_(as_lines: bool) -> None:
    """List every preset: those that ship, and your own; one that cannot be used says why."""
    from minigpt_tui.library.presets import presets_file, read_presets

    found = read_presets()
    if as_lines:
        for preset in found:
            facts = {"name": preset.name, "about": preset.about, "own": preset.is_own, "settings": dict(preset.values)}
            write_json({**facts, "problem": preset.problem} if preset.problem else facts)
        return
    for line in columns([(preset.name, preset.words, preset.about) for preset in found]):
        write_line(line)
    say(f"your own are in {presets_file()}; o on the Play screen saves one")


@presets.command()
@click.argument("name", type=PresetName())
def show(name: str) -> None:
    """Print the preset NAME as it stands in the file of one's own: copy it there to change it."""
    import tomlkit  # here, as the list need not wait for it

    from engine.config import SamplingParams
    from minigpt_tui.library.presets import ABOUT, find_preset

    preset = find_preset(name)
    preset.applied(SamplingParams())  # says what is wrong with it
    table = tomlkit.table()
    for key, value in ({ABOUT: preset.about} | dict(preset.values)).items():
        table.add(key, list(value) if isinstance(value, tuple) else value)
    write_line(tomlkit.dumps({name: table}).rstrip())
