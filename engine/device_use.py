"""How busy the machine is: its GPUs through NVIDIA's library, its CPU and memory, and what one process and its children
take of them. What cannot be read is left out; it is never an error. Knows nothing of torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import psutil


class GpuUse(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU; None for what it does not tell.

    Attributes:
        utilization: Share of the last moments in which it computed, from 0 to 1.
        memory_used: Bytes.
        memory_total: Bytes.
        temperature: Degrees Celsius.
        power: Watts.
    """

    name: str
    utilization: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: int | None = None
    power: float | None = None


class DeviceUse(msgspec.Struct, frozen=True, kw_only=True):
    """The machine at one moment.

    Attributes:
        gpus: Those that NVIDIA's library knows.
        cpu: Share of all cores, from 0 to 1.
        cores: How many there are.
        memory_used: Bytes.
        memory_total: Bytes.
        process_cpu: Cores that the process and its children keep busy; None where it is not on this machine.
        process_memory: Bytes that they hold.
    """

    gpus: tuple[GpuUse, ...] = ()
    cpu: float = 0.0
    cores: int = 1
    memory_used: int = 0
    memory_total: int = 0
    process_cpu: float | None = None
    process_memory: int | None = None


class DeviceMeter:
    """Reads the machine's use. The shares are of the time since the reading before; the first one says 0."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._gpus: list[Any] | None = None  # None until they were looked for
        self._processes: dict[int, psutil.Process] = {}

    def read(self, pid: int = 0) -> DeviceUse:
        """The machine as it is now.

        Args:
            pid: A process to look at, with its children; 0 for none.
        """
        import psutil  # takes a while, and nobody needs it at the start

        memory = psutil.virtual_memory()
        process_cpu, process_memory = self._read_process(pid) if pid else (None, None)
        return DeviceUse(
            gpus=self._read_gpus(),
            cpu=psutil.cpu_percent() / 100,
            cores=psutil.cpu_count() or 1,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            process_cpu=process_cpu,
            process_memory=process_memory,
        )

    def _read_process(self, pid: int) -> tuple[float | None, int | None]:
        import psutil

        try:
            family = {pid: psutil.Process(pid)}
            family |= {child.pid: child for child in family[pid].children(recursive=True)}
        except psutil.Error:
            return None, None
        # A process knows what it has used since it was asked before, so those of the last reading are kept.
        self._processes = {
            number: known if (known := self._processes.get(number)) == found else found
            for number, found in family.items()
        }
        cpu, memory = 0.0, 0
        for process in self._processes.values():
            with contextlib.suppress(psutil.Error):  # it has just ended
                cpu += process.cpu_percent() / 100
                memory += process.memory_info().rss
        return cpu, memory

    def _read_gpus(self) -> tuple[GpuUse, ...]:
        if self._gpus is None:
            self._gpus = self._find_gpus()
        return tuple(found for handle in self._gpus if (found := self._read_gpu(handle)))

    def _find_gpus(self) -> list[Any]:
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:  # no such library or no such GPU
            return []

    def _read_gpu(self, handle: Any) -> GpuUse | None:
        nvml = self._nvml

        def told(ask: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return ask(handle, *arguments)
            except nvml.NVMLError:  # not every GPU tells everything, nor every slice of one
                return None

        name = told(nvml.nvmlDeviceGetName)
        if name is None:
            return None
        rates, memory = told(nvml.nvmlDeviceGetUtilizationRates), told(nvml.nvmlDeviceGetMemoryInfo)
        power = told(nvml.nvmlDeviceGetPowerUsage)
        return GpuUse(
            name=name if isinstance(name, str) else name.decode(errors="replace"),
            utilization=None if rates is None else rates.gpu / 100,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            temperature=told(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            power=None if power is None else power / 1000,
        )
