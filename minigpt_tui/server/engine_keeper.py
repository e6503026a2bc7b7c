"""The engine behind the server: started with its models loaded, and started again when it dies. It knows
nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.catalog import WEIGHTS, default_model, find_checkpoint
from engine.config import Device, Precision
from engine.errors import InvalidSettingError, MiniGPTError
from engine.worker.protocol import ModelInfo
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.server.faults import Fault, fault_of, unavailable

FORGET_SECONDS = 300.0
"""A death so long ago does not make the next start wait."""

LONGEST_PAUSE = 30.0
"""Between a death and the next start, in seconds, however many there were."""


@dataclass(frozen=True)
class Served:
    """A model that the server answers for.

    Attributes:
        id: What clients call it.
        source: What the engine is asked for.
        path: Its folder when the server started.
        info: What the engine told of it.
        created: When its weights were written, in seconds since 1970.
    """

    id: str
    source: str
    path: Path
    info: ModelInfo
    created: int


class EngineKeeper:
    """Keeps one engine running.

    Args:
        client: The engine's client, not yet started.
        names: The models to serve, as on the command line; an empty name is the default model.
        device: Where they compute.
        precision: How.

    Attributes:
        models: What is served, by id, the default first; filled by `open`.
        deaths: How often the engine has died.
    """

    def __init__(self, client: EngineClient, names: Sequence[str], device: Device, precision: Precision) -> None:
        self.client = client
        self.device: Device = device
        self.precision: Precision = precision
        self.models: dict[str, Served] = {}
        self.deaths = 0
        self._names = names
        self._died = asyncio.Event()
        self._recent: deque[float] = deque()
        self._loading = False
        self._care: asyncio.Task[None] | None = None
        self._is_leaving = False

    @property
    def state(self) -> str:
        """`ready`, or what it is doing instead: starting, importing, loading, dead, stopped."""
        return "loading" if self._loading and self.client.state == "ready" else self.client.state

    @property
    def is_up(self) -> bool:
        """Whether what is asked for now will be answered."""
        return self.client.state not in ("dead", "stopped")

    async def open(self, loading: Callable[[str], None]) -> None:
        """Start the engine and load the models.

        Args:
            loading: Called with the name of each model before it is loaded.

        Raises:
            InvalidSettingError: Two models would go by the same name.
            MiniGPTError: The engine does not start, or a model cannot be loaded.
        """
        names = [name or default_model() for name in self._names]
        paths = [find_checkpoint(name).resolve() for name in names]
        ids = [_id(name) for name in names]
        if doubles := {id for id in ids if ids.count(id) > 1}:
            raise InvalidSettingError(
                f"two models would be called {min(doubles)}", "serve one of them, or rename its folder"
            )
        await self.client.start()
        for name, id, path in zip(names, ids, paths, strict=True):
            loading(id)
            source = str(path) if Path(name).is_absolute() or _id(name) != name else name
            loaded = await self.client.load(source, self.device, self.precision)
            created = int((path / WEIGHTS).stat().st_mtime)
            self.models[id] = Served(id, source, path, loaded.model, created)
        self.client.on_state = self._moved
        self._care = asyncio.create_task(self._keep(), name="care of the engine")

    def check(self) -> None:
        """Raise a Fault where nothing can be asked now."""
        if not self.is_up:
            raise unavailable("the server is ending" if self._is_leaving else "the engine is being started again")

    def fault(self, error: MiniGPTError, param: str | None = None) -> Fault:
        """What a client is told of an error of the engine's.

        Args:
            error: The error.
            param: The field that an unusable text came in.
        """
        if self._is_leaving:
            return unavailable("the server is ending, and this was cut off")
        if not self.is_up:
            return unavailable(f"the engine ended while it wrote: {error.message}")
        return fault_of(error, param)

    async def close(self) -> None:
        """End the engine; what still runs fails."""
        self._is_leaving = True
        self.client.on_state = None
        if self._care:
            self._care.cancel()
            await asyncio.gather(self._care, return_exceptions=True)
        await self.client.close()

    def _moved(self, state: str, _: str) -> None:
        if state == "dead":
            self.deaths += 1
            self._died.set()

    async def _keep(self) -> None:
        """Start another engine whenever one has died."""
        while True:
            await self._died.wait()
            self._died.clear()
            await asyncio.sleep(self._pause())
            self._loading = True
            try:
                await self.client.start()
                for model in self.models.values():
                    await self.client.load(model.source, self.device, self.precision)
            except MiniGPTError:
                pass  # it died, which starts the next one, or a model is gone, which whoever asks for it is told
            finally:
                self._loading = False

    def _pause(self) -> float:
        """Seconds to wait: none after a first death, and longer the more often it died of late."""
        now = time.monotonic()
        self._recent.append(now)
        while now - self._recent[0] > FORGET_SECONDS:
            self._recent.popleft()
        count = len(self._recent) - 1
        return 0.0 if not count else min(LONGEST_PAUSE, 2.0 ** (count - 1))


def _id(name: str) -> str:
    """What clients call a model: its name, or its folder's where a path was given."""
    return Path(name).name if "/" in name or "\\" in name or name.startswith("~") else name
