"""Candidates share what is below their first difference, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.envs.evaluation import shared_prefix as prefix
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.evaluation.shared_prefix import SharedPrefix
from secateur.envs.problem.problem import PruningProblem
from support.candidates import candidate, fresh_evaluator
from support.small import plain_network

IMAGES = torch.linspace(-1, 1, 4 * 64).reshape(4, 1, 8, 8)
SECOND = ("3.weight", "3.bias", "4.weight", "4.bias", "4.running_mean", "4.running_var", "8.weight")


class Convolutions(TorchDispatchMode):
    """Count the convolutions that are computed."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "conv" in str(func)
        return func(*args, **kwargs or {})


@torch.inference_mode()
def run(model: nn.Module, shared: SharedPrefix, images: Tensor = IMAGES) -> tuple[Tensor, int]:
    with Convolutions() as convolutions, next(shared.passes(list(model.state_dict(keep_vars=True).items()))):
        output = model(images)
    return output, convolutions.count


def changed(model: nn.Module, name: str) -> nn.Module:
    other = copy.deepcopy(model)
    other.get_parameter(name).data.mul_(0.5)
    return other


def test_a_follower_computes_only_what_differs() -> None:
    model = plain_network()
    other = changed(model, "3.weight")
    shared = SharedPrefix(SECOND)
    first, computed = run(model, shared)
    assert (computed, torch.equal(first, model(IMAGES))) == (2, True)
    for network in (other, model, changed(model, "8.weight")):
        output, computed = run(network, shared)
        assert computed == 1
        assert torch.equal(output, network(IMAGES))


def test_networks_that_differ_from_the_first_operation_on_share_nothing() -> None:
    model = plain_network()
    shared = SharedPrefix(["0.weight"])
    run(model, shared)
    other = changed(model, "0.weight")
    output, computed = run(other, shared)
    assert computed == 2
    assert torch.equal(output, other(IMAGES))


class InPlace(nn.Module):
    """Add the second convolution into the result of the first, as ``shortcut += x`` does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.first(x)
        shortcut += self.second(shortcut)
        return shortcut


class ViewOfAShortcut(InPlace):
    """Write into a view."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.first(x)
        shortcut[:, :2].mul_(self.second(shortcut)[:, :2])
        return shortcut


@pytest.mark.parametrize("build", [InPlace, ViewOfAShortcut])
def test_a_result_that_is_overwritten_later_is_not_shared(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    shared = SharedPrefix(["second.weight"])
    run(model, shared)
    other = changed(model, "second.weight")
    output, computed = run(other, shared)
    assert computed == 2
    assert torch.equal(output, other(IMAGES))


def test_what_the_prefix_alone_needs_is_not_kept() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(9)))
    shared = SharedPrefix(["8.weight"])
    run(model, shared)
    one_result = IMAGES.numel() * 4
    assert one_result <= shared._leaders[0].size <= 3 * one_result


def test_results_are_the_same_where_there_is_no_memory_to_share(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = candidate(problem, 0.6)
    other = [*masks[:-1], ~masks[-1]]
    both = problem.evaluator([masks, other])
    monkeypatch.setattr(prefix, "_LARGEST", 1)
    assert problem.evaluator([masks, other]) == both


def test_candidates_that_differ_in_a_late_layer_have_the_results_that_they_have_alone(
    problem: PruningProblem,
) -> None:
    bare = CandidateEvaluator(problem.model, problem.network, problem.task, images=64)
    for layer in range(1, len(problem.network.layers)):
        candidates = [candidate(problem, 0.6) for _ in range(3)]
        for k, masks in enumerate(candidates):
            masks[layer] = candidate(problem, 0.5, seed=k)[layer]
        for evaluator in (problem.evaluator, bare):
            assert evaluator(candidates) == [evaluator([masks])[0] for masks in candidates]


def test_each_core_has_a_candidate_of_its_own_with_the_result_that_it_has_alone(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = [candidate(problem, keep, seed) for seed, keep in enumerate((0.3, 0.5, 0.7))]
    late = [[*candidates[0][:-1], masks[-1]] for masks in candidates]
    alone = problem.evaluator(candidates), problem.evaluator(late)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    evaluator = fresh_evaluator(problem)
    assert (evaluator(candidates), evaluator(late)) == alone
    assert threads.count(1) >= 2
    assert threads[-1] == 2
