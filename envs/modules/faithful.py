"""Compare a copy of a network with the network itself."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..io.memory import is_out_of_memory
from ..io.untrusted import first_line
from .global_reads import global_read
from .randomness import fixed_randomness
from .restoring import Snapshot
from .structures import OF_ANY_MODULE, comparable_in, named_tensors

Answer = list[Tensor] | Exception


def check_faithful(model: nn.Module, copied: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Check that a copy computes what the network does, without its help, on inputs that neither has seen.

    If a hook finds the network by a global name, it writes to the original when the copy runs, and the copy
    reads the features of an old pass. Both run once in evaluation mode.

    Args:
        model: The network, on any device; it is left as it is, and so are the random states of torch, NumPy
            and Python.
        copied: Its copy by :func:`.replica`; what it keeps of a pass is changed.
        inputs: The arguments of a forward pass, of any floating-point type. Constant tensors become random,
            others are shuffled.

    Raises:
        ValueError: If the copy computes something else. It names the hook, method or attribute that stands in
            the way.
    """
    before, kept = Snapshot(model), (_kept_tensors(model), _kept_tensors(copied))
    try:
        for arguments in _trials(model, inputs):
            with _ForeignTensors(model, copied) as foreign:
                found = _answer(copied, arguments)
            before.restore()
            expected = _answer(model, arguments)
            if isinstance(expected, Exception):
                continue  # if it runs on nothing, tracing says so
            if foreign.name or not _is_same(found, expected):
                stale = _stale(*kept, _kept_tensors(model), _kept_tensors(copied))
                before.restore()
                if foreign.name or _is_same(_answer(model, arguments), expected):  # else it is random
                    raise ValueError(_refusal(global_read(model) or stale or foreign.name, found))
            return
    finally:
        before.restore()


def _refusal(obstacle: str, found: Answer) -> str:
    seen = f" ({type(found).__name__}: {first_line(found)})" if isinstance(found, Exception) else ""
    why = f": {obstacle}" if obstacle else ""
    return (
        f"a copy of the network does not compute what the network does{seen}{why}; let hooks and forward "
        "reach what they use from the network itself, as a hook does that is a method of it: "
        "register_forward_hook(self.keep_features)"
    )


def _trials(model: nn.Module, inputs: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield arguments on the network's device: fresh ones of its type and of theirs, and the given ones."""
    own = next((x for x in (*model.parameters(), *model.buffers()) if x.is_floating_point()), None)
    device = torch.device("cpu") if own is None else own.device
    generator = torch.Generator().manual_seed(0)
    fresh = tree_map_only(Tensor, functools.partial(_fresh, generator=generator), inputs)
    if own is not None:
        yield tree_map_only(
            Tensor, lambda x: x.to(device, own.dtype if x.is_floating_point() else None), fresh
        )
    for arguments in (fresh, inputs):
        yield tree_map_only(Tensor, lambda x: x.to(device), arguments)


def _fresh(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shuffle numbers, or draw some instead of a constant; whole numbers keep their places in an example."""
    x = x.detach().cpu()
    if not x.is_floating_point() or x.numel() < 2:
        return x.flip(0) if x.ndim else x
    if bool((x == x.flatten()[0]).all()):
        return torch.randn(x.shape, generator=generator).to(x.dtype)
    return x.flatten()[torch.randperm(x.numel(), generator=generator)].view(x.shape)


def _answer(network: nn.Module, arguments: tuple[Any, ...]) -> Answer:
    """Run a network in evaluation mode; return the tensors that it gives back, or the error."""
    arguments = tree_map_only(Tensor, torch.clone, arguments)
    gpus = {x.device.index for x in network.parameters() if x.is_cuda}
    try:
        with torch.no_grad(), fixed_randomness(), torch.random.fork_rng(devices=gpus), _uncompiled():
            return [x.detach().clone() for x in comparable_in(network.eval()(*arguments))]
    except Exception as error:  # the network's code may raise anything
        if is_out_of_memory(error):
            raise
        return error


def _uncompiled() -> contextlib.AbstractContextManager[object]:
    """Let networks that ``torch.compile`` wraps run without being compiled, which takes a minute."""
    if "torch._dynamo" not in sys.modules:  # importing it takes seconds
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


def _is_same(found: Answer, expected: Answer) -> bool:
    if isinstance(found, Exception) or isinstance(expected, Exception) or len(found) != len(expected):
        return False
    return all(_is_close(*pair) for pair in zip(found, expected, strict=True))


def _is_close(a: Tensor, b: Tensor) -> bool:
    """Compare with half of the digits of the type, as kernels may choose another order of summation."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point() and not a.is_complex():
        return torch.equal(a, b)
    tolerance = torch.finfo(a.dtype).eps ** 0.5
    a, b = a.to(torch.complex128), b.to(torch.complex128)
    size = b.abs()[b.isfinite()]
    atol = tolerance * float(size.max()) if len(size) else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=atol, equal_nan=True)


class _ForeignTensors(TorchFunctionMode):
    """Notice a copy that computes with parameters or buffers of the original.

    Args:
        model: The original.
        copied: The copy.
    """

    def __init__(self, model: nn.Module, copied: nn.Module) -> None:
        super().__init__()
        self.name = ""
        """The first of them, in a sentence."""
        own = {id(x) for x in (*copied.parameters(), *copied.buffers())}
        named = [*model.named_parameters(), *model.named_buffers()]
        self._foreign = {id(x): name for name, x in named if id(x) not in own}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch."""
        kwargs = kwargs or {}
        names = [self._foreign[id(x)] for x in tree_leaves((args, kwargs)) if id(x) in self._foreign]
        if names and not self.name:
            self.name = f"running it reads {names[0]} of the network"
        return func(*args, **kwargs)


def _kept_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors in attributes of modules by their paths, without parameters and buffers."""
    found: dict[str, Tensor] = {}
    for prefix, module in network.named_modules():
        for name, value in vars(module).items():
            if name not in OF_ANY_MODULE:
                try:
                    found.update(named_tensors(value, f"{prefix}.{name}".lstrip(".")))
                except ValueError:  # it holds what cannot be opened
                    continue
    return found


def _stale(
    model: dict[str, Tensor],
    copied: dict[str, Tensor],
    model_after: dict[str, Tensor],
    copied_after: dict[str, Tensor],
) -> str:
    """Name an attribute that a pass of the network fills, and a pass of its copy does not."""
    for path, tensor in model_after.items():
        if tensor is not model.get(path) and copied_after.get(path) is copied.get(path):
            return f"running it does not fill the attribute {path}"
    return ""
