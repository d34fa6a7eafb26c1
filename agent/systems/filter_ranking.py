"""Which filters stay while weights change: a ranking of all of them together, at an exact size.

Shapes: L layers, N filters of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...envs.modules.copying import replica
from ...envs.problem.importance import Scores, weight_importance
from ...envs.sparsity.filters import unmasked_state
from ...envs.surgery.plan import Mask, PruningPlan
from ...envs.surgery.verification import verify_cut
from ...envs.tracing import TracedNetwork
from ..deciders.base import Budget
from ..deciders.baselines import keep_highest
from .base import Job


def highest_ranked(model: nn.Module, dense: nn.Module, budget: Budget, kept: Sequence[Mask]) -> list[Mask]:
    """Keep the filters that rank highest among those that are still there.

    A filter that was removed returns only where no other fits into what the budget leaves.

    Args:
        model: The network with its present weights, masked or not.
        dense: The network without masks.
        budget: The size.
        kept: The filters that are still there, one keep mask (N,) per layer.
    """
    plain = replica(dense)
    plain.load_state_dict(unmasked_state(model))
    scores = layer_scores(plain, budget.network)
    last = 1 + max(float(score.max()) for score in scores)
    return keep_highest(
        budget, [np.where(mask, score, score - last) for score, mask in zip(scores, kept, strict=True)]
    )


def layer_scores(model: nn.Module, network: TracedNetwork) -> Scores:
    """Score filters as ``fpgm-global`` does: distances to the other filters, in units of the layer's mean.

    After fine-tuning, this was the best heuristic of the comparison in ``benchmarks/proxy-15.json``.
    """
    scores = weight_importance(model, network)["fpgm"]
    return [score / max(score.mean(), 1e-30) for score in scores]


def verified(job: Job, kept: Sequence[Mask]) -> PruningPlan:
    """Return the plan of filters, one keep mask (N,) per layer, after a check that their cut is exact."""
    plan = PruningPlan.from_masks(job.network, kept)
    verify_cut(job.model, job.network, plan, torch.zeros(2, *job.task.input_shape))
    return plan


def macs_ratio(network: TracedNetwork, kept: Sequence[Mask]) -> float:
    """Return the share of the MACs that stays, in [0, 1]."""
    counts: npt.NDArray[np.int64] = np.array([mask.sum() for mask in kept])
    return float(network.macs(counts) / network.macs(network.widths))
