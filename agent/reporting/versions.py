"""Where a run ran: versions, threads, device."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

_PACKAGES = ("secateur", "torch", "torchvision", "stable-baselines3", "gymnasium", "numpy")


def versions() -> dict[str, Any]:
    """Give the versions of Python and of the packages that decide results, and torch's threads."""
    found = {"python": platform.python_version(), "threads": torch.get_num_threads()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def device_name(model: nn.Module) -> str:
    """Name the processor that holds a network, such as ``NVIDIA H200`` or ``cpu (x86_64, AVX512)``.

    Of a CPU the instructions count: where there are none for bfloat16, all is computed in float32.
    """
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
