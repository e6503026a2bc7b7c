"""The models that the worker holds: loaded once, loaded anew when their files change, and dropped, the least recently
used first, when memory is short. Knows nothing of requests.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from engine.catalog import CONFIG, RECORD, WEIGHTS, find_checkpoint
from engine.checkpoints import LoadedModel, load_model
from engine.devices import resolve_device, resolve_precision
from engine.inference.threads import most_threads, torch_threads

T = TypeVar("T")

MAX_MODELS = 8
"""Models held at once, where memory would allow for more."""

FREE_SHARE = 0.1
"""The share of all memory that stays free when a model is loaded while others are held."""

LOAD_FACTOR = 3
"""Memory that loading takes, in sizes of the weights file: the file, its weights in float32, and some to spare."""

Key = tuple[Path, str, str]
Stamp = tuple[tuple[str, int, int, int], ...]


class Models:
    """Loaded models by path, device and precision."""

    def __init__(self) -> None:
        self._held: dict[Key, tuple[Stamp, LoadedModel]] = {}  # the most recently used last
        self._chosen: dict[tuple[Path, str, Stamp], str] = {}  # what `auto` came to
        self.last_loaded = time.monotonic()
        """When the last loading ended, on the monotonic clock; a request's own time begins no earlier."""

    def get(self, name: str, device: str, precision: str) -> LoadedModel:
        """The model of that name, loaded if it is not held or has changed on disk.

        Raises:
            MiniGPTError: As `find_checkpoint` and `load_model` raise.
        """
        path = find_checkpoint(name).resolve()
        device = resolve_device(device)
        stamp = _stamp(path)
        chosen = self._chosen.get((path, device, stamp), "auto") if precision == "auto" else precision
        key = (path, device, chosen if chosen == "auto" else resolve_precision(chosen, device))
        found = self._held.pop(key, None)
        if found and found[0] == stamp:
            model = found[1]
        else:
            del found  # the old weights are freed before the new ones come
            try:
                self._make_room(_weights_size(path), device)
                with torch_threads(most_threads()):
                    model = self.retry_alone(lambda: load_model(name, device, precision))
                self.retry_alone(model.prepare_to_write)
            finally:
                self.last_loaded = time.monotonic()
        self._held[path, device, model.precision] = (stamp, model)
        if precision == "auto":
            self._chosen[path, device, stamp] = model.precision
        return model

    def retry_alone(self, work: Callable[[], T]) -> T:
        """Do `work`; when the device's memory does not suffice, drop every model and try once more."""
        try:
            return work()
        except torch.OutOfMemoryError:
            if not self._held:
                raise
        self.drop_all()  # outside of the handler, whose traceback holds what was half done
        return work()

    def drop_all(self) -> None:
        """Let go of every model; one that a generation still uses stays in memory until that ends."""
        self._held.clear()
        _collect()

    def _make_room(self, size: int, device: str) -> None:
        while self._held and (len(self._held) >= MAX_MODELS or _is_short(size, device)):
            del self._held[next(iter(self._held))]
            _collect()


def _stamp(path: Path) -> Stamp:
    """What changes when a model is written anew: identity, size and time of its files."""
    stamp = []
    for name in (CONFIG, WEIGHTS, RECORD, "tokenizer.json"):
        try:
            status = (path / name).stat()
        except OSError:
            continue
        stamp.append((name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamp)


def _weights_size(path: Path) -> int:
    try:
        return (path / WEIGHTS).stat().st_size
    except OSError:
        return 0


def _is_short(size: int, device: str) -> bool:
    """Whether loading `size` bytes of weights would leave too little memory, where that can be known."""
    needed = size * LOAD_FACTOR
    memory = [_memory()]
    if device != "cpu" and torch.cuda.is_available():
        memory.append(torch.cuda.mem_get_info())
    return any(free - needed < total * FREE_SHARE for free, total in filter(None, memory))


def _memory() -> tuple[int, int] | None:
    """Bytes of this machine's memory, free (or held by nothing but caches) and in all; None where it does not say."""
    try:
        memory = psutil.virtual_memory()
    except (OSError, psutil.Error):
        return None
    return memory.available, memory.total


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
