"""How far a network's answers are from those of the network that it learns from.

Shapes: B examples of a batch, K classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compare two networks' classes: T^2 KL(teacher || student), Hinton et al. 2015, arXiv 1503.02531.

    Args:
        student: Outputs (B, K, ...) before the softmax.
        teacher: Likewise.
        temperature: Divides both, > 0.
    """
    ours, theirs = (F.log_softmax(outputs / temperature, dim=1) for outputs in (student, teacher))
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    return temperature**2 * divergence.mean()
