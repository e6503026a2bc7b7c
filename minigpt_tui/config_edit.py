"""Changes to `config.toml`: one key at a time, everything else in it as it was, comments and order too, and the file
whole at every moment. Knows nothing of what the settings do.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from engine import folders, safe_writing
from engine.errors import InvalidSettingError, MiniGPTError
from minigpt_tui.config_file import config_path, load_config

HEADING = "What you have decided; `minigpt-tui config show` says what there is."

_WRITING = threading.Lock()


class ConfigError(MiniGPTError):
    """The file cannot be changed; it is as it was."""


def set_value(key: str, value: Any) -> Path:
    """Write one setting; None takes it out.

    Args:
        key: Its name, with its table before a dot.
        value: As TOML can write it; tuples are lists.

    Returns:
        The file.

    Raises:
        ConfigError: The file is damaged or cannot be written.
    """
    import tomlkit

    path = config_path()
    try:
        folders.private(path.parent)
        target = path.resolve()  # a link stays a link: what it points to is written
        with _WRITING, safe_writing.locked(path.parent):
            if (found := load_config()).damaged:
                problem = found.problems[0].replace(str(path), path.name).partition(";")[0]
                raise ConfigError(problem, "mend it first: minigpt-tui config edit")
            text = target.read_bytes().decode() if target.exists() else f"# {HEADING}\n\n"
            document = tomlkit.parse(text)
            _change(document, key, list(value) if isinstance(value, tuple) else value)
            if (written := tomlkit.dumps(document)) != text:
                safe_writing.write_file(target, written.encode())
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{path} cannot be written ({reason})", "the setting holds until you leave") from None
    return path


def _change(document: Any, key: str, value: Any) -> None:
    import tomlkit

    table, _, name = key.partition(".") if "." in key else ("", "", key)
    holder = document
    if table:
        holder = document.get(table)
        if holder is None and value is None:
            return
        if holder is None:
            holder = document[table] = tomlkit.table()
        if not hasattr(holder, "items"):
            raise InvalidSettingError(f"{table} is no table in config.toml", f"write [{table}] on a line of its own")
    if value is not None:
        if holder.get(name) != value or name not in holder:
            holder[name] = value
    elif name in holder:
        del holder[name]
        if table and not holder:
            del document[table]
