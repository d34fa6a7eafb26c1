"""Small networks around one operation, and the true difference that cutting them makes.

Shapes: B examples, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateur.envs.modules.copying import replica
from secateur.envs.surgery.cutting import cut, mask_
from secateur.envs.surgery.verification import TOLERANCE
from secateur.envs.tracing import TracedNetwork, trace

from .promises import difference, random_plan, randomised

IMAGES = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


class Around(nn.Module):
    """Two convolutions and a linear layer, with something done to the first one's 8 channels."""

    def __init__(
        self, between: Callable[[Tensor], Tensor], first: int = 8, second: int = 8, bias: bool = True
    ) -> None:
        super().__init__()
        self.first, self.between = nn.Conv2d(3, first, 3, padding=1, bias=bias), between
        self.second, self.head = nn.Conv2d(second, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.between(self.first(x))).mean((2, 3)))


def traced_and_cut(model: nn.Module, inputs: Tensor = IMAGES) -> TracedNetwork:
    """Trace without trial cuts; then cut, and compare with the masked network in both modes."""
    torch.manual_seed(0)
    model = randomised(model)
    network = trace(model, inputs)
    for sparsity in (0.3, 0.6):
        plan = random_plan(network, sparsity)
        for training in (False, True):
            masked = replica(model)
            mask_(masked, network, plan)
            found = [_outputs(m, inputs, training) for m in (masked, cut(model, network, plan), model)]
            assert difference(found[0], found[1]) <= TOLERANCE
            assert not network.layers or difference(found[0], found[2]) > TOLERANCE, "masking is not seen"
    return network


def _outputs(model: nn.Module, inputs: Tensor, training: bool) -> list[Tensor]:
    torch.manual_seed(1)
    with torch.no_grad():
        outputs = replica(model).train(training)(inputs.clone())
    return [x for x in tree_leaves(outputs) if isinstance(x, Tensor)]


def reasons(network: TracedNetwork) -> dict[str, str]:
    """Return why filters stay that are not the network's output, by the name of their producer."""
    return {p.name: p.cause.reason for p in network.pinned if p.pinned > p.outputs}
