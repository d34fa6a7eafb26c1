"""New random weights for a network that was built elsewhere."""

from __future__ import annotations

import torch
from torch import nn


def reset_weights(model: nn.Module, seed: int) -> tuple[str, ...]:
    """Give a network new random weights, by torch's default of each of its modules, in place.

    A network whose modules draw their weights when they are built, in the order in which it holds them, gets
    those that it is built with after ``torch.manual_seed(seed)``. What a network's own code does to its
    weights afterwards is not repeated.

    Args:
        model: The network; its running statistics are reset, too.
        seed: Seed of the draw; torch's random generators are restored.

    Returns:
        Names of the parameters that no module knows how to reset; they are unchanged.
    """
    unknown = []
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for path, module in model.named_modules():
            own = dict(module.named_parameters(path, recurse=False))
            reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(reset):
                reset()
            else:
                unknown += list(own)
    return tuple(unknown)
