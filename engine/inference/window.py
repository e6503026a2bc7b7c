"""Where the context window of a text begins. Plain arithmetic, so that a screen can show the edge without asking."""

from __future__ import annotations


def window_start(length: int, block_size: int) -> int:
    """Where the window of a text of `length` tokens begins: a pure function, so that resuming sees the same window.

    It moves in steps of half a block, so a window holds between half a block and a whole one, and reading it anew
    costs each token about one more.
    """
    if length <= block_size:
        return 0
    step = max(1, block_size // 2)
    return -(-(length - block_size) // step) * step
