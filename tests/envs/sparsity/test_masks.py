"""Masks over single weights."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from secateur.envs.modules.copying import replica
from secateur.envs.sparsity import (
    apply_masks,
    keep_masks,
    prunable_weights,
    random_masks,
    remove_masks,
    set_masks,
    sparsity,
)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def _half(model: nn.Module) -> dict[str, torch.Tensor]:
    return {"0.weight": torch.rand(8, 3, 3, 3) > 0.5, "3.weight": torch.rand(5, 8 * 36) > 0.5}


@pytest.mark.parametrize("straight_through", [False, True])
def test_a_masked_network_computes_what_one_with_zeros_does(straight_through):
    model = _network()
    masks = _half(model)
    zeroed = replica(model)
    with torch.no_grad():
        for name, mask in masks.items():
            zeroed.get_parameter(name).mul_(mask)
    apply_masks(model, masks, straight_through=straight_through)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model(x), zeroed(x))
    assert sparsity(model) == pytest.approx(0.5, abs=0.03)


def test_removed_weights_stay_at_zero_through_an_optimiser_with_momentum_and_decay():
    model = _network()
    masks = _half(model)
    apply_masks(model, masks)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        model(torch.randn(4, 3, 8, 8)).square().sum().backward()
        optimiser.step()
    remove_masks(model)
    for name, mask in masks.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
        assert (model.get_parameter(name)[mask] != 0).all()


def test_only_with_straight_through_removed_weights_keep_learning():
    for straight_through in (False, True):
        model = _network()
        masks = _half(model)
        apply_masks(model, masks, straight_through=straight_through)
        model(torch.randn(4, 3, 8, 8)).square().sum().backward()
        gradient = model[0].weight_orig.grad
        assert bool((gradient[~masks["0.weight"]] != 0).any()) is straight_through


def test_a_mask_that_changes_brings_weights_back():
    model = _network()
    before = model[0].weight.detach().clone()
    apply_masks(model, {"0.weight": torch.zeros(8, 3, 3, 3, dtype=torch.bool)})
    set_masks(model, {"0.weight": torch.ones(8, 3, 3, 3, dtype=torch.bool)})
    remove_masks(model)
    assert torch.equal(model[0].weight, before)


def test_masks_are_taken_over_from_torch_and_handed_back():
    model = _network()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    masks = keep_masks(model)
    assert list(masks) == ["0.weight"]
    other = _network()
    apply_masks(other, masks)
    assert prune.is_pruned(other)
    prune.remove(other[0], "weight")
    prune.remove(model[0], "weight")
    assert torch.equal(other[0].weight, model[0].weight)


def test_masks_survive_a_state_dict():
    model, other = _network(), _network()
    apply_masks(model, _half(model))
    apply_masks(other, {name: torch.ones_like(mask) for name, mask in keep_masks(model).items()})
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(x), other(x))


@pytest.mark.parametrize("normalise", [parametrizations.spectral_norm, spectral_norm, weight_norm])
def test_a_weight_that_is_computed_from_others_gets_no_mask(normalise):
    model = _network()
    normalise(model[0])
    with pytest.raises(ValueError, match=r"0\.weight is computed from other parameters"):
        apply_masks(model, {"0.weight": torch.ones(8, 3, 3, 3)})


def test_a_weight_that_modules_share_has_one_mask_and_counts_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    model[3].weight = model[1].weight
    assert list(prunable_weights(model)) == ["0.weight", "1.weight"]
    apply_masks(model, random_masks(model, 0.5, seed=0))
    assert sparsity(model) == pytest.approx(0.5, abs=1e-3)
    set_masks(model, random_masks(model, 0.3, seed=1))
    assert list(prunable_weights(model)) == ["0.weight", "1.weight"]
    held, images = keep_masks(model), torch.randn(2, 3, 8, 8)
    assert torch.equal(held["1.weight"], held["3.weight"])
    outputs = model(images)
    assert torch.equal(remove_masks(model)(images), outputs)
    assert sparsity(model) == pytest.approx(0.7, abs=1e-3)


def test_wrong_masks_are_refused():
    model = _network()
    with pytest.raises(ValueError, match=r"the network has no weight '0\.weights'"):
        apply_masks(model, {"0.weights": torch.ones(1)})
    with pytest.raises(ValueError, match=r"the mask of 0\.weight is \(1,\), the weight \(8, 3, 3, 3\)"):
        apply_masks(model, {"0.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"0\.weight has no mask"):
        set_masks(model, {"0.weight": torch.ones(8, 3, 3, 3)})
