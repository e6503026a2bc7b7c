"""The modules of the standard library that some systems have and others have not. Knows nothing of what is in them."""

from __future__ import annotations

import importlib
from typing import Any


def find(name: str) -> Any:
    """A module such as `fcntl` or `resource`; None where this system has none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
