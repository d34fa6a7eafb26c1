"""Exponential moving average of the weights of a training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..modules.copying import replica

_STATISTICS = ("running_mean", "running_var")
"""Buffers of a norm."""


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """Create the average of a network's weights and floating-point buffers over the steps of a training.

    Args:
        model: The network; its weights now do not count.
        decay: Largest decay of a step, in (0, 1).

    Returns:
        The average, to be updated after each step by ``update_parameters(model)``.
    """

    def update(averages: Any, current: Any, count: Tensor | int) -> None:
        if not averages[0].is_floating_point():  # such as counters and indices
            for average, value in zip(averages, current, strict=True):
                average.copy_(value)
            return
        get_ema_multi_avg_fn(decay_after(int(count), decay))(averages, current, count)

    average = AveragedModel(nn.Identity(), multi_avg_fn=update, use_buffers=True)
    average.module = replica(model)  # AveragedModel would use copy.deepcopy, which refuses some networks
    return average


def decay_after(steps: int, decay: float) -> float:
    """Return the decay after some steps: (1 + steps) / (10 + steps), at most the given one.

    A training of few steps would otherwise keep much of its first weights. The formula is that of
    TensorFlow's ``ExponentialMovingAverage``.
    """
    return min(decay, (1 + steps) / (10 + steps))


@torch.no_grad()
def copy_average(average: AveragedModel, model: nn.Module) -> None:
    """Write the averaged weights and statistics of norms into the network; without a step it stays as it is.

    Other buffers are the network's own: a callback may have changed them after the last step, such as masks.
    """
    if average.n_averaged == 0:
        return
    pairs = list(zip(model.parameters(), average.module.parameters(), strict=True))
    for mine, others in zip(model.modules(), average.module.modules(), strict=True):
        if isinstance(mine, _NormBase) and mine.running_mean is not None:
            pairs += [(getattr(mine, name), getattr(others, name)) for name in _STATISTICS]
    for tensor, value in pairs:
        tensor.copy_(value)
