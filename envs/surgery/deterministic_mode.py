"""Networks without chance, so that two of them can be compared."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..tracing.rules.noise import CONSTANTS
from ..tracing.rules.registry import Call


class DeterministicMode(TorchDispatchMode):
    """Let no operation depend on chance: what can be traced gets constants, the rest the same seed each time.

    A cut network draws fewer numbers than the masked one, so one seed for all does not make them comparable.
    Where there is no rule, channels are pinned: an operation gets tensors of the same sizes in both.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or what stands for it."""
        instead, kwargs = _replacement(func), kwargs or {}
        return func(*args, **kwargs) if instead is None else instead(Call(func, args, kwargs, None))


@functools.cache
def _replacement(func: Any) -> Callable[[Call], Any] | None:
    """Find what runs instead of an operation; None where it is not random."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return None
    return CONSTANTS.get(func._schema.name.removeprefix("aten::").rstrip("_"), _seeded)


def _seeded(call: Call) -> Any:
    """Draw from torch's own generator, whichever was given, with a fixed seed."""
    own = {"generator": None} if "generator" in call.kwargs else {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return call.func(*call.args, **call.kwargs | own)
