"""The type that networks compute in: bfloat16 where the processor has instructions for it."""

import torch


def working_dtype(device: torch.device) -> torch.dtype:
    """Give bfloat16 or float32: without instructions of its own bfloat16 is emulated, and slower."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        fast = bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, *, cache: bool = True) -> torch.autocast:
    """Let convolutions and products compute in the working type; weights stay what they are.

    Args:
        device: Where they compute.
        cache: Whether a weight that is used twice is converted once.
    """
    fast = working_dtype(device) is torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=fast, cache_enabled=cache)
