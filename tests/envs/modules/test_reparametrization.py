"""What baking makes of weights that are computed anew in every forward pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from secateur.envs.modules.reparametrization import remove_reparametrizations
from secateur.envs.surgery.verification import trace_exactly
from support.networks import WeightNorms
from support.promises import difference, outputs

IMAGES = torch.randn(2, 3, 9, 9)


class Standardised(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 (Qiao et al. 2019, arXiv 1903.10520)."""

    same = False

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean((1, 2, 3), True)) / self.weight.std((1, 2, 3), keepdim=True)
        if self.same:  # as TensorFlow pads for a kernel of 3 and a stride of 2
            x = F.pad(x, [edge for size in (x.shape[3], x.shape[2]) for edge in ((size % 2), 1)])
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class StandardisedSame(Standardised):
    same = True


@pytest.mark.parametrize(
    ("layer", "share"),
    [
        (lambda: Standardised(3, 8, 3, padding=1, bias=False), 0.0),
        (lambda: Standardised(3, 9, 3, 2, 1), 0.0),
        (lambda: StandardisedSame(3, 8, 3, 2), 0.0),
        (lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), 0.0),
        (lambda: parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)), 1.0),  # one number for all filters
        (lambda: spectral_norm(nn.Conv2d(3, 8, 3)), 1.0),
        (lambda: nn.utils.weight_norm(nn.Conv2d(3, 8, 3)), 0.0),
    ],
)
def test_a_baked_network_computes_the_same_and_can_be_pruned(layer: object, share: float) -> None:
    first = layer()  # type: ignore[operator]
    model = nn.Sequential(first, nn.ReLU(), nn.Conv2d(first.out_channels, 2, 1)).eval()
    before = outputs(model, (IMAGES,))
    assert trace_exactly(model, IMAGES).prunable_share == share
    baked = remove_reparametrizations(model)
    assert baked.baked
    assert difference(before, outputs(baked, (IMAGES,))) < 1e-5
    assert difference(before, outputs(model, (IMAGES,))) == 0.0
    assert isinstance(baked[0].weight, nn.Parameter)
    assert trace_exactly(baked, IMAGES).prunable_share == 1.0


def test_baking_a_plain_network_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    baked = remove_reparametrizations(model)
    assert not hasattr(baked, "baked")
    assert baked.training
    assert list(baked.state_dict()) == list(model.state_dict())


def test_the_original_keeps_its_parametrisations() -> None:
    model = WeightNorms()
    remove_reparametrizations(model)
    model.train()(IMAGES)
    assert "new.parametrizations.weight.original0" in dict(model.named_parameters())
