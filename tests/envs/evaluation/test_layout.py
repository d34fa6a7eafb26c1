"""Candidates of networks that view feature maps, in the memory layout that they run in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.evaluation.candidate_network import CandidateNetwork
from secateur.envs.recovery.compensation import Compensation
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks.own.tensors import TensorTask


class Viewing(nn.Module):
    """A LeNet: its ``view`` does not run on channels-last feature maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 24, 3, padding=1), nn.Conv2d(24, 16, 3, padding=1)
        self.head = nn.Linear(16 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.first(x).relu(), 2)
        x = F.max_pool2d(self.second(x).relu(), 2)
        return self.head(x.view(x.size(0), -1))


class Deep(nn.Module):
    """Images whose channels are the slices of a volume."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 24, 3, padding=1), nn.Conv3d(24, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x[:, None]).relu()).relu().mean((2, 3, 4)))


@pytest.mark.parametrize("network", [Viewing, Deep])
@pytest.mark.parametrize("channels", [1, 3])  # one channel is the same in both layouts
def test_a_network_that_does_not_take_channels_last_has_candidates(
    channels: int, network: type[nn.Module]
) -> None:
    part = torch.rand(8, channels, 8, 8), torch.zeros(8, dtype=torch.long)
    task = TensorTask(
        train=part,
        val=part,
        test=part,
        loss=F.cross_entropy,
        metric=lambda outputs, targets: 100 * (outputs.argmax(1) == targets).float().mean(),
    )
    model = network(channels)
    trace = trace_exactly(model, part[0][:2])
    plain = Compensation(model, trace, task, images=0)
    candidates = CandidateNetwork(model, trace, part[0][:2], part[0][:0], plain)
    smaller = candidates.cut([np.arange(layer.filters) < 5 for layer in trace.layers])
    assert smaller(candidates.pieces(part[0])[0]).shape == (8, 10)
