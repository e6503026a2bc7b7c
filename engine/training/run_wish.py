"""A run as it is wished for, before the machine that shall train it has looked at it: texts as they were typed,
settings, perhaps a name. Plain data; `run_making.py` makes of it what can be started.
"""

from __future__ import annotations

import msgspec

from engine.config import TrainConfig


class TypedTexts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Texts as lines that were typed: names and paths, parted by commas or as a shell has them.

    Attributes:
        train: What to learn from.
        val: One text to validate with; empty for the last tenth of the others.
        test: One for a test at the end; empty for none.
    """

    train: str = ""
    val: str = ""
    test: str = ""

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing yet to learn from."""
        return not self.train.strip(", \t")


class RunWish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that is not named, and whose texts were not looked for yet.

    Attributes:
        column: Where the text is in CSV and JSONL files; empty for where it is found.
        name: Empty for a free name after the text.
        base: The model to go on from, by its path; empty for fresh weights.
    """

    texts: TypedTexts
    training: TrainConfig
    column: str = ""
    name: str = ""
    device: str = "auto"
    nproc: int = 1
    base: str = ""
