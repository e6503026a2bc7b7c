"""The loss of a micro-batch, computed as the settings want it: in which arithmetic, compiled or not, by one process or
by several that share the work (DistributedDataParallel) or the model too (FSDP). Knows nothing of steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from engine.config import TrainConfig
from engine.devices import DTYPES
from engine.model.gpt import GPT
from engine.training.distributed import Team, is_shared, whole

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""What torch says where it has no class for it: on a Mac's GPU, on the CPU, in cuBLAS."""

_NO_MEMORY = "no memory"


class MicroBatchLoss:
    """Computes the loss of micro-batches and adds its gradient to the model's.

    Args:
        gpt: The model, on its device. With FSDP its weights become shares; its names stay what they are.
        config: Whether to compile, and whether several processes share the model.
        device: cpu, cuda or mps.
        precision: fp32, bf16 or fp16, of the forward pass.
        team: The processes that train together.
        report: Told what the user should know, in a line.
    """

    def __init__(
        self, gpt: GPT, config: TrainConfig, *, device: str, precision: str, team: Team, report: Callable[[str], None]
    ) -> None:
        self.gpt, self.device, self.precision, self.team, self.report = gpt, device, precision, team, report
        self._proven: set[int] = set()
        self._loss = _Loss(gpt)
        self._module: nn.Module = self._loss
        self._no_sync: Callable[[], AbstractContextManager[object]] = nullcontext
        if team.size > 1 and config.parallel == "fsdp":
            _share(gpt, device, team)
        elif team.size > 1:
            with warnings.catch_warnings():  # newer versions have another name for it, and older ones only this
                warnings.simplefilter("ignore", FutureWarning)
                data_parallel = nn.parallel.DistributedDataParallel(self._loss, broadcast_buffers=False)
            self._module, self._no_sync = data_parallel, data_parallel.no_sync
        if config.compile == "on" or (config.compile == "auto" and device == "cuda"):
            self._compile()

    def backward(self, x: Tensor, y: Tensor, weight: float, *, is_last: bool) -> Tensor:
        """Add the gradient of a micro-batch's loss times a weight.

        Args:
            x: (B, T) ids.
            y: (B, T) ids that follow them.
            weight: How much it counts; processes that share the work have the mean of what they all add.
            is_last: Whether what the processes found is put together now.

        Returns:
            The mean loss of its tokens, a number on the device.
        """
        with nullcontext() if is_last else self._no_sync():
            with self._arithmetic():
                loss: Tensor = self._module(x.to(self.device), y.to(self.device))
            (loss * weight).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    @property
    def wants_proof(self) -> bool:
        """Whether a size of micro-batch must be tried before it is relied upon.

        It may not compile, and what fails in one process alone would leave the others waiting for it.
        """
        return self._loss.is_compiled or (self.team.size > 1 and not self.is_shared)

    @property
    def is_shared(self) -> bool:
        """Whether each process holds a share of the model."""
        return is_shared(self.gpt.embedding.weight)

    def prove(self, size: int, pieces: Sequence[tuple[Tensor, Tensor]]) -> bool:
        """Try micro-batches of a size, once and in all processes together, and go on uncompiled where it fails.

        Args:
            size: Rows in a micro-batch.
            pieces: A full one and a last one, as many in every process.

        Returns:
            Whether they fit into memory.
        """
        if size in self._proven:
            return True
        for x, y in pieces:
            fault = self._try(x, y)
            no_memory, not_compiled = self.team.sum([fault == _NO_MEMORY, fault not in ("", _NO_MEMORY)])
            if not_compiled:
                self.report(f"torch.compile did not work, so the model runs as it is ({fault or 'another process'})")
                self._loss.compute = self.gpt.loss
                return self.prove(size, pieces)
            if no_memory:
                return False
        self._proven.add(size)
        return True

    def _try(self, x: Tensor, y: Tensor) -> str:
        """What is wrong with a micro-batch: _NO_MEMORY, why it was not compiled, or nothing."""
        fault = ""
        try:
            reserve = self._what_the_optimizers_will_take()
            self.backward(x, y, 0.0, is_last=False)
            del reserve
        except Exception as error:
            no_memory = is_out_of_memory(error)
            if no_memory and self.is_shared:  # the others wait for this one's share, and cannot be told
                raise
            if not no_memory and not self._loss.is_compiled:
                raise
            why = (str(error).strip() or "no reason given").splitlines()[0]
            fault = _NO_MEMORY if no_memory else f"{type(error).__name__}: {why}"
        self.gpt.zero_grad(set_to_none=True)
        return fault

    @contextmanager
    def whole_model(self) -> Iterator[GPT]:
        """The model with all of its weights, to evaluate, to sample and to save; every process of the team has to ask.

        Where each has a share of it, this is a copy, which needs the memory of the weights once.
        """
        if not self.is_shared:
            yield self.gpt
            return
        yield assembled(self.gpt)

    def _arithmetic(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, dtype=DTYPES[self.precision])

    def _compile(self) -> None:
        try:
            self._loss.compute = torch.compile(self.gpt.loss)
        except RuntimeError as error:  # not on this system, or not with this Python
            self.report(f"torch.compile did not work, so the model runs as it is ({error})")

    def _what_the_optimizers_will_take(self) -> list[Tensor]:
        """As much memory as they have for each weight, so that a size that is proven fits with them too."""
        if self.device == "cpu" or self._proven:
            return []
        return [torch.empty_like(weight) for weight in self.gpt.parameters() if weight.requires_grad for _ in range(2)]


class _Loss(nn.Module):
    """A model's loss as a module, which is what can be shared among processes."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt
        self.compute: Callable[[Tensor, Tensor], Tensor] = gpt.loss

    @property
    def is_compiled(self) -> bool:
        return self.compute != self.gpt.loss

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.compute(x, y)


def _share(gpt: GPT, device: str, team: Team) -> None:
    """Leave each process its share of every weight; the rest comes when a block is computed, and goes after it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (team.size,))
    for block in gpt.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(gpt, mesh=mesh)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device has no memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def assembled(gpt: GPT, instead: Mapping[str, Tensor] | None = None) -> GPT:
    """A copy of a model that is shared among the processes, whole in each of them; every one of them has to ask.

    Args:
        gpt: The model.
        instead: Tensors to take in place of its weights, shared as they are, by the weights' names.
    """
    state = {name: whole((instead or {}).get(name, weight)) for name, weight in gpt.state_dict().items()}
    with torch.device("meta"):
        found = GPT(gpt.config)
    found.load_state_dict(state, assign=True)
    if gpt.config.tie_head:
        found.head.weight = found.embedding.weight
    with torch.device(next(iter(state.values())).device):
        found.make_rotary_tables()
    return found.train(gpt.training)
