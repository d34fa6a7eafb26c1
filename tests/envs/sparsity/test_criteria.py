"""Which single weights stay."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from secateur.envs.sparsity import (
    apply_masks,
    keep_masks,
    magnitude_masks,
    n_of_m_masks,
    random_masks,
    set_masks,
    sparsity,
    threshold_factor,
)

CRITERIA = {
    "global": lambda model, share: magnitude_masks(model, share, "global"),
    "layer": lambda model, share: magnitude_masks(model, share, "layer"),
    "deviation": lambda model, share: magnitude_masks(model, share, "deviation"),
    "random": lambda model, share: random_masks(model, share, 3),
}


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def _kept(masks: dict[str, torch.Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


TOTAL = 8 * 3 * 9 + 8 * 36 * 5


@pytest.mark.parametrize("name", CRITERIA)
@settings(max_examples=20)
@given(share=st.floats(1e-6, 1), levels=st.sampled_from([1, 3, 10**9]))
def test_the_share_is_met_exactly_also_among_equal_weights(name, share, levels):
    model = _network()
    with torch.no_grad():
        for weight in (model[0].weight, model[4].weight):
            weight.copy_((weight * levels).round() / levels)
    masks = CRITERIA[name](model, share)
    assert list(masks) == ["0.weight", "4.weight"]
    if name == "layer":
        assert all(int(mask.sum()) == max(1, round(share * mask.numel())) for mask in masks.values())
    else:
        assert _kept(masks) == max(2, round(share * TOTAL))
        assert all(mask.any() for mask in masks.values())


@pytest.mark.parametrize("name", CRITERIA)
def test_what_was_removed_stays_removed(name):
    model = _network()
    apply_masks(model, CRITERIA["random"](model, 0.5))
    before = keep_masks(model)
    masks = CRITERIA[name](model, 0.2)
    assert all((before[key] >= mask).all() for key, mask in masks.items())
    assert _kept(CRITERIA[name](model, 0.9)) == _kept(before)
    assert _kept(masks) == pytest.approx(0.2 * TOTAL, abs=1)


@pytest.mark.parametrize("name", CRITERIA)
def test_a_smaller_share_keeps_a_part_of_a_larger_one(name):
    large, small = (CRITERIA[name](_network(), share) for share in (0.5, 0.1))
    assert all((large[key] >= mask).all() for key, mask in small.items())


def test_global_magnitudes_keep_no_weight_that_is_smaller_than_a_removed_one():
    model = _network()
    masks = magnitude_masks(model, 0.3)
    kept = torch.cat([model.get_parameter(name)[mask].abs() for name, mask in masks.items()])
    gone = torch.cat([model.get_parameter(name)[~mask].abs() for name, mask in masks.items()])
    assert kept.min() >= gone.max()


def test_torch_removes_the_same_weights():
    model, other = _network(), _network()
    apply_masks(model, magnitude_masks(model, 0.3))
    pairs = [(other[0], "weight"), (other[4], "weight")]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=TOTAL - round(0.3 * TOTAL))
    assert all(torch.equal(mask, keep_masks(other)[name]) for name, mask in keep_masks(model).items())


def test_random_is_not_magnitude_and_follows_its_seed():
    model = _network()
    first, again, other = (random_masks(model, 0.5, seed) for seed in (0, 0, 1))
    assert torch.equal(first["4.weight"], again["4.weight"])
    for mask in (other, magnitude_masks(model, 0.5)):
        agreement = (first["4.weight"] == mask["4.weight"]).float().mean()
        assert 0.4 < agreement < 0.6


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01])
def test_weights_above_a_factor_times_the_deviation_of_their_layer_stay(share):
    model = _network()
    factor = threshold_factor(model, share)
    for name, mask in magnitude_masks(model, share, "deviation").items():
        score = model.get_parameter(name).abs() / model.get_parameter(name).std(correction=0)
        assert torch.equal(mask, (score >= factor) | (score == score.max()))


def test_two_of_each_four_weights_along_the_inputs_stay():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.ConvTranspose2d(4, 3, 2), nn.Linear(12, 5)
    )
    masks = n_of_m_masks(model)
    assert list(masks) == ["1.weight", "2.weight", "3.weight"]  # three input channels are no multiple of four
    for name, inputs in (("1.weight", 1), ("2.weight", 0), ("3.weight", 1)):
        mask = masks[name].movedim(inputs, -1).reshape(-1, 4)
        weight = model.get_parameter(name).abs().movedim(inputs, -1).reshape(-1, 4)
        assert (mask.sum(1) == 2).all()
        largest = weight.topk(2).indices.sort().values
        assert torch.equal(mask.nonzero()[:, 1].reshape(-1, 2), largest)


@pytest.mark.parametrize(
    ("layer", "is_whole"),
    [
        (nn.ConvTranspose2d(8, 16, 3, groups=4), True),
        (nn.ConvTranspose2d(8, 16, 3, groups=2), False),
        (nn.Conv2d(8, 16, 3, groups=4), True),
        (nn.Conv2d(8, 16, 3, groups=2), False),
    ],
)
def test_groups_of_four_are_inside_the_groups_of_a_convolution(layer, is_whole):
    masks = n_of_m_masks(nn.Sequential(layer))
    assert (masks == {}) is is_whole
    if masks:
        apply_masks(model := nn.Sequential(layer), masks)
        weights = model[0].weight
        inputs = weights.movedim(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weights
        assert int((inputs == 0).sum()) == weights.numel() // 2


def test_a_new_mask_counts_at_once_before_any_pass():
    model = _network()
    apply_masks(model, magnitude_masks(model, 1.0))
    set_masks(model, magnitude_masks(model, 0.25))
    assert sparsity(model) == pytest.approx(0.75)
    assert _kept(magnitude_masks(model, 1.0)) == TOTAL / 4


def test_wrong_shares_and_networks_are_refused():
    for share in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="the share of weights that stays is"):
            magnitude_masks(_network(), share)
    with pytest.raises(ValueError, match="scope is 'all'; allowed are global, layer and deviation"):
        magnitude_masks(_network(), 0.5, "all")
    with pytest.raises(ValueError, match="no weights to prune"):
        magnitude_masks(nn.ReLU(), 0.5)
    with pytest.raises(ValueError, match="n is 5; allowed is 1 to 4"):
        n_of_m_masks(_network(), 5, 4)
