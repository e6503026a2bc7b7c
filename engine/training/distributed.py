"""The processes that train one model together: one alone, or one for each GPU. Knows nothing of models and runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from engine.errors import DeviceError
from engine.training.ranks import MEETING_VARIABLE, STORE

PATIENCE = timedelta(days=1)
"""How long one waits for another. Whoever dies takes the others along (`ranks`), so it may be long, as a pause is."""


class Team(NamedTuple):
    """This process's place among those that train together.

    Attributes:
        rank: From 0; the first one writes the run's directory.
        size: How many they are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_lead(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums of each value over all processes; every one of them has to ask."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)  # on the CPU, by gloo, where the values are
        found: list[float] = total.tolist()
        return found

    def lead_says(self, values: Sequence[float]) -> list[float]:
        """The lead's values, in every process; every one of them has to ask, with as many values."""
        return self.sum(values if self.is_lead else [0.0] * len(values))

    def rows(self, count: int) -> slice:
        """This process's share of so many rows; no share has two more than another."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)


ALONE = Team()


def join(device: str) -> Team:
    """The team that this process was started into by `ranks.run_ranks`, or itself alone.

    Args:
        device: cpu, cuda or mps; on CUDA each process takes the GPU of its number.

    Raises:
        DeviceError: There are fewer GPUs than processes, or several processes were to share another device.
    """
    meeting = os.environ.get(MEETING_VARIABLE)
    if meeting is None:
        return ALONE
    team = Team(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    _check_devices(device, team.size)
    backend = "gloo"
    if device == "cuda":
        torch.cuda.set_device(team.rank)
        backend = "cpu:gloo,cuda:nccl"
    store = dist.FileStore(str(Path(meeting) / STORE), team.size)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=team.rank, world_size=team.size, timeout=PATIENCE)
    return team


def _check_devices(device: str, size: int) -> None:
    if device == "cuda" and size > (found := torch.cuda.device_count()):
        raise DeviceError(
            f"{size} processes need as many GPUs, and there {'is 1' if found == 1 else f'are {found}'}",
            f"use --nproc {found}",
        )
    if device == "mps" and size > 1:
        raise DeviceError("one Mac has one GPU", "leave --nproc out")


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is shared among the processes, whole in each of them; every one of them has to ask."""
    return tensor.full_tensor() if is_shared(tensor) else tensor  # type: ignore[attr-defined]


def share_of(like: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor, shared among the processes as another one is."""
    if not is_shared(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, places = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(mesh.device_type), mesh, places, src_data_rank=None)


def is_shared(tensor: Tensor) -> bool:
    """Whether each process holds a part of a tensor."""
    return hasattr(
        tensor, "full_tensor"
    )  # a DTensor, whose import takes a second that one process alone can do without
