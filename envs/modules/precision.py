"""The data types that networks compute in."""

import torch
from torch import Tensor, nn

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def working_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device has instructions for it, else float32: emulated bfloat16 is slower."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        fast = bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def device_kind(device: torch.device) -> str:
    """Name the working data type and the kind of processor, such as ``float32 on a CPU with AVX2``.

    On the same kind the same operations give the same numbers.
    """
    dtype = str(working_dtype(device)).removeprefix("torch.")
    if device.type == "cuda":
        return f"{dtype} on {torch.cuda.get_device_name(device)}"
    return f"{dtype} on a CPU with {torch.backends.cpu.get_cpu_capability()}"


def autocast(device: torch.device, precision: str = "auto", *, cache: bool = True) -> torch.autocast:
    """Run convolutions and matrix products in the working data type; weights keep theirs.

    Args:
        device: The device of the network.
        precision: bf16, fp16, fp32, or auto for that of :func:`working_dtype`.
        cache: Whether a weight that is used twice is converted only once.
    """
    dtype = working_dtype(device) if precision == "auto" else _DTYPES[precision]
    fast = dtype is not torch.float32
    return torch.autocast(device.type, dtype if fast else None, enabled=fast, cache_enabled=cache)


def precision_on(device: torch.device, precision: str) -> str:
    """Name what ``precision`` is on a device: bf16, fp16 or fp32."""
    if precision != "auto":
        return precision
    return next(name for name, dtype in _DTYPES.items() if dtype is working_dtype(device))


def other_precision(model: nn.Module) -> str:
    """Say that weights are of another type than the inputs, float32, and what to do; "" if none are."""
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.dtype is not torch.float32:
            kind = str(weight.dtype).removeprefix("torch.")
            return f"; {name} is {kind}, and the inputs are float32: call model.float()"
    return ""


_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


def in_precision(dtype: torch.dtype, precision: torch.dtype) -> torch.dtype:
    """Return the data type of ``precision``, float64 or float32, that stands for another; integers stay."""
    if dtype.is_complex:
        return _COMPLEX[precision]
    return precision if dtype.is_floating_point else dtype


def converted(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """Convert the floating-point and complex tensors of a network in place, as far as it knows them.

    Those in its modules' attributes are converted, too; those in lists and other objects are not.

    Args:
        model: Any network.
        precision: float64 or float32.
    """

    def convert(tensor: Tensor) -> Tensor:
        return tensor.to(in_precision(tensor.dtype, precision))

    model._apply(convert)
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                vars(module)[name] = convert(value.detach())
    return model
