"""Distillation losses: what the network learns from its teacher.

The outputs are compared one by one, or the relations between examples. Relations are taken from the
penultimate features, the inputs of the last linear layer. They are compared between examples only, so the
two networks' numbers of features may differ, as they do after a cut.

Shapes: B examples of a batch, F features of an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modules.inputs import first_input, run_on_copy
from ..modules.modes import restored_modes
from ..modules.randomness import fixed_randomness
from ..tasks.base import Task
from ..tasks.optional_members import distill, distillation_loss
from .config import RecoveryConfig

_SIMILARITY_WEIGHT = 3000.0
"""Weight of the similarity-preserving loss: Tung and Mori 2019, arXiv 1907.09682, section 4.1."""

_DISTANCE_WEIGHT, _ANGLE_WEIGHT = 25.0, 50.0
"""Weights of the two relational losses in classification: Park et al. 2019, arXiv 1904.05068, as Tian et al.
2020, arXiv 1910.10699, use them."""

_SMALLEST = 1e-6
"""Distance between features, relative to the mean one, below which two examples have no direction."""


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the similarities of examples: Tung and Mori 2019, arXiv 1907.09682, eq. 3 and 4.

    Args:
        student: Features (B, ...) of the student.
        teacher: Features (B, ...) of the teacher.
    """
    mine, others = (F.normalize(f.flatten(1) @ f.flatten(1).T, dim=1) for f in (student, teacher))
    return (others - mine).square().sum() / len(student) ** 2


def relational_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare distances of pairs and angles of triplets: Park et al. 2019, arXiv 1904.05068, eq. 5 to 10.

    Args:
        student: Features (B, ...) of the student, B at least 2.
        teacher: Features (B, ...) of the teacher.
    """
    (distances, angles), (distances_there, angles_there) = map(_relations, (student, teacher))
    return _DISTANCE_WEIGHT * F.smooth_l1_loss(distances, distances_there) + _ANGLE_WEIGHT * F.smooth_l1_loss(
        angles, angles_there
    )


def _relations(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances of pairs (B, B) relative to their mean, and cosines of the angles of triplets."""
    flat = features.flatten(1)
    differences = flat[None] - flat[:, None]  # (B, B, F)
    lengths = differences.norm(dim=2)
    pairs = max(1, len(flat) * (len(flat) - 1))
    mean = lengths.sum() / pairs
    distances = lengths / mean.clamp_min(torch.finfo(lengths.dtype).tiny)
    is_apart = distances > _SMALLEST
    # The gradient of a direction grows with 1 / length, so what is not apart has neither.
    safe = torch.where(is_apart, lengths, 1.0)[..., None]
    directions = torch.where(is_apart[..., None], differences / safe, 0.0)
    return distances, directions @ directions.transpose(1, 2)


_RELATIONS: Mapping[str, tuple[float, Callable[[Tensor, Tensor], Tensor]]] = {
    "similarity": (_SIMILARITY_WEIGHT, similarity_loss),
    "relational": (1.0, relational_loss),
}
"""The losses of features with their weights."""


def compares_features(config: RecoveryConfig) -> bool:
    """Return whether the distillation compares features, not outputs."""
    return config.distillation in _RELATIONS


def compare(task: Task, config: RecoveryConfig, student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the distillation loss.

    Args:
        task: The task, with the loss that is taken if none was chosen.
        config: Settings of the training.
        student: Outputs of the student, or its features; see :func:`compares_features`.
        teacher: The same of the teacher.
    """
    if config.distillation is None:
        return distill(task, student, teacher, config.temperature)
    if config.distillation == "soft-targets":
        return distillation_loss(student, teacher, config.temperature)
    if config.distillation == "logits":
        return F.mse_loss(student, teacher)
    weight, loss = _RELATIONS[config.distillation]
    return weight * loss(student.float(), teacher.float())


class WithFeatures(nn.Module):
    """Give back a network's outputs and its penultimate features.

    Args:
        model: The network.
        inputs: A batch on which the last linear layer is found, in evaluation mode.
        whose: Name of the network in the message.

    Raises:
        ValueError: If the network runs no linear layer.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, whose: str) -> None:
        super().__init__()
        self.model = model
        found = _last_linear(model, inputs)
        if found is None:
            raise ValueError(
                f"{whose} has no linear layer, before which similarity and relational distillation compare "
                "features; give --distillation soft-targets or logits"
            )
        self._layer = [found]  # in a list, as it is no sub-module of this one

    def forward(self, inputs: Tensor) -> tuple[Any, Tensor]:
        """Run the network."""
        features: list[Tensor] = []

        def keep(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            features.append(first_input(given, named))

        hook = self._layer[0].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            outputs = self.model(inputs)
        finally:
            hook.remove()
        if not features:
            raise RuntimeError("the last linear layer does not run, or its inputs cannot be seen")
        return outputs, features[-1]


def _last_linear(model: nn.Module, inputs: Tensor) -> nn.Linear | None:
    """Return the linear layer that runs last; None if none does."""
    called: list[nn.Linear] = []
    hooks = [
        module.register_forward_pre_hook(lambda layer, _: called.append(layer))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with restored_modes(model), torch.no_grad(), fixed_randomness():
            run_on_copy(model.eval(), inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return called[-1] if called else None
