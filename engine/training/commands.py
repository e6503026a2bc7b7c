"""What can be asked of a training run, for those who speak of it without asking: the app's start does not wait for what
writes files.
"""

from __future__ import annotations

from typing import Literal

Command = Literal["pause", "resume", "save", "stop"]
