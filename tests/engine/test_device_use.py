"""How busy the machine is: read where it can be, and never an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pynvml
import pytest

from engine.device_use import DeviceMeter


def test_the_machine_and_a_busy_process_are_measured():
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        meter = DeviceMeter()
        meter.read(busy.pid)
        time.sleep(0.3)
        use = meter.read(busy.pid)
    finally:
        busy.kill()
        busy.wait()
    assert 0 < use.cpu <= 1
    assert 0 < use.memory_used < use.memory_total
    assert use.process_cpu > 0.1
    assert use.process_memory > 1_000_000


@pytest.mark.posix
def test_children_of_the_process_count_too():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        meter, end = DeviceMeter(), time.monotonic() + 10
        alone = meter.read(parent.pid).process_memory
        while meter.read(parent.pid).process_memory < alone + 2_000_000:
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def test_a_process_that_is_gone_is_left_out():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    use = DeviceMeter().read(gone.pid)
    assert use.process_cpu is None
    assert use.process_memory is None


def test_without_the_library_there_is_no_gpu(monkeypatch):
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert DeviceMeter().read().gpus == ()


def test_a_gpu_says_what_it_can(monkeypatch):
    def refuse(*_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: "NVIDIA H200",
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=97),
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=34_000_000_000, total=150_000_000_000),
        "nvmlDeviceGetPowerUsage": lambda handle: 412_000,
        "nvmlDeviceGetTemperature": refuse,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    [gpu] = DeviceMeter().read().gpus
    assert gpu.name == "NVIDIA H200"
    assert gpu.utilization == pytest.approx(0.97)
    assert gpu.memory_used == 34_000_000_000
    assert gpu.power == pytest.approx(412)
    assert gpu.temperature is None


@pytest.mark.gpu
def test_a_real_gpu_is_seen():
    gpus = DeviceMeter().read().gpus
    if not gpus:
        pytest.skip("no GPU")
    gpu = gpus[0]
    assert gpu.name
    assert gpu.memory_total > 1_000_000_000
