"""New random weights are those that a network is built with."""

from __future__ import annotations

import torch
from torch import nn

from secateur.envs.models import get_model
from secateur.envs.modules.initialisation import reset_weights


def test_a_network_gets_the_weights_that_it_is_built_with() -> None:
    for name in ("lenet300", "lenet5", "demo"):
        torch.manual_seed(3)
        built = get_model(name, num_classes=10, in_channels=1)
        torch.manual_seed(4)
        other = get_model(name, num_classes=10, in_channels=1)
        other(torch.randn(2, 1, 28, 28))  # changes running statistics
        state = torch.get_rng_state()
        assert reset_weights(other, 3) == ()
        assert torch.equal(torch.get_rng_state(), state)
        expected = built.state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in other.state_dict().items())


def test_parameters_without_a_default_are_named_and_stay() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))

    model = nn.Sequential(Scaled())
    before = model[0].linear.weight.detach().clone()
    assert reset_weights(model, 1) == ("0.scale",)
    assert (model[0].scale == 1).all()
    assert not torch.equal(model[0].linear.weight, before)
