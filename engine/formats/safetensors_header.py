"""How many weights a safetensors file holds, and of which kind, read from its first bytes. Knows nothing of torch."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Annotated

import msgspec

from engine.errors import CheckpointError

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _TensorHeader(msgspec.Struct):
    """What the head of a safetensors file says of one tensor."""

    dtype: str
    shape: list[Count]
    data_offsets: tuple[Count, Count]


def read_weights_header(path: Path) -> tuple[int, str]:
    """Number of weights and their dtype (fp32, fp16, bf16), from the head of a safetensors file.

    Raises:
        CheckpointError: It is missing, no safetensors file, or shorter than its header says.
    """
    names = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F64": "fp64"}
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000:
                raise ValueError("no safetensors header")
            header = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(raw, type=_TensorHeader) for name, raw in header.items()}
        count, end = 0, 0
        for name, tensor in tensors.items():
            first, last = tensor.data_offsets
            size = math.prod(tensor.shape)
            if size > 2 * (last - first):  # no kind of number takes less than half a byte
                raise ValueError(f"{name} has more numbers than bytes")
            count += size
            end = max(end, last)
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"{path.stat().st_size:,} bytes where {8 + length + end:,} belong")
        kinds = {tensor.dtype for tensor in tensors.values()}
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing", "the model is incomplete; copy or train it again") from None
    except (OSError, ValueError, RecursionError, struct.error, msgspec.DecodeError) as error:
        hint = "the model is damaged; copy or train it again (pickled .pt files are never opened here)"
        raise CheckpointError(f"{path} is not a whole safetensors file ({error})", hint) from None
    return count, names.get(next(iter(kinds)), "mixed") if len(kinds) == 1 else "mixed"
