"""Randomness switched off, whatever shape it is drawn in."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_RANDOM = {"bernoulli", "uniform", "normal", "exponential", "rand", "randn", "rand_like", "randn_like"}


class Calm(TorchDispatchMode):
    """Give one for every random number, and let dropout keep all.

    A cut network draws fewer numbers than the masked one, so the same seed does not make them comparable.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation; replace what is random in its result."""
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name == "native_dropout":
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        result = func(*args, **(kwargs or {}))
        return tree_map_only(Tensor, lambda x: x.fill_(1), result) if name in _RANDOM else result
