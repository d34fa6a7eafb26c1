"""A network that edits its input in place, and its twin that computes the same and does not."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from support.small import plain_network


class EditsItsInput(nn.Module):
    """Shift and scale images in place, as preprocessing in a forward pass does, and look at them later on."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.25).mul_(1.5)
        return self.body(x) + x.mean((1, 2, 3))[:, None]


class LeavesItsInput(EditsItsInput):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clone())


def twins() -> tuple[nn.Module, nn.Module]:
    """Give one that edits and one that does not, with the same weights."""
    body = plain_network()
    return EditsItsInput(body).eval(), LeavesItsInput(copy.deepcopy(body)).eval()
