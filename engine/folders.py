"""Where things live on this machine: models, runs, texts, settings and logs. Knows nothing of torch.

`MINIGPT_HOME` moves all of them under one folder; else they are platformdirs' folders for the user. What is made
here is private to the user (0700).
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "minigpt-tui"


def _base(kind: str) -> Path:
    if home := os.environ.get("MINIGPT_HOME"):
        return Path(home).expanduser().absolute() / kind
    return {
        "data": platformdirs.user_data_path,
        "config": platformdirs.user_config_path,
        "state": platformdirs.user_state_path,
        "cache": platformdirs.user_cache_path,
    }[kind](APP)


def expanded(path: Path) -> Path:
    """A path with `~` put in words; as it is where nobody is known by that name."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def data_home() -> Path:
    """The user's data: checkpoints, runs and texts."""
    return _base("data")


def config_home() -> Path:
    """The user's settings."""
    return _base("config")


def state_home() -> Path:
    """Logs, and what the last session left."""
    return _base("state")


def cache_home() -> Path:
    """What can be made again."""
    return _base("cache")


def runs_folder() -> Path:
    """Training runs, one directory each."""
    return data_home() / "runs"


def user_checkpoints() -> Path:
    """Models that the user exported or imported."""
    return data_home() / "checkpoints"


def user_texts() -> Path:
    """Texts that the user downloaded."""
    return data_home() / "texts"


def mlflow_folder() -> Path:
    """What MLflow keeps of the runs that are tracked with it."""
    return data_home() / "mlflow"


def _bundled(name: str) -> Path:
    package = Path(__file__).parent
    installed = package / "bundled" / name
    return installed if installed.is_dir() else package.parent / name


def bundled_checkpoints() -> Path:
    """Models that ship with the project: inside an installed package, or at the top of a checkout."""
    return _bundled("checkpoints")


def bundled_texts() -> Path:
    """Texts that ship with the project."""
    return _bundled("data")


def private(folder: Path) -> Path:
    """Make `folder` (and what leads to it) if it is not there, readable by its owner alone, and return it."""
    if not folder.is_dir():
        for parent in (*reversed(folder.parents), folder):
            if not parent.exists():
                parent.mkdir(mode=0o700, exist_ok=True)
    return folder
