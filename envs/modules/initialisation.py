"""New random weights for a network that was built elsewhere."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..io.wording import counted


def reset_weights(model: nn.Module, seed: int) -> tuple[str, ...]:
    """Give a network new random weights, by torch's default of each of its modules, in place.

    A network whose modules draw their weights when they are built, in the order in which it holds them, gets
    those that it is built with after ``torch.manual_seed(seed)``. What a network's own code does to its
    weights afterwards is not repeated.

    Args:
        model: The network; its running statistics are reset, too. Frozen parameters, which do not require a
            gradient, keep their values: no training would make anything of random ones.
        seed: Seed of the draw; torch's random generators are restored.

    Returns:
        Names of the parameters that no module knows how to reset; they are unchanged, too.
    """
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    unknown = []
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.fill_(math.nan)  # which tells what a module leaves out, such as a weight behind a mask
        for module in model.modules():
            reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(reset):
                reset()
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                parameter.copy_(before[name])
            elif bool(parameter.isnan().any()):
                parameter.copy_(before[name])
                unknown.append(name)
    return tuple(unknown)


def frozen_note(model: nn.Module) -> tuple[str, ...]:
    """Say how many frozen parameters kept their values, in a sentence, if there are any."""
    count = sum(not parameter.requires_grad for parameter in model.parameters())
    if not count:
        return ()
    return (f"{counted(count, 'frozen parameter keeps', 'frozen parameters keep')} what training gave.",)
