"""Names of folders as one system or another has them: what cannot be one everywhere, and where two names are one."""

from __future__ import annotations

import os
import re
from pathlib import Path

RESERVED_HINT = "Windows keeps that name for a device, or drops the full stop at its end; choose another"

_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.I | re.S)


def is_reserved(name: str) -> bool:
    """Whether Windows has no folder of that name."""
    return name.endswith((".", " ")) or bool(_DEVICES.fullmatch(name))


def is_same_entry(one: Path, other: Path) -> bool:
    """Whether two names that differ in large and small letters alone are one, as most folders of Windows and macOS
    have it.
    """
    if one.name == other.name or one.name.casefold() != other.name.casefold():
        return False
    return os.path.samestat(one.lstat(), other.lstat())
