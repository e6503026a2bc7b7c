"""Waiting for what may take long, without holding up the screen, nor the end of the app."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_daemon(call: Callable[[], T]) -> T:
    """Run something in a thread that dies with the app; `asyncio.to_thread` would keep the app until it is done.

    Args:
        call: What to run.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[Any], None], value: object) -> None:
        if not future.done():  # nobody waits any more
            how(value)

    def run() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: the app has ended
            try:
                result = call()
            except Exception as error:  # for the one who waits
                loop.call_soon_threadsafe(settle, future.set_exception, error)
            else:
                loop.call_soon_threadsafe(settle, future.set_result, result)

    threading.Thread(target=run, daemon=True, name="in_daemon").start()
    return await future
