"""Which device and arithmetic to use: what was asked for, checked against what this machine has."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

import torch

from engine.errors import DeviceError
from engine.inference.native import building
from engine.inference.products import has_int8

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.float32}
"""What weights are held in; those of int8 are made from them."""


def available_devices() -> tuple[str, ...]:
    """The devices that can be asked for, the preferred one first."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def resolve_device(wanted: str) -> str:
    """The device to use; `auto` is the best there is.

    Raises:
        DeviceError: This machine, or this build of torch, does not have it.
    """
    found = available_devices()
    if wanted == "auto":
        return found[0]
    if wanted not in found:
        raise DeviceError(f"there is no {wanted} device here", f"use --device {' or '.join(found)}")
    return wanted


def resolve_precision(wanted: str, device: str) -> str:
    """The arithmetic of inference on a device; `auto` is bf16 on a GPU that has it, else fp32.

    Raises:
        DeviceError: The device cannot compute in it.
    """
    if wanted == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    if wanted == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError("this GPU has no bf16", "use --precision fp16 or fp32")
    if wanted == "int8" and device != "cpu":
        raise DeviceError(f"there is no int8 on {device} here", "use --precision bf16, or --device cpu")
    if wanted == "int8" and building.find().library is None and not has_int8():
        raise DeviceError("this build of torch has no 8-bit products", "use --precision bf16 or fp32")
    return wanted


def has_bf16(device: str) -> bool:
    """Whether a device is a GPU that computes in bf16 itself, rather than by way of fp32, which is slow."""
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def processor() -> str:
    """The name of this machine's CPU."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
