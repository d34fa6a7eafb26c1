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


def kept(model: nn.Module) -> int:
    return sum(int(mask.sum()) for mask in keep_masks(model).values())


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_masks_by_magnitude_need_no_revision(margin: float) -> None:
    model = masked_network(0.3)
    before = keep_masks(model)
    assert splice(model, margin) == 0
    assert all(torch.equal(mask, before[name]) for name, mask in keep_masks(model).items())


@pytest.mark.parametrize("margin", [0.0, 0.3])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_the_size_stays_what_it_was_whatever_weights_become(share: float, margin: float) -> None:
    model = masked_network(share)
    before = kept(model)
    for _ in range(3):
        with torch.no_grad():
            for name in ("0", "2"):
                model.get_parameter(f"{name}.weight_orig").normal_()
        assert splice(model, margin) > 0 or share > 0.5
        assert kept(model) == before


def test_a_weight_comes_back_only_if_it_is_larger_by_the_margin() -> None:
    model = masked_network(0.3)
    weight, mask = model.get_parameter("0.weight_orig"), keep_masks(model)["0.weight"]
    with torch.no_grad():
        smallest = torch.where(mask, weight.abs(), torch.inf).argmin()  # below all that stay elsewhere
        weight.view(-1)[smallest] = 1e-4
        removed = int((~mask).view(-1).float().argmax())
        weight[~mask] = 0.0
        model.get_parameter("2.weight_orig")[~keep_masks(model)["2.weight"]] = 0.0
        weight.view(-1)[removed] = 1.1e-4
    assert splice(model, 0.2) == 0
    with torch.no_grad():
        weight.view(-1)[removed] = -1.3e-4
    assert splice(model, 0.2) == 1
    after = keep_masks(model)["0.weight"].view(-1)
    assert after[removed]
    assert not after[smallest]


def test_no_layer_is_left_empty() -> None:
    model = masked_network(0.05)
    with torch.no_grad():
        model.get_parameter("2.weight_orig").mul_(1e-6)
    splice(model, 0.2)
    assert int(keep_masks(model)["2.weight"].sum()) == 1
