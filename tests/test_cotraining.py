"""Weights that are trained together with their sub-networks.

Shapes: N filters of a layer.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch.func import functional_call

from secateur.envs.cotraining import cotrain, masked_weights
from secateur.envs.problem import PruningProblem
from secateur.envs.recovery import RecoveryConfig, reestimate_batchnorm
from secateur.envs.surgery import Mask, PruningPlan, cut, mask_
from secateur.envs.tasks import measure


def drawn(problem: PruningProblem, generator: np.random.Generator, keep: float = 0.5) -> list[Mask]:
    masks = [generator.random(layer.filters) < keep for layer in problem.network.layers]
    for mask in masks:
        mask[0] = True
    return masks


def test_masked_weights_compute_what_a_masked_copy_does(problem: PruningProblem) -> None:
    masks = drawn(problem, np.random.default_rng(0))
    masked = copy.deepcopy(problem.model).eval()
    mask_(masked, problem.network, PruningPlan.from_masks(problem.network, masks))
    inputs, _ = problem.task.batch("val", torch.arange(8))
    weights = masked_weights(problem.model, problem.network, masks)
    with torch.no_grad():
        found = functional_call(problem.model.eval(), weights, (inputs,))
        torch.testing.assert_close(found, masked(inputs))
        assert not torch.allclose(found, problem.model(inputs))


def test_gradients_reach_the_weights_that_stay_and_no_others(problem: PruningProblem) -> None:
    model = copy.deepcopy(problem.model)
    masks = drawn(problem, np.random.default_rng(1))
    weights = masked_weights(model, problem.network, masks)
    inputs, _ = problem.task.batch("val", torch.arange(8))
    functional_call(model, weights, (inputs,)).square().sum().backward()
    parameters = dict(model.named_parameters())
    checked = 0
    for layer, mask in zip(problem.network.layers, masks, strict=True):
        for where in layer.slices:
            if where.role == "consumer":
                gradient = parameters[where.parameter].grad
                assert gradient is not None
                gone, kept = where.index[~mask].ravel(), where.index[mask].ravel()
                assert not gradient.index_select(where.axis, torch.from_numpy(gone)).any()
                assert gradient.index_select(where.axis, torch.from_numpy(kept)).any()
                checked += 1
    assert checked


def test_sub_networks_of_cotrained_weights_know_more(problem: PruningProblem) -> None:
    before = [tensor.clone() for tensor in problem.model.state_dict().values()]
    together = cotrain(
        problem.model,
        problem.network,
        problem.task,
        lambda generator: drawn(problem, generator),
        RecoveryConfig(epochs=4, learning_rate=0.05),
    )
    after = problem.model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def accuracy(model: torch.nn.Module, seed: int) -> float:
        plan = PruningPlan.from_masks(problem.network, drawn(problem, np.random.default_rng(seed)))
        smaller = cut(model, problem.network, plan)
        reestimate_batchnorm(smaller, problem.task, images=512)
        return measure(smaller, problem.task, "val").accuracy

    seeds = range(100, 104)
    gains = [accuracy(together, seed) - accuracy(problem.model, seed) for seed in seeds]
    assert np.mean(gains) > 5


def test_a_candidate_that_keeps_everything_masks_nothing(problem: PruningProblem) -> None:
    masks = [np.ones(layer.filters, np.bool_) for layer in problem.network.layers]
    assert masked_weights(problem.model, problem.network, masks) == {}
