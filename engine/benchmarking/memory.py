"""The memory that a model takes, measured in a process of its own: `python -m engine.benchmarking.memory` reads a
request as JSON from stdin, loads the model as the worker does, and answers with one line on stdout.
"""

from __future__ import annotations

import os
import sys

import msgspec
import psutil

from engine.errors import MiniGPTError


class MemoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which model to load, as `engine.checkpoints.load_model` takes it."""

    model: str
    device: str
    precision: str


class MemoryTaken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it took; sizes in bytes.

    Attributes:
        above_torch: What the process grew by after `import torch`, with the model ready to write.
        on_device: What a GPU holds of it.
        precision: What `auto` is here.
        problem: Why it could not be loaded; empty when it was.
        hint: What to do about that.
    """

    above_torch: int = 0
    on_device: int = 0
    precision: str = ""
    problem: str = ""
    hint: str = ""


def measure(request: MemoryRequest) -> MemoryTaken:
    """Load a model, where nothing but torch has been imported so far."""
    import torch

    own = psutil.Process()
    before = own.memory_info().rss

    from engine.checkpoints import load_model

    model = load_model(request.model, request.device, request.precision)
    model.prepare_to_write()
    on_device = torch.cuda.memory_allocated() if model.device == "cuda" else 0
    return MemoryTaken(above_torch=own.memory_info().rss - before, on_device=on_device, precision=model.precision)


def main() -> int:
    """Answer one request; what a user can do something about is an answer too."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    try:
        taken = measure(msgspec.json.decode(sys.stdin.buffer.read(), type=MemoryRequest))
    except MiniGPTError as error:
        taken = MemoryTaken(problem=error.message, hint=error.hint)
    with answers:
        answers.write(msgspec.json.encode(taken) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
