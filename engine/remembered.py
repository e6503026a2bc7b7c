"""What was measured on this machine and need not be measured again, in small files of the cache folder. It knows
nothing of what is measured.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

import msgspec

from engine import folders, safe_writing

T = TypeVar("T")


def recall(name: str, kind: type[T]) -> dict[str, T]:
    """What was remembered in a file, by its keys; nothing where there is none yet, or it is damaged."""
    try:
        return msgspec.json.decode((folders.cache_home() / name).read_bytes(), type=dict[str, kind])  # type: ignore[valid-type]
    except (OSError, ValueError):
        return {}


def remember(name: str, known: dict[str, T]) -> None:
    """Write all that is known to a file; what cannot be written is measured again."""
    file = folders.cache_home() / name
    with suppress(OSError):
        folders.private(file.parent)
        safe_writing.write_file(file, msgspec.json.encode(known))
