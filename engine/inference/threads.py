"""How many threads torch computes with: as many as are right for whoever computes at the moment. Beside the passes that
write texts these are few: for the little that is to be done there others are no help, and on a busy machine it would
wait for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads, and with as many as before when that is done."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def most_threads() -> int:
    """As many as the user allows, or this process may have processors."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # the rest is for threads within threads
    count = int(wanted) if wanted.isdecimal() and len(wanted) < 5 else 0  # nobody has more: a slip, as a word is
    return count or _cores()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
