"""Masks that are revised: what is removed comes back once it is larger than what stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.envs.sparsity import apply_masks, keep_masks, magnitude_masks
from secateur.envs.sparsity.splicing import splice


def masked_network(share: float) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    apply_masks(model, magnitude_masks(model, share), straight_through=True)
    return model


def kept(model: nn.Module) -> list[int]:
    return [int(mask.sum()) for mask in keep_masks(model).values()]


def scatter(model: nn.Module) -> None:
    """Give what is removed other values, larger ones too; what is kept stays."""
    with torch.no_grad():
        for name, mask in keep_masks(model).items():
            weight = model.get_parameter(f"{name}_orig")
            weight[~mask] = torch.randn_like(weight)[~mask]


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_masks_by_magnitude_need_no_revision(margin: float) -> None:
    model = masked_network(0.3)
    before = keep_masks(model)
    assert splice(model, 0.3, margin=margin, most=1.0, fade=0.0) == 0
    assert all(torch.equal(mask, before[name]) for name, mask in keep_masks(model).items())


@pytest.mark.parametrize("most", [0.05, 1.0])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_each_layer_keeps_as_many_as_by_magnitude_whatever_comes_back(share: float, most: float) -> None:
    model, total = masked_network(share), 0
    for _ in range(3):
        scatter(model)
        smaller = 0.9 * share
        expected = [int(mask.sum()) for mask in magnitude_masks(model, smaller).values()]
        returns = splice(model, smaller, margin=0.2, most=most, fade=0.0)
        assert kept(model) == expected
        assert returns <= sum(round(most * count) for count in expected)
        share, total = smaller, total + returns
    assert total > 0


def test_a_weight_comes_back_only_if_it_is_larger_by_the_margin() -> None:
    model = masked_network(0.3)
    weight, mask = model.get_parameter("0.weight_orig"), keep_masks(model)["0.weight"]
    smallest = int(torch.where(mask, weight.abs(), torch.inf).argmin())
    removed = int((~mask).flatten().int().argmax())
    with torch.no_grad():
        weight.view(-1)[smallest] = 1e-4
        weight[~mask] = 0.0
        weight.view(-1)[removed] = 1.1e-4
    assert splice(model, 0.3, margin=0.2, most=1.0, fade=0.0) == 0
    with torch.no_grad():
        weight.view(-1)[removed] = -1.3e-4
    assert splice(model, 0.3, margin=0.2, most=1.0, fade=0.0) == 1
    after = keep_masks(model)["0.weight"].flatten()
    assert after[removed]
    assert not after[smallest]


def test_only_what_is_removed_fades() -> None:
    model = masked_network(0.3)
    before = model.get_parameter("0.weight_orig").detach().clone()
    splice(model, 0.3, margin=0.2, most=1.0, fade=0.25)
    mask, weight = keep_masks(model)["0.weight"], model.get_parameter("0.weight_orig")
    assert torch.equal(weight[mask], before[mask])
    torch.testing.assert_close(weight[~mask], 0.75 * before[~mask])


def test_no_layer_is_left_empty() -> None:
    model = masked_network(0.05)
    with torch.no_grad():
        model.get_parameter("2.weight_orig").mul_(1e-6)
    splice(model, 0.05, margin=0.2, most=1.0, fade=0.5)
    assert kept(model)[1] == 1
