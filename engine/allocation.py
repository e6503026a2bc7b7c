"""How the C library hands out memory, where it is glibc. Knows nothing of torch."""

from __future__ import annotations

import contextlib
import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of the settings in glibc's malloc.h."""

LARGEST = 32 << 20
"""Bytes of the largest block that glibc lets come from the heap."""

KEPT = 1 << 30
"""Bytes that may lie free at the heap's end."""


def keep_freed_memory() -> None:
    """Let freed blocks wait for the next step, where the C library is glibc.

    By itself it gives large ones back to the system at once, and each step waits anew for the system to clear them.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such settings
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, LARGEST)
        library.mallopt(TRIM_THRESHOLD, KEPT)


def give_back_freed_memory() -> None:
    """Give what was freed back to the system, where the C library is glibc: after a model was loaded, as much again."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
