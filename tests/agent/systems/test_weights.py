"""Systems that prune single weights: the share is reached exactly, and zeros stay zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.run.folder import RunFolder
from secateur.agent.systems.base import Job, Result
from secateur.agent.systems.gradual import Gradual
from secateur.agent.systems.registry import SYSTEMS
from secateur.agent.systems.weights import what_zeros_save
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.checkpoint import Stopped
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
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import ClassificationTask

NAMES = [name for name, system in SYSTEMS.items() if system.kind == "weights"]
OURS = ["magnitude-global", "magnitude-layer", "threshold", "random-weights", "iterative", "gradual"]
MakeJob = Callable[..., Job]


@pytest.fixture
def job(problem: PruningProblem) -> MakeJob:
    def make(
        target: float = 0.1,
        epochs: int = 1,
        model: nn.Module | None = None,
        folder: RunFolder | None = None,
        **options: object,
    ) -> Job:
        fast = {"batch_size": 128, "precision": "fp32", "batchnorm_images": 64}
        config = PruningConfig(epochs=epochs, **(fast | options))  # type: ignore[arg-type]
        dense = problem.model if model is None else model
        return Job("demo", dense, problem.task, problem.network, target, config, folder)

    return make


def _total(model: nn.Module) -> int:
    return sum(weight.numel() for weight in prunable_weights(model).values())


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("epochs", [0, 1])
def test_the_share_is_reached_exactly_and_removed_weights_are_zero(
    name: str, epochs: int, job: MakeJob
) -> None:
    given = job(0.1, epochs)
    before = {key: value.clone() for key, value in given.model.state_dict().items()}
    result = SYSTEMS[name](given)
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
    assert all(torch.equal(before[key], value) for key, value in given.model.state_dict().items())
    assert result.epochs == epochs
    assert not result.model.training


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


@pytest.mark.parametrize("images", [128, 3])
def test_rounds_report_the_passes_that_they_have(
    images: int, job: MakeJob, digit_task: ClassificationTask
) -> None:
    splits = digit_task.splits
    few = replace(digit_task, splits={**splits, "train": splits["train"].take(torch.arange(images))})
    for epochs, rounds, spent in ((1, 1, 1), (2, 2, 2), (4, 4, 4), (6, 4, 8)):  # a step an epoch
        result = SYSTEMS["iterative"](replace(job(0.2, epochs), task=few))
        assert (result.details["rounds"], result.epochs) == (rounds, spent)


@pytest.mark.parametrize("name", ["gradual-filters", "dynamic-filters", "lottery-filters"])
def test_masks_of_filters_do_not_take_the_place_of_those_of_weights(
    name: str, job: MakeJob, problem: PruningProblem
) -> None:
    model = replica(problem.model)
    prune.l1_unstructured(model.get_submodule("classifier"), "weight", amount=0.3)
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"classifier\.weight has a mask of torch\.nn\.utils\.prune"):
        SYSTEMS[name](replace(job(0.5, model=model), network=network))


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
    steps, last, interval = (result.details[key] for key in ("steps", "last_step", "interval"))
    moments = [*range(interval, last, interval), last]
    assert last == round(0.5 * steps) < steps
    wanted = [cubic_sparsity(step, 0, last, 0.0, 0.9) for step in moments]
    assert list(seen.values()) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("name", ["magnitude-global", "iterative", "gradual"])
@pytest.mark.parametrize("moments", [[4], [6, 1]])
def test_a_system_that_was_stopped_goes_on_to_the_same_weights_bit_for_bit(
    name: str, moments: list[int], job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SYSTEMS[name](job(0.2))
    with RunFolder(tmp_path / "run", PruningConfig()) as folder:
        for moment in moments:
            calls = iter(range(1, 10**6))

            def stop(calls: object = calls, moment: int = moment) -> None:
                if next(calls) == moment:  # type: ignore[call-overload]
                    raise Stopped("now")

            monkeypatch.setattr(folder, "check", stop)
            with pytest.raises(Stopped):
                SYSTEMS[name](job(0.2, folder=folder))
        monkeypatch.undo()
        resumed = SYSTEMS[name](job(0.2, folder=folder))
    assert _same(whole, resumed)


def test_gradual_pruning_that_was_killed_goes_on_to_the_same_weights_bit_for_bit(
    job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SYSTEMS["gradual"](job(0.2))
    with RunFolder(tmp_path / "run", PruningConfig()) as folder:
        monkeypatch.setattr("secateur.envs.recovery.checkpoint.SECONDS", 0.0)
        monkeypatch.setattr(type(folder), "checkpoint", _always_due(folder))
        calls = iter(range(1, 10**6))

        def kill(*_: Progress) -> None:
            if next(calls) == 4:
                raise MemoryError  # nothing saves a state on its way

        monkeypatch.setattr(folder, "check", kill)
        with pytest.raises(MemoryError):
            SYSTEMS["gradual"](job(0.2, folder=folder))
        monkeypatch.setattr(folder, "check", lambda: None)
        resumed = SYSTEMS["gradual"](job(0.2, folder=folder))
    assert _same(whole, resumed)


def _always_due(folder: RunFolder) -> Callable[..., object]:
    from secateur.envs.recovery.checkpoint import Checkpoint

    return lambda self, name: Checkpoint(folder.path / "checkpoints" / name, seconds=0.0)


def _same(one: Result, other: Result) -> bool:
    states = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_random_masks_are_the_floor_that_they_should_be(job: MakeJob, problem: PruningProblem) -> None:
    found = keep_masks(SYSTEMS["random-weights"](job(0.1, 0, seed=5)).model)
    wanted = random_masks(problem.model, 0.1, 5)
    assert all(torch.equal(mask, wanted[name]) for name, mask in found.items())
