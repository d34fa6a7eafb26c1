"""Systems that prune single weights: the share is reached exactly, and zeros stay zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from secateur.agent.systems.base import Job
from secateur.agent.systems.gradual import Gradual
from secateur.agent.systems.registry import SYSTEMS
from secateur.agent.systems.weights import what_zeros_save
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.sparsity import (
    apply_masks,
    cubic_sparsity,
    keep_masks,
    magnitude_masks,
    n_of_m_masks,
    prunable_weights,
    random_masks,
    remove_masks,
    sparsity,
)
from secateur.envs.surgery import load_pruned, save_pruned
from support.pruning_jobs import job_of

NAMES = [name for name, system in SYSTEMS.items() if system.kind == "weights"]
OURS = ["magnitude-global", "magnitude-layer", "threshold", "random-weights", "iterative", "gradual"]
MakeJob = Callable[..., Job]


@pytest.fixture
def job(problem: PruningProblem) -> MakeJob:
    def make(target: float = 0.1, epochs: int = 1, model: nn.Module | None = None, **options: int) -> Job:
        given = job_of(problem, target, epochs=epochs, **options)
        return given if model is None else replace(given, model=model)

    return make


def _total(model: nn.Module) -> int:
    return sum(weight.numel() for weight in prunable_weights(model).values())


@pytest.mark.parametrize("name", OURS)
def test_the_share_is_reached_exactly_and_removed_weights_are_zero(name: str, job: MakeJob) -> None:
    result = SYSTEMS[name](job(0.1, 0))
    masks = keep_masks(result.model)
    kept = sum(int(mask.sum()) for mask in masks.values())
    total = _total(result.model)
    if name == "magnitude-layer":
        assert all(int(mask.sum()) == max(1, round(0.1 * mask.numel())) for mask in masks.values())
    else:
        assert kept == round(0.1 * total)
    assert sparsity(result.model) >= 1 - kept / total
    plain = remove_masks(result.model)
    assert all(not plain.get_parameter(key)[~mask].any() for key, mask in masks.items())
    assert result.epochs == 0


def test_two_of_four_keeps_two_of_each_four_and_names_the_layers_that_stay_whole(job: MakeJob) -> None:
    result = SYSTEMS["two-of-four"](job(0.5))
    masks, pattern = keep_masks(result.model), n_of_m_masks(result.model)
    for name in pattern:
        groups = masks[name].movedim(1, -1).reshape(-1, 4)
        assert (groups.sum(1) == 2).all()
    whole = result.details["whole_layers"]
    assert whole == [name for name in masks if name not in pattern]
    assert all(masks[name].all() for name in whole)
    assert "compute capability 8.0" in result.notes[0]
    assert all(name in result.notes[1] for name in whole)
    assert whole
    with pytest.raises(ValueError, match=r"the target is 0\.3, give 0\.5"):
        SYSTEMS["two-of-four"](job(0.3))


def test_the_hardwares_own_format_takes_the_masks_of_two_of_four() -> None:
    from torch.sparse import _semi_structured_conversions as conversions

    layer = nn.Linear(64, 32)
    masked = layer.weight.detach().half() * n_of_m_masks(layer)["weight"]
    values, places = conversions.sparse_semi_structured_from_dense_cutlass(masked)
    assert values.shape == (32, 32)
    assert torch.equal(conversions.sparse_semi_structured_to_dense_cutlass(values, places), masked)


def test_zeros_are_never_sold_as_speed(problem: PruningProblem) -> None:
    model = replica(problem.model)
    apply_masks(model, magnitude_masks(model, 0.4))
    said = what_zeros_save(model)
    assert "smaller, nothing faster" in said
    assert "NVIDIA" not in said


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_torch_has_masked_stay_removed_and_the_result_is_handed_back(
    name: str, job: MakeJob, problem: PruningProblem
) -> None:
    model = replica(problem.model)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        prune.l1_unstructured(layer, "weight", amount=0.3)
    before = keep_masks(model)
    target = 0.5 if name == "two-of-four" else 0.2
    result = SYSTEMS[name](job(target, model=model))
    after = keep_masks(result.model)
    assert all((before[key] >= mask).all() for key, mask in after.items())
    assert prune.is_pruned(result.model)
    for module in result.model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.remove(module, "weight")
    assert not prune.is_pruned(result.model)
    assert all(not result.model.get_parameter(key)[~mask].any() for key, mask in after.items())


def test_a_result_is_saved_as_a_small_file_and_loads_into_the_dense_network(
    job: MakeJob, problem: PruningProblem, tmp_path: Path
) -> None:
    result = SYSTEMS["magnitude-global"](job(0.05, 0))
    assert result.plan is not None
    (tmp_path / "dense").mkdir()
    save_pruned(result.model, result.plan, tmp_path)
    save_pruned(problem.model, result.plan, tmp_path / "dense")
    loaded = load_pruned(lambda: replica(problem.model), tmp_path)
    images = problem.task.batch("val", torch.arange(8))[0]
    assert torch.equal(loaded(images), result.model(images))
    small, large = (path / "model.safetensors" for path in (tmp_path, tmp_path / "dense"))
    assert small.stat().st_size < 0.2 * large.stat().st_size


def test_gradual_pruning_follows_the_schedule_and_then_leaves_the_masks_alone(
    job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, seen = job(0.1, 2), {}

    def spy(model: nn.Module, masks: dict[str, torch.Tensor]) -> None:
        seen[len(seen)] = 1 - sum(int(mask.sum()) for mask in masks.values()) / _total(model)

    monkeypatch.setattr("secateur.agent.systems.gradual.set_masks", spy)
    result = Gradual(updates=4)(given)
    steps, last, interval = (result.details[key] for key in ("steps", "last", "interval"))
    moments = [*range(interval, last, interval), last]
    assert last == round(0.5 * steps) < steps
    wanted = [cubic_sparsity(step, 0, last, 0.0, 0.9) for step in moments]
    assert list(seen.values()) == pytest.approx(wanted, abs=1e-3)


def test_random_masks_are_the_floor_that_they_should_be(job: MakeJob, problem: PruningProblem) -> None:
    found = keep_masks(SYSTEMS["random-weights"](job(0.1, 0, seed=5)).model)
    wanted = random_masks(problem.model, 0.1, 5)
    assert all(torch.equal(mask, wanted[name]) for name, mask in found.items())
