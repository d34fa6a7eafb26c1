"""What dropped blocks promise: a claim of ``systems.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from secateur.envs.models import get_model
from secateur.envs.modules.calls import as_calls
from secateur.envs.surgery.block_removal import without_block
from secateur.envs.surgery.blocks import find_blocks, verify_drop
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly, verify_cut

if TYPE_CHECKING:
    from systems import Bench

NETWORKS: Mapping[str, int] = {
    "demo": 16,
    "resnet56": 16,
    "resnet18": 32,
    "resnet50": 32,
    "mobilenet_v2": 32,
    "efficientnet_b0": 32,
    "convnext_tiny": 32,
    "regnet_y_400mf": 32,
}
"""Networks and the size of their images."""

SOME = 3
"""Blocks of each network that are tried, drawn at random."""


def blocks(_bench: Bench, seed: int) -> dict[str, float]:
    """Drop blocks of networks, and then cut half of the filters of those without."""
    found: dict[str, float] = {}
    worst = {"by blocks": 0.0, "by filters after blocks": 0.0}
    generator = np.random.default_rng(seed)
    tried = refused = 0
    for name, size in NETWORKS.items():
        torch.manual_seed(seed)
        model = get_model(name, num_classes=10, in_channels=3).eval()
        calls = as_calls(torch.zeros(2, 3, size, size))
        known = find_blocks(model, calls[0])
        found[f"{name} blocks"] = len(known)
        refused += sum(bool(block.refusal) for block in known)
        for number in generator.permutation(len(known))[:SOME]:
            worst["by blocks"] = max(worst["by blocks"], verify_drop(model, known[number], calls))
            tried += 1
        if name not in ("demo", "resnet56", "resnet18"):
            continue
        block = known[-1]
        smaller = without_block(model, block, torch.randn(block.channels))
        network = trace_exactly(smaller, calls[0].inputs)
        masks = [generator.permutation(layer.filters) < -(-layer.filters // 2) for layer in network.layers]
        exact = verify_cut(smaller, network, PruningPlan.from_masks(network, masks), calls[0].inputs)
        worst["by filters after blocks"] = max(worst["by filters after blocks"], exact)
    largest = {f"largest relative difference {how}": value for how, value in worst.items()}
    return found | {"tried": float(tried), "refused": float(refused), **largest}


CLAIMS: dict[str, Callable[[Bench, int], dict[str, float]]] = {"blocks": blocks}
"""The claims by name."""
