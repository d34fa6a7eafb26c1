"""Run a network comparably: without randomness, in one precision, and with statistics of some norms held."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..modules.precision import in_precision
from ..tracing.rules.noise import CONSTANTS
from ..tracing.rules.registry import Call

_ORDERING, _SUPPRESSION = ("sort", "topk"), "torchvision::nms"

_COMPARED_BITS = {torch.float64: 30, torch.float32: 12}
"""Bits of the mantissa by which selections compare, by precision."""


class DeterministicMode(TorchDispatchMode):
    """Replace operations whose results a cut would change though it removes only zeros.

    Random operations: those with a tracing rule return constants, others use a fixed seed each. A cut network
    draws fewer random numbers than the masked one, so seeding once is not enough. Operations without a
    tracing rule pin their channels and so have the same sizes in both networks.

    Casts: what would have another floating-point type gets ``precision``, so that a network that forces
    float32 in places is compared as exactly as others.

    Selections: sorting, the largest few, and the suppression of a detector's boxes compare numbers in fewer
    bits. Rounding differs between the networks, and would choose among numbers that are otherwise equal.

    Args:
        precision: float64 or float32; None leaves the types.
        held: Names of normalisations over channels whose statistics are held: they return the hyperbolic
            tangent of their input, scaled and shifted by their parameters.
    """

    def __init__(self, precision: torch.dtype | None = None, held: Collection[str] = ()) -> None:
        super().__init__()
        self._precision = precision
        self._held = held

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation or its replacement."""
        kwargs = dict(kwargs or {})
        dtype = kwargs.get("dtype")
        if self._precision is not None and isinstance(dtype, torch.dtype):
            kwargs["dtype"] = in_precision(dtype, self._precision)
        call = Call(func, args, kwargs, None)
        if call.name in self._held and not (call.has("group") and call["group"] > 1):
            return _statistics_held(call)
        if call.name in _ORDERING and not call.written:
            return _ordered(call)
        if call.name == _SUPPRESSION:
            return func(args[0], _rounded(args[1]), *args[2:], **kwargs)
        instead = _replacement(func)
        return func(*args, **kwargs) if instead is None else instead(call)


def _statistics_held(call: Call) -> Any:
    """Normalise each element by itself, and return as many tensors as the operation does."""
    call.func(*call.args, **call.kwargs)  # refuses sizes that do not fit
    out = torch.tanh(call["input"])
    # Group-norm has its channels on the second axis, the others on the last ones.
    rank = out.ndim - 1 if call.has("group") else 0
    parameters = [call["weight"], call["bias"] if call.has("bias") else None]
    weight, bias = (None if p is None else p.reshape(p.shape + (1,) * (rank - 1)) for p in parameters)
    out = out if weight is None else out * weight
    out = out if bias is None else out + bias
    returns = len(call.func._schema.returns)
    return out if returns == 1 else (out, *[out.new_zeros(())] * (returns - 1))


def _ordered(call: Call) -> Any:
    """Sort, or take the largest, by rounded numbers; return the numbers as they are."""
    given, *others = call.args
    values, index = call.func(_rounded(given), *others, **call.kwargs)
    return (given.gather(call["dim"], index) if given.ndim else values), index


def _rounded(numbers: Tensor) -> Tensor:
    """Round to fewer bits of the mantissa, relative to each number."""
    if numbers.dtype not in _COMPARED_BITS:
        return numbers
    mantissa, exponent = torch.frexp(numbers)
    scale = 2.0 ** _COMPARED_BITS[numbers.dtype]
    return torch.ldexp((mantissa * scale).round() / scale, exponent)


@functools.cache
def _replacement(func: Any) -> Callable[[Call], Any] | None:
    """Return the replacement of an operation; None if the operation is not random."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return None
    return CONSTANTS.get(func._schema.name.removeprefix("aten::").rstrip("_"), _seeded)


def _seeded(call: Call) -> Any:
    """Run a random operation with torch's default generator and a fixed seed; ignore a given generator."""
    own: dict[str, Tensor | None] = {"generator": None} if "generator" in call.kwargs else {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return call.func(*call.args, **call.kwargs | own)
