"""`minigpt-tui paths`: where everything is."""

from __future__ import annotations

import click

from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.columns import columns
from minigpt_tui.paths import places


@click.command()
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per place.")
def paths(as_lines: bool) -> None:
    """Print every folder and file that minigpt-tui uses, what it holds, and whether it is there yet.

    MINIGPT_HOME moves all but what ships with minigpt-tui under one folder.
    """
    if as_lines:
        for place in places():
            found = {"name": place.name, "path": str(place.path), "holds": place.holds, "exists": place.path.exists()}
            write_json(found)
        return
    rows = [
        (place.name, str(place.path), place.holds + ("" if place.path.exists() else " (not there yet)"))
        for place in places()
    ]
    for line in columns(rows):
        write_line(line)
    say("MINIGPT_HOME moves your own under one folder")
