"""Random tensors: they have the size of what they will meet, so their labels are free until then.

A cut network draws fewer numbers than the masked one, so the same seed does not make them comparable. What
has a rule here also has a constant that stands for it (:data:`CONSTANTS`), which
:class:`secateur.envs.surgery.deterministic_mode.DeterministicMode` gives instead. Other random operations pin
what they touch, as all operations without a rule do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..propagation import Propagation
from .elementwise import pointwise
from .registry import Call, rule

_NEARLY_ONE = 0.999
"""Of [0, 1): what is compared with a survival rate survives, and as a share of a number it is an index."""


def _of_ones(call: Call) -> Any:
    return call.func(*call.args, **call.kwargs).fill_(1)


def _uniform(call: Call) -> Any:
    low, high = (call["from"], call["to"]) if call.has("to") else (0.0, 1.0)
    return call.func(*call.args, **call.kwargs).fill_(low + _NEARLY_ONE * (high - low))


def _normal(call: Call) -> Any:
    """Give what lies a standard deviation above the mean; both may be tensors."""
    value = call["mean"] + call["std"]
    return call.func(*call.args, **call.kwargs).copy_(torch.as_tensor(value))


def _bernoulli(call: Call) -> Any:
    """Give one, and of a tensor of probabilities these themselves, so that what they come from is seen."""
    odds = call["p"] if call.has("p") else call["self"]
    odds = odds.clone() if isinstance(odds, Tensor) else torch.ones(())
    return call.func(*call.args, **call.kwargs).copy_(odds)


def _integer(call: Call) -> Any:
    """Give one where that may be, as zero would hide what it is multiplied with, else the least."""
    low = next((call[name] for name in ("low", "from") if call.has(name)), 0)
    high = next((call[name] for name in ("high", "to") if call.has(name)), None)
    fits = low <= 1 and (high is None or high > 1)
    return call.func(*call.args, **call.kwargs).fill_(1 if fits else low)


def _all_kept(call: Call) -> Any:
    kept = call.args[0].clone()
    return kept if call.name == "dropout" else (kept, torch.ones_like(kept, dtype=torch.bool))


def _middle_slope(call: Call) -> Any:
    """Let RReLU have the slope that it has in evaluation mode."""
    return call.func(**{a.name: call[a.name] for a in call.func._schema.arguments} | {"training": False})


CONSTANTS: dict[str, Callable[[Call], Any]] = {
    "bernoulli": _bernoulli,
    "cauchy": _of_ones,
    "dropout": _all_kept,
    "exponential": _of_ones,
    "geometric": _of_ones,
    "log_normal": _of_ones,
    "native_dropout": _all_kept,
    "normal": _normal,
    "rand": _uniform,
    "rand_like": _uniform,
    "randint": _integer,
    "randint_like": _integer,
    "randn": _of_ones,
    "randn_like": _of_ones,
    "random": _integer,
    "rrelu_with_noise": _middle_slope,
    "uniform": _uniform,
}
"""Random operations by name, ``bernoulli`` for ``bernoulli_`` too, and what runs with a constant instead."""

_KEEPING_ZERO = {"dropout", "native_dropout", "rrelu_with_noise"}


@rule(*CONSTANTS)
def noise(propagation: Propagation, call: Call) -> None:
    """Keep the operand's labels if it has any, else set new ones.

    ``dropout2d`` draws one number per channel into an empty tensor of fixed size, which must not pin them.
    """
    if any(axis is not None for operand in call.operands for axis in propagation.value(operand).axes):
        keeps_zero = call.name.rstrip("_") in _KEEPING_ZERO
        pointwise(propagation, call, vanishes=keeps_zero and propagation.value(call.args[0]).vanishes)
        return
    for out in call.outputs:
        axes = [propagation.constant(size) for size in out.shape]
        propagation.measure_shape(axes, out.shape)
        propagation.set(out, axes, weight=True)
