"""The folders that the user has added for models to be found in by name: `model_folders` in `config.toml`. They are
read here, as every command finds models there; whoever changes the file says what is wrong with it.
"""

from __future__ import annotations

from pathlib import Path

from engine import folders

CONFIG_FILE = "config.toml"
KEY = "model_folders"
MOST_BYTES = 1024 * 1024
"""A longer file is none that a user wrote."""


def added_folders() -> list[Path]:
    """The folders in the order of the file, whether they are there or not; none where it has none."""
    try:
        with (folders.config_home() / CONFIG_FILE).open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if KEY.encode() not in raw or len(raw) > MOST_BYTES:
            return []
        import tomllib  # only where it is wanted: no command waits for it

        named = tomllib.loads(raw.decode()).get(KEY, ())
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(named, list):
        return []
    return list(dict.fromkeys(_folder(name) for name in named if isinstance(name, str) and name))


def _folder(name: str) -> Path:
    path = folders.expanded(Path(name))
    return path if path.is_absolute() else folders.config_home() / path
