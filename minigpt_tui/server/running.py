"""The server as a process: the address is taken, the engine starts, requests are answered, and a signal ends it without
cutting off what is being written.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType

import uvicorn

from engine.config import Device, Precision
from engine.errors import MiniGPTError
from minigpt_tui.addresses import is_this_machine
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.server.app import build
from minigpt_tui.server.backend import Backend
from minigpt_tui.server.engine_keeper import EngineKeeper
from minigpt_tui.server.limits import Limits

CUT_SECONDS = 3
"""How long the last words of what was cut off may take."""

BACKLOG = 2048

FULL_COLLECTIONS = 2
"""Every so many collections of what is a little older, all is looked through that was made since the start."""


class AddressError(MiniGPTError):
    """The server cannot listen at its address."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How to serve.

    Attributes:
        models: Names of models, as on the command line; an empty one is the default.
        host: The address to listen at; port 0 is any that is free.
        api_key: What requests have to bring; empty for nothing.
        cors: Origins whose pages may use the server.
        drain_seconds: How long what is being written may go on after the signal to end.
    """

    models: Sequence[str]
    device: Device = "auto"
    precision: Precision = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = ""
    cors: Sequence[str] = ()
    drain_seconds: int = 30
    limits: Limits = field(default_factory=Limits)


def serve(serving: Serving, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        serving: How.
        say: Told what happens, a line at a time.

    Raises:
        AddressError: The address cannot be used.
        MiniGPTError: The engine does not start, or a model cannot be loaded.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in listen(serving.host, serving.port)]
        asyncio.run(_serve(serving, sockets, say))


async def _serve(serving: Serving, sockets: list[socket.socket], say: Callable[[str], None]) -> None:
    keeper = EngineKeeper(EngineClient(), serving.models, serving.device, serving.precision)
    try:
        await keeper.open(lambda name: say(f"loading {name}"))
        backend = Backend(keeper, serving.limits)
        only_here = is_this_machine(serving.host)
        app = build(backend, api_key=serving.api_key, only_here=only_here, cors=serving.cors)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            http="h11",  # the other one, where it is installed, takes a request's head however long it is
            lifespan="off",
            ws="none",
            backlog=BACKLOG,
            server_header=False,
            timeout_graceful_shutdown=serving.drain_seconds + CUT_SECONDS,
        )
        logging.getLogger("uvicorn").addHandler(_Said(say))
        server = _Server(config, keeper, serving.drain_seconds, say)
        for sock in sockets:
            sock.listen(BACKLOG)  # whoever reads the line below may ask at once
        port = sockets[0].getsockname()[1]
        shown = f"[{serving.host}]" if ":" in serving.host else serving.host
        say(f"serving {', '.join(keeper.models)} at http://{shown}:{port}; its description is at /docs; ctrl+c ends")
        keep_all_made_so_far()
        await server.serve(sockets)
    finally:
        await keeper.close()


def keep_all_made_so_far() -> None:
    """Let the collector look no more through what is there for good, a quarter of a million objects. It is then done
    in seven milliseconds in place of fifty, and comes for what requests leave behind before that has grown: each
    connection of asyncio's is a cycle, which nothing but the collector frees.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # or it waits for a quarter of what it found before
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTIONS)


class _Server(uvicorn.Server):
    """Ends at a signal with status 0: nothing new is taken, what is being written goes on for a while, and is then told
    that it was cut off. A second signal cuts it off at once.
    """

    def __init__(
        self, config: uvicorn.Config, keeper: EngineKeeper, drain_seconds: int, say: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self._keeper = keeper
        self._drain_seconds = drain_seconds
        self._say = say
        self._cut: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals while it serves; unlike uvicorn's own, they do not end the process a second time."""
        loop = asyncio.get_running_loop()

        def end(number: int, _: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._end, number)

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int) -> None:
        again = self.should_exit
        self.should_exit = True
        if self._cut:
            self._cut.cancel()
        self._cut = asyncio.create_task(self._cut_off(0 if again else self._drain_seconds))
        if not again and self.server_state.tasks:
            self._say(f"{signal.Signals(number).name}: what is being written has {self._drain_seconds} s to end")

    async def _cut_off(self, seconds: float) -> None:
        """End what still runs then: without the engine, each answer ends with an error."""
        await asyncio.sleep(seconds)
        await self._keeper.close()


class _Said(logging.Handler):
    """uvicorn's warnings, as this program says things."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say one."""
        self._say(self.format(record))


def listen(host: str, port: int) -> list[socket.socket]:
    """Take an address: every one that a name stands for, as `localhost` may stand for two.

    Raises:
        AddressError: None of them can be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"{host} is no address ({error})", "choose another with --host, or HOST") from None
    taken: list[socket.socket] = []
    problem: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        try:
            if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(len(found) > 1))
            sock.bind((address[0], taken[0].getsockname()[1] if taken else port, *address[2:]))
        except OSError as error:
            sock.close()
            problem = problem or error
            if error.errno == errno.EADDRINUSE:
                break
        else:
            taken.append(sock)
    if problem and (not taken or problem.errno == errno.EADDRINUSE):
        for sock in taken:
            sock.close()
        raise AddressError(
            f"{host}:{port} cannot be used ({problem.strerror or problem})", "choose another with --port, or PORT"
        )
    return taken
