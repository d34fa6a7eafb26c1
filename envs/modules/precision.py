"""The data type that networks compute in: bfloat16 where the hardware has instructions for it."""

import torch


def working_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device has instructions for it, else float32: emulated bfloat16 is slower."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        fast = bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, *, cache: bool = True) -> torch.autocast:
    """Run convolutions and matrix products in the working data type; weights keep theirs.

    Args:
        device: The device of the network.
        cache: Whether a weight that is used twice is converted only once.
    """
    fast = working_dtype(device) is torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=fast, cache_enabled=cache)
