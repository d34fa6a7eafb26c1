"""A smaller dense network of the same architecture, trained from random weights, with or without a teacher.

Whether it is worse than a large one that was pruned is the question of Zhu and Gupta 2017 (arXiv 1710.01878,
section 4) and of Liu et al. 2019 (arXiv 1810.05270).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from ...envs.modules.copying import replica
from ...envs.modules.initialisation import frozen_note, reset_weights
from ...envs.sparsity import remove_masks
from ...envs.surgery.cutting import cut
from ...envs.surgery.plan import PruningPlan, resize_mask
from ...envs.surgery.verification import verify_cut
from ...envs.tracing import TracedNetwork
from ..deciders.base import Budget
from ..deciders.baselines import largest_scaled
from .base import Job, Kind, Result
from .training import recipe_details, train_stage


@dataclass(frozen=True)
class SmallDense:
    """Narrow all layers by the same share, and train from random weights.

    Args:
        taught: Whether the large network is the teacher (Hinton et al. 2015, arXiv 1503.02531).
    """

    taught: bool
    kind: ClassVar[Kind] = "width"

    def __call__(self, job: Job) -> Result:
        """Build and train the small network; see :class:`.System`.

        Raises:
            ValueError: If the target cannot be met, a part of the network has no ``reset_parameters``, or a
                teacher is wanted and the recipe gives it no weight.
        """
        if self.taught and not job.config.distillation_weight:
            raise ValueError("a taught network needs a teacher; give a distillation_weight above 0")
        plan = uniform_plan(job.network, job.target)
        verify_cut(job.model, job.network, plan, torch.zeros(2, *job.task.input_shape))
        small = with_random_weights(remove_masks(cut(job.model, job.network, plan)), job.config.seed)
        train_stage(job, small, job.epochs, "small", taught=self.taught, from_scratch=True)
        recipe = recipe_details(job.config.recovery, job.model, taught=self.taught, from_scratch=True)
        return Result(small, plan, job.epochs, frozen_note(small), {"recovery": recipe})


def uniform_plan(network: TracedNetwork, target: float) -> PruningPlan:
    """Plan a network whose layers are narrowed by the same share, up to rounding.

    The share is the largest that meets the target with widths rounded down. Then layers are rounded up, one
    after the other, where the target allows it.

    Args:
        network: The trace of the dense network.
        target: Largest share of the MACs that stays, in (0, 1].

    Raises:
        ValueError: If the target cannot be met.
    """
    budget = Budget(network, target, "macs")
    first = [1 - np.arange(layer.filters) / layer.filters for layer in network.layers]
    masks = largest_scaled(budget, budget.network.widths, first)
    counts = np.array([mask.sum() for mask in masks])
    for number in np.argsort(counts / network.widths, kind="stable").tolist():
        allowed = network.layers[number].allowed
        larger = counts.copy()
        larger[number] = min(allowed[allowed > counts[number]], default=counts[number])
        if budget.allows(larger):
            counts = larger
    rounded = [resize_mask(*each) for each in zip(masks, counts.tolist(), first, strict=True)]
    return PruningPlan.from_masks(network, rounded)


def with_random_weights(model: nn.Module, seed: int) -> nn.Module:
    """Copy a network and give it new random weights, as its modules draw them when they are made.

    Args:
        model: Any network; it is not changed.
        seed: Seed of the weights.

    Raises:
        ValueError: If a parameter belongs to a module without ``reset_parameters``.
    """
    new = replica(model)
    if unknown := reset_weights(new, seed):
        raise ValueError(
            f"the network cannot be trained from random weights: the module of {unknown[0]!r} has no "
            "reset_parameters, or computes its weight; give it that method, or leave out small-dense"
        )
    return new
