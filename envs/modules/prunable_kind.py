"""Say what to give instead of a network that is compiled, quantised, wrapped or without values."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_PREPARED = (
    "torch.ao.quantization.fake_quantize",
    "torch.ao.quantization.observer",
    "torch.ao.nn.qat",
    "torch.ao.nn.intrinsic.qat",
)
_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torchao")
_SHARDED = ("torch.nn.parallel.distributed", "torch.distributed.fsdp", "torch.distributed.tensor")
"""Where torch defines the classes of such modules and parameters."""

_FLOAT = ("FloatFunctional", "FXFloatFunctional")
"""Classes in a package of quantised modules that float networks contain."""


def check_prunable_kind(model: object) -> None:
    """Check that a network is one whose modules and weights can be cut.

    Raises:
        TypeError: If it is no module.
        ValueError: If it is compiled by TorchScript, quantised or prepared for that, distributed over
            processes, or has no parameters, or some without values.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the network is a {type(model).__name__}; give a torch.nn.Module")
    for name, module in model.named_modules():
        for problem, advice in _of_module(module):
            raise ValueError(f"{_named(name)} {problem}; give {advice}")
    check_has_values(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        for problem, advice in _of_tensor(tensor):
            raise ValueError(f"{name} {problem}; give {advice}")
    if next(model.parameters(), None) is None:
        raise ValueError(
            f"the network, {type(model).__name__}, has no parameters, so there is nothing to prune; give one "
            "with layers that have weights"
        )


def check_has_values(model: object) -> None:
    """Check that all tensors of a network have values.

    Raises:
        TypeError: If it is no module.
        ValueError: If one has none.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the network is a {type(model).__name__}; give a torch.nn.Module")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"{name} has no shape yet; give the network after its first pass, model(example)"
            )
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device, so it has no values; give the network with its weights, on "
                "the CPU or a GPU"
            )


def _of_module(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a module, and what to give instead."""
    if isinstance(module, torch.jit.ScriptModule):
        yield "is compiled by torch.jit, which fixes its code", "the module that it was compiled from"
    if isinstance(module, nn.DataParallel) and module.device_ids:
        yield "spreads batches over GPUs with DataParallel", "the module in it, model.module"
    if _is_from(module, _SHARDED):
        yield "is distributed over processes", "the module before it was wrapped, such as model.module"
    if _is_from(module, _PREPARED):
        yield "is prepared for quantisation", "the network before that, and prepare the pruned one"
    if _is_from(module, _QUANTISED) and type(module).__name__ not in _FLOAT:
        yield "is quantised", "the network with floating-point weights, and quantise the pruned one"


def _of_tensor(tensor: Tensor) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a parameter or buffer, and what to give instead."""
    if _is_from(tensor.data, _SHARDED):
        yield "is distributed over processes", "the network before that"
    elif tensor.is_quantized or _is_from(tensor.data, _QUANTISED):
        yield "is quantised", "the network with floating-point weights, and quantise the pruned one"


def _is_from(value: object, packages: tuple[str, ...]) -> bool:
    return any(kind.__module__.startswith(packages) for kind in type(value).__mro__)


def _named(name: str) -> str:
    return f"the module {name}" if name else "the network"
