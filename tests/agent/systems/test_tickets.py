"""Lottery tickets: what stays begins anew with exactly the weights that it began with."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from secateur.agent.systems import tickets
from secateur.agent.systems.base import Job
from secateur.agent.systems.filter_ranking import macs_ratio
from secateur.agent.systems.tickets import FilterLottery, Lottery, Schedule
from secateur.envs.modules.copying import replica
from secateur.envs.modules.initialisation import reset_weights
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.sparsity import keep_masks, sparsity
from secateur.envs.sparsity.filters import unmasked_state
from secateur.envs.surgery.cutting import cut
from support.pruning_jobs import job_of, same


@pytest.fixture
def beginnings(monkeypatch: pytest.MonkeyPatch) -> dict[str, nn.Module]:
    """Note each network of a job as its training begins."""
    found: dict[str, nn.Module] = {}
    train_stage = tickets.train_stage

    def noted(job: Job, model: nn.Module, epochs: float, name: str, **options: Any) -> None:
        found[name] = replica(model)
        train_stage(job, model, epochs, name, **options)

    monkeypatch.setattr(tickets, "train_stage", noted)
    return found


def kept_share(model: nn.Module) -> float:
    masks = keep_masks(model).values()
    return sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def test_every_round_begins_with_the_initial_weights(
    problem: PruningProblem, beginnings: dict[str, nn.Module]
) -> None:
    job = job_of(problem, 0.1, epochs=4, seed=5)
    Lottery()(job)
    initial = replica(problem.model)
    reset_weights(initial, 5)
    assert list(beginnings) == ["round-1", "round-2", "ticket"]
    for model in beginnings.values():
        state = unmasked_state(model)
        assert all(torch.equal(state[name], tensor) for name, tensor in initial.state_dict().items())
    ticket = beginnings["ticket"]
    for name, mask in keep_masks(ticket).items():
        started = torch.where(mask, initial.get_parameter(name), 0.0)
        path, _, own = name.rpartition(".")
        assert torch.equal(getattr(ticket.get_submodule(path), own), started)


def test_each_round_keeps_the_same_share_of_the_survivors(
    problem: PruningProblem, beginnings: dict[str, nn.Module]
) -> None:
    result = Lottery()(job_of(problem, 0.1, epochs=6))
    shares = [kept_share(beginnings[name]) for name in ("round-2", "round-3", "ticket")]
    np.testing.assert_allclose(shares, [0.1 ** (1 / 3), 0.1 ** (2 / 3), 0.1], rtol=1e-3)
    np.testing.assert_allclose(result.details["share_after_each_round"], shares, rtol=1e-3)
    assert 1 - sparsity(result.model) == pytest.approx(0.1, rel=1e-3)
    inside = [keep_masks(beginnings[name]) for name in ("round-2", "round-3", "ticket")]
    for larger, smaller in itertools.pairwise(inside):
        assert all(bool((larger[name] | ~smaller[name]).all()) for name in larger)


@pytest.mark.parametrize("rewinds", [False, True])
@pytest.mark.parametrize("target", [0.9, 0.2, 0.02])
@pytest.mark.parametrize("epochs", [0, 1, 2, 10, 90])
def test_the_passes_of_all_rounds_are_those_of_the_job(
    problem: PruningProblem, epochs: int, target: float, rewinds: bool
) -> None:
    schedule = Schedule.of(job_of(problem, target, epochs=epochs), rewinds=rewinds)
    assert schedule.early + sum(schedule.rounds) == pytest.approx(epochs / 2)
    assert schedule.last == pytest.approx(epochs / 2)
    assert schedule.share(len(schedule.rounds), target) == target
    if epochs == 90:
        assert schedule.share(1, target) == pytest.approx(0.8, abs=0.11)


def test_an_early_state_is_that_of_the_training_and_the_same_for_all_rounds(
    problem: PruningProblem, beginnings: dict[str, nn.Module]
) -> None:
    job = job_of(problem, 0.3, epochs=4)
    result = Lottery(rewinds=True)(job)
    states = [unmasked_state(beginnings[name]) for name in ("early", "round-1", "ticket")]
    names = [name for name in states[0] if name.endswith("weight")]
    assert all(torch.equal(states[1][name], states[2][name]) for name in states[1])
    assert not any(torch.equal(states[0][name], states[1][name]) for name in names)
    assert result.epochs == pytest.approx(4)


def test_a_ticket_of_filters_is_the_cut_initial_network(
    problem: PruningProblem, beginnings: dict[str, nn.Module]
) -> None:
    result = FilterLottery()(job_of(problem, 0.4, epochs=4, seed=5))
    initial = replica(problem.model)
    reset_weights(initial, 5)
    assert result.plan is not None
    assert same(beginnings["ticket"], cut(initial, problem.network, result.plan))
    ratio = macs_ratio(problem.network, result.plan.masks(problem.network))
    assert 0.37 < ratio <= 0.4
    assert sum(p.numel() for p in result.model.parameters()) < sum(p.numel() for p in initial.parameters())


def test_a_network_that_torch_has_masked_begins_anew_behind_its_masks(
    problem: PruningProblem, beginnings: dict[str, nn.Module]
) -> None:
    model = replica(problem.model)
    prune.l1_unstructured(model.get_submodule("stem.0"), "weight", amount=0.5)
    job = replace(job_of(problem, 0.2, epochs=1, seed=5), model=model)
    result, initial = Lottery()(job), replica(problem.model)
    reset_weights(initial, 5)
    state = unmasked_state(beginnings["round-1"])
    assert all(torch.equal(state[name], tensor) for name, tensor in initial.state_dict().items())
    assert not any("no default" in note for note in result.notes)
    assert (keep_masks(model)["stem.0.weight"] >= keep_masks(result.model)["stem.0.weight"]).all()
    with pytest.raises(ValueError, match="write them into its weights"):
        FilterLottery()(job)


def test_parameters_that_cannot_begin_anew_are_named(problem: PruningProblem) -> None:
    model = replica(problem.model)
    model.scale = nn.Parameter(torch.ones(1))
    job = job_of(problem, 0.5, epochs=0)
    notes = Lottery()(replace(job, model=model)).notes
    assert any("1 parameter has no default" in note and "scale" in note for note in notes)
