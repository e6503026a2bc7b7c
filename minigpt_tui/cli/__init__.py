"""The command line: one file per command or group, imported when it is used. Results go to stdout, messages to
stderr; no module here imports torch or textual until a command needs them.
"""

from minigpt_tui.cli.root import main

__all__ = ["main"]
