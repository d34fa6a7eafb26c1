"""Forward passes without randomness, so that two networks can be compared."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..tracing.rules.noise import CONSTANTS
from ..tracing.rules.registry import Call


class DeterministicMode(TorchDispatchMode):
    """Replace random operations: those with a tracing rule return constants, others use a fixed seed each.

    A cut network draws fewer random numbers than the masked one, so seeding once is not enough. Operations
    without a tracing rule pin their channels and so have the same sizes in both networks.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation or its replacement."""
        instead, kwargs = _replacement(func), kwargs or {}
        return func(*args, **kwargs) if instead is None else instead(Call(func, args, kwargs, None))


@functools.cache
def _replacement(func: Any) -> Callable[[Call], Any] | None:
    """Return the replacement of an operation; None if the operation is not random."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return None
    return CONSTANTS.get(func._schema.name.removeprefix("aten::").rstrip("_"), _seeded)


def _seeded(call: Call) -> Any:
    """Run a random operation with torch's default generator and a fixed seed; ignore a given generator."""
    own = {"generator": None} if "generator" in call.kwargs else {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return call.func(*call.args, **call.kwargs | own)
