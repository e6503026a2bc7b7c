"""Leaves in a run's directory the table that its models' texts are guessed with. It is made of the training text, so it
is the same for all checkpoints of a run, and a run that cannot have one goes on without.
"""

from __future__ import annotations

import contextlib

from engine.inference.draft_table import TABLE, Array, build_table
from engine.training.run import RunDirectory


def leave_table(run: RunDirectory, tokens: Array, vocab_size: int) -> None:
    """Make the table and write it, unless it is there: it takes about a second for millions of tokens.

    Args:
        run: Whose directory it is left in.
        tokens: Ids of the training split.
        vocab_size: The model's.
    """
    try:
        if not (run.path / TABLE).exists():
            build_table(tokens, vocab_size).save(run.path)
    except Exception as error:  # whatever it is: the training is worth more
        with contextlib.suppress(OSError):
            run.log(f"the table that texts are guessed with cannot be made ({error}); they are written more slowly")
