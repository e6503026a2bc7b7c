"""Asks one of the engine's modules a single question, in a process of its own that ends with the question: its answer
does not make the screen wait, and a question that nobody asks any more takes nothing. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TypeVar

import msgspec

from engine import process_families, processes
from engine.errors import WorkerError

A = TypeVar("A")


async def ask(module: str, request: Any, answer: type[A]) -> A:
    """Have a module read a request from stdin and answer with a line; whoever cancels this ends the process.

    Args:
        module: Such as `engine.training.measure`.
        request: What it reads, as JSON.
        answer: The kind of its answer.

    Raises:
        WorkerError: It cannot be started, or ended without an answer.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=processes.environment(),
            **process_families.apart(),  # the terminal's ctrl+c is not for it
        )
    except OSError as error:
        raise WorkerError(f"{module} cannot be started ({error})") from None
    try:
        out, said = await process.communicate(msgspec.json.encode(request))
    finally:
        await asyncio.shield(_end(process))
    lines = out.splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else b"", type=answer)
    except ValueError:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise WorkerError(f"{module} ended with status {process.returncode}", last) from None


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a process that still runs, and wait until it is gone."""
    if process.returncode is None:
        process_families.kill(process.pid)
    await process.wait()
