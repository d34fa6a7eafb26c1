"""Batch-norm with known statistics as an affine map of each channel, for the layer before it.

Shapes: N channels.
"""

from __future__ import annotations

from torch import Tensor

TRAINING, MOMENTUM, EPS = 5, 6, 7
"""Positions among the arguments of ``aten.batch_norm``."""


def affine_of_batchnorm(
    gain: Tensor | None,
    offset: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return what batch-norm multiplies each channel by, (N,), and what is added after that, (N,).

    Args:
        gain: Its weight, (N,), or None.
        offset: Its bias, (N,), or None.
        mean: Its mean, (N,).
        variance: Its variance, (N,).
        eps: Added to the variance.
        bias: The bias of the layer before it, (N,), or None.
    """
    scale = (variance + eps).rsqrt()
    scale = scale if gain is None else scale * gain
    shift = -mean * scale if bias is None else (bias - mean) * scale
    return scale, shift if offset is None else shift + offset
