"""Small dense networks: the same share of each layer, weights of their own, and a teacher if wanted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur.agent.systems.small_dense import SmallDense, uniform_plan, with_random_weights
from secateur.envs.models import get_model
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import measure
from support.networks import MaskedWeights
from support.promises import macs_of
from support.pruning_jobs import DIGIT, job_of, same


@pytest.mark.parametrize("target", [0.6, 0.3, 0.05])
def test_all_layers_are_narrowed_by_the_same_share(problem: PruningProblem, target: float) -> None:
    network = problem.network
    plan = uniform_plan(network, target)
    shares = plan.counts(network) / network.widths
    assert shares.max() - shares.min() <= 1.5 / network.widths.min()
    assert (
        0.9
        < macs_of(cut(problem.model, network, plan), DIGIT) / macs_of(problem.model, DIGIT) / target
        <= 1.0
    )


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


def test_a_small_network_learns(problem: PruningProblem) -> None:
    job = replace(job_of(problem, 0.3, epochs=3), task=problem.task)
    assert measure(SmallDense(taught=False)(job).model, job.task, "val").accuracy > 60


def test_a_teacher_changes_what_is_learned_and_not_the_network(problem: PruningProblem) -> None:
    untaught, taught = (SmallDense(taught=is_taught)(job_of(problem, 0.3)) for is_taught in (False, True))
    assert untaught.plan == taught.plan
    assert not same(untaught.model, taught.model)


def test_a_taught_network_needs_a_teacher(problem: PruningProblem) -> None:
    job = job_of(problem, 0.5, distillation_weight=0.0)
    with pytest.raises(ValueError, match="give a distillation_weight above 0"):
        SmallDense(taught=True)(job)


def test_a_target_that_is_too_small_is_refused() -> None:
    model = get_model("demo", num_classes=10, in_channels=1)
    with pytest.raises(ValueError, match="cannot be reached"):
        uniform_plan(trace_exactly(model, torch.zeros(2, 1, 8, 8)), 1e-4)
