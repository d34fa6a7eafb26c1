"""Torchvision's segmentation networks, which return a dict: see :mod:`secateur.envs.modules.outputs`."""

from __future__ import annotations

import torchvision
from torch import nn


def list_segmentation() -> list[str]:
    """List torchvision's names of segmentation networks."""
    return list(torchvision.models.list_models(module=torchvision.models.segmentation))


def build_segmentation(name: str, num_classes: int) -> nn.Module:
    """Build a network with random weights, also in the backbone, and without an auxiliary head."""
    model: nn.Module = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=num_classes
    )
    return model
