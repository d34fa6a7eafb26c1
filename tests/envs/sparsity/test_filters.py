"""Masks of whole filters compute what the cut network does, while both train."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.sparsity import apply_masks, keep_masks, remove_masks, set_masks
from secateur.envs.sparsity.filters import filter_masks, kept_filters, unmasked_state
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from support.candidates import candidate


def take_steps(model: nn.Module, images: Tensor, steps: int = 4) -> None:
    """Train with momentum, decay and batch statistics."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    model.train()
    for step in range(steps):
        optimiser.zero_grad()
        outputs = model(images[step * 8 : (step + 1) * 8])
        (outputs.square().mean() - outputs[:, 0].mean()).backward()
        optimiser.step()
    model.eval()


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_masked_network_trains_exactly_as_the_cut_one(problem: PruningProblem, keep: float) -> None:
    plan = PruningPlan.from_masks(problem.network, candidate(problem, keep))
    dense = replica(problem.model).double()
    smaller, masked = cut(dense, problem.network, plan), replica(dense)
    apply_masks(masked, filter_masks(masked, problem.network, plan.masks(problem.network)))
    images = torch.randn(32, 1, 8, 8, dtype=torch.float64)
    before = smaller(images)
    for model in (smaller, masked):
        take_steps(model, images)
    with torch.no_grad():
        assert (smaller(images) - before).abs().max() > 1e-2
        torch.testing.assert_close(masked(images), smaller(images), rtol=1e-9, atol=1e-9)
        again = cut(remove_masks(masked), problem.network, plan)
        torch.testing.assert_close(again(images), smaller(images), rtol=1e-9, atol=1e-9)


def test_a_parameter_that_modules_share_is_masked_in_all_of_them() -> None:
    shared = nn.Conv2d(6, 6, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), shared, nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.Flatten())
    model[3].weight = shared.weight
    model.append(nn.Linear(6 * 36, 3))
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    masks = [layer.filters * [True] for layer in network.layers]
    masks[0][2] = False
    plan = PruningPlan.from_masks(network, [torch.tensor(mask).numpy() for mask in masks])
    smaller, masked = cut(model, network, plan), replica(model)
    apply_masks(masked, filter_masks(masked, network, plan.masks(network)))
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(masked(images), smaller(images))


def test_masks_name_the_same_parameters_whatever_is_removed(problem: PruningProblem) -> None:
    model, network = replica(problem.model), problem.network
    apply_masks(model, filter_masks(model, network, PruningPlan.dense(network).masks(network)))
    assert all(bool(mask.all()) for mask in keep_masks(model).values())
    fewer = filter_masks(model, network, candidate(problem, 0.5))
    set_masks(model, fewer)
    assert {name: int(mask.sum()) for name, mask in keep_masks(model).items()} == {
        name: int(mask.sum()) for name, mask in fewer.items()
    }


@pytest.mark.parametrize("keep", [0.05, 0.5, 1.0])
def test_the_kept_filters_are_read_off_the_masks(problem: PruningProblem, keep: float) -> None:
    model, masks = replica(problem.model), candidate(problem, keep)
    apply_masks(model, filter_masks(model, problem.network, masks))
    found = kept_filters(model, problem.network)
    assert all((one == other).all() for one, other in zip(found, masks, strict=True))


def test_the_unmasked_state_is_that_of_the_network_before(problem: PruningProblem) -> None:
    model = replica(problem.model)
    apply_masks(model, filter_masks(model, problem.network, candidate(problem, 0.5)))
    state, before = unmasked_state(model), problem.model.state_dict()
    assert list(sorted(state)) == sorted(before)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_a_module_with_two_names_is_masked_and_read_back() -> None:
    shared = nn.Conv2d(6, 6, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), shared, nn.ReLU(), shared, nn.Flatten(), nn.Linear(6 * 36, 3))
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    masked, again = replica(model), replica(model)
    apply_masks(masked, filter_masks(masked, network, PruningPlan.dense(network).masks(network)))
    again.load_state_dict(unmasked_state(masked))
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(again(images), model(images))


def test_filters_are_read_from_masks_of_their_biases_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 3))
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    kept = torch.tensor([True, False, True, True, True, False])
    apply_masks(model, {"0.bias": kept})
    (found,) = kept_filters(model, network)
    assert found.tolist() == kept.tolist()
