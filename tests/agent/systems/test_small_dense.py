"""Small dense networks: the same share of each layer, weights of their own, and a teacher if wanted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from secateur.agent.systems.base import Job
from secateur.agent.systems.small_dense import SmallDense, uniform_plan, with_random_weights
from secateur.envs.models import get_model
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.sparsity import sparsity
from secateur.envs.surgery.cutting import cut, load_pruned, save_pruned
from secateur.envs.surgery.verification import trace_exactly
from support.networks import MaskedWeights
from support.promises import difference, outputs
from support.system_jobs import CONFIG, job_of, macs_of


@pytest.mark.parametrize("target", [0.6, 0.3, 0.05])
def test_all_layers_are_narrowed_by_the_same_share(problem: PruningProblem, target: float) -> None:
    network = problem.network
    plan = uniform_plan(network, target)
    shares = plan.counts(network) / network.widths
    assert shares.max() - shares.min() <= 1.5 / network.widths.min()
    assert 0.9 < macs_of(cut(problem.model, network, plan)) / macs_of(problem.model) / target <= 1.0


def test_weights_are_new_and_those_of_the_seed(problem: PruningProblem) -> None:
    model = problem.model
    one, again, other = (with_random_weights(model, seed) for seed in (0, 0, 1))
    for (name, old), a, b, c in zip(
        model.named_parameters(), one.parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert not torch.equal(a, old)
        if old.dim() > 1:
            assert not torch.equal(a, c), name
    assert all((norm.running_mean == 0).all() for norm in one.modules() if isinstance(norm, nn.BatchNorm2d))  # type: ignore
    torch.manual_seed(0)
    expected, state = nn.Linear(64, 10), torch.get_rng_state()
    with_random_weights(model, 3)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    assert float(one.classifier.weight.std()) == pytest.approx(float(expected.weight.std()), rel=0.1)  # type: ignore


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.part = nn.Parameter(torch.ones(3)), nn.Linear(3, 3)


@pytest.mark.parametrize(("model", "name"), [(Scaled(), "scale"), (MaskedWeights(), "weight_orig")])
def test_weights_that_no_module_draws_anew_are_refused(model: nn.Module, name: str) -> None:
    with pytest.raises(ValueError, match=f"the module of '.*{name}' has no reset_parameters"):
        with_random_weights(model, 0)


def test_a_small_network_learns_and_is_rebuilt_from_its_plan(problem: PruningProblem, tmp_path: Path) -> None:
    job = replace(job_of(problem, 0.3), config=replace(CONFIG, epochs=3))
    found = {taught: SmallDense(taught=taught)(job) for taught in (False, True)}
    for result in found.values():
        assert result.plan is not None
        assert problem.task.size("val") > 0
        accuracy = measured(job, result.model)
        assert accuracy > 60
        folder = tmp_path / str(accuracy)
        folder.mkdir()
        save_pruned(result.model, result.plan, folder)
        again = load_pruned(partial(get_model, "demo", num_classes=10, in_channels=1), folder)
        x = torch.rand(3, 1, 8, 8)
        assert difference(outputs(result.model, (x,)), outputs(again, (x,))) == 0.0
    weights = [result.model.state_dict()["classifier.weight"] for result in found.values()]
    assert not torch.equal(*weights)


def measured(job: Job, model: nn.Module) -> float:
    from secateur.envs.tasks import measure

    return measure(model, job.task, "val").accuracy


def test_a_network_that_torch_has_pruned_gives_one_without_masks(problem: PruningProblem) -> None:
    model = replica(problem.model)
    prune.l1_unstructured(model.get_submodule("classifier"), "weight", amount=0.5)
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    short = replace(CONFIG, epochs=0)
    result = SmallDense(taught=False)(
        replace(job_of(problem, 0.3), model=model, network=network, config=short)
    )
    assert not prune.is_pruned(result.model)
    assert sparsity(result.model) < 0.01


def test_a_taught_network_needs_a_teacher(problem: PruningProblem) -> None:
    job = replace(job_of(problem), config=replace(CONFIG, distillation_weight=0.0))
    with pytest.raises(ValueError, match="give a distillation_weight above 0"):
        SmallDense(taught=True)(job)


def test_a_target_that_is_too_small_is_refused() -> None:
    model = get_model("demo", num_classes=10, in_channels=1)
    with pytest.raises(ValueError, match="cannot be reached"):
        uniform_plan(trace_exactly(model, torch.zeros(2, 1, 8, 8)), 1e-4)
