"""What the evaluator promises: fast, and the truth about a cut network.

Shapes: N filters of a layer.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.envs.cost.config import LatencyConfig
from secateur.envs.environment.single import FilterPruningEnv
from secateur.envs.evaluation import workload
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import Mask, PruningPlan
from secateur.envs.tasks import Task, measure
from secateur.rewards import Outcome, TargetReward
from support.candidates import candidate, fresh_evaluator

ROOM = "secateur.envs.evaluation"


def everything(problem: PruningProblem) -> list[Mask]:
    return [np.ones(layer.filters, np.bool_) for layer in problem.network.layers]


def cut_in_float32(problem: PruningProblem, masks: list[Mask]) -> nn.Module:
    return cut(problem.model, problem.network, PruningPlan.from_masks(problem.network, masks)).eval()


@torch.no_grad()
def take_statistics(model: nn.Module, evaluator: CandidateEvaluator) -> None:
    """Take batch-norm statistics from the images that the evaluator takes them from."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for piece in evaluator.bench.candidates.statistics_images:
        model(piece.float())
    model.eval()


def test_a_result_does_not_depend_on_what_was_evaluated_before_or_beside_it(problem: PruningProblem) -> None:
    candidates = [candidate(problem, keep, seed) for seed, keep in enumerate((0.2, 0.9, 0.5, 0.7))]
    alone = [problem.evaluator([masks])[0] for masks in candidates]
    assert problem.evaluator(candidates) == alone
    assert problem.evaluator(candidates[::-1]) == alone[::-1]
    assert fresh_evaluator(problem)(candidates[2:3]) == alone[2:3]
    assert len(set(alone)) == 4


def test_who_looks_further_sees_all_of_val_in_parts_and_then_the_first_again(problem: PruningProblem) -> None:
    size = problem.task.size("val")
    evaluator = CandidateEvaluator(problem.model, problem.network, problem.task, images=size // 3)
    seen, found, dense = [], [], []
    for _ in range(4):
        seen.append({piece.numpy().tobytes() for piece in torch.cat(evaluator.bench.pieces).float()})
        found.append(evaluator([candidate(problem, 0.5)])[0])
        dense.append(evaluator.dense)
        evaluator.next_val_subset()
    assert seen[0] == seen[3]
    assert len(seen[0] | seen[1] | seen[2]) == sum(map(len, seen[:3])) == 3 * (size // 3)
    assert found[0] == found[3]
    assert len({outcome.loss for outcome in found}) == 3
    assert [one.dense_loss for one in found] == [one.loss for one in dense]
    assert len({one.loss for one in dense}) == 3


def test_the_given_dense_network_is_measured_on_the_same_images(problem: PruningProblem) -> None:
    other = copy.deepcopy(problem.model)
    with torch.no_grad():
        next(other.parameters()).mul_(-1)
    reference = CandidateEvaluator(problem.model, problem.network, problem.task, images=64)
    evaluator = CandidateEvaluator(other, problem.network, problem.task, images=64, dense=reference)
    truth = CandidateEvaluator(problem.model, problem.network, problem.task, images=64)
    for _ in range(3):
        evaluator.next_val_subset()
        truth.next_val_subset()
        assert evaluator.dense == truth.dense


def test_whoever_looks_at_other_images_for_a_while_is_back_at_the_first_afterwards(
    problem: PruningProblem,
) -> None:
    evaluator = CandidateEvaluator(problem.model, problem.network, problem.task, images=64)
    masks = candidate(problem, 0.5)
    first = evaluator([masks])
    with evaluator.at_val_subset(2):
        assert evaluator([masks]) != first
        evaluator.next_val_subset()
    assert evaluator([masks]) == first


def test_comparing_with_a_dense_network_leaves_the_images_that_it_looks_at(problem: PruningProblem) -> None:
    dense = CandidateEvaluator(problem.model, problem.network, problem.task, images=64)
    before = dense([candidate(problem, 0.5)])
    evaluator = CandidateEvaluator(problem.model, problem.network, problem.task, images=64, dense=dense)
    evaluator.next_val_subset()
    assert dense([candidate(problem, 0.5)]) == before


def test_a_recording_that_fails_leaves_the_dense_statistics(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where a network that looks at numbers on its way cannot be recorded."""
    bare = fresh_evaluator(problem).dense

    def fails(work: Callable[..., object], *examples: Tensor) -> None:
        work(*(10 * example for example in examples))

    monkeypatch.setattr("secateur.envs.evaluation.candidate_network.capture_graph", fails)
    evaluator = fresh_evaluator(problem)
    assert evaluator.dense == bare


def test_a_val_that_is_looked_at_as_a_whole_has_no_further_images(problem: PruningProblem) -> None:
    evaluator = CandidateEvaluator(problem.model, problem.network, problem.task, images=10_000)
    before = evaluator([candidate(problem, 0.5)])
    evaluator.next_val_subset()
    assert evaluator([candidate(problem, 0.5)]) == before


@pytest.mark.parametrize("keep", [0.4, 0.6, 0.8])
def test_it_agrees_with_the_physical_cut_in_float32(problem: PruningProblem, keep: float) -> None:
    masks = candidate(problem, keep, seed=int(10 * keep))
    smaller = problem.cut(PruningPlan.from_masks(problem.network, masks)).eval()
    take_statistics(smaller, problem.evaluator)
    truth = measure(smaller, problem.task, "val", limit=256)
    found = problem.evaluator([masks])[0]
    assert found.accuracy == pytest.approx(truth.accuracy, abs=2)  # near ties fall otherwise in bfloat16
    assert found.loss == pytest.approx(truth.loss, rel=0.02)


def test_in_float32_it_agrees_with_the_bare_cut_exactly(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{ROOM}.candidate_network.working_dtype", lambda device: torch.float32)
    evaluator = CandidateEvaluator(
        problem.model, problem.network, problem.task, images=100, statistics_images=100
    )
    for seed in range(3):
        masks = candidate(problem, 0.5, seed)
        smaller = cut_in_float32(problem, masks)
        take_statistics(smaller, evaluator)
        truth = measure(smaller, problem.task, "val", limit=100)
        found = evaluator([masks])[0]
        assert found.accuracy == truth.accuracy
        assert found.loss == pytest.approx(truth.loss, rel=1e-4)


def test_in_float32_it_agrees_with_the_cut_and_its_compensation_exactly(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{ROOM}.candidate_network.working_dtype", lambda device: torch.float32)
    evaluator = problem.choice_problem(100).evaluator
    for seed in range(3):
        masks = candidate(problem, 0.4, seed)
        smaller = problem.cut(PruningPlan.from_masks(problem.network, masks)).eval()
        take_statistics(smaller, evaluator)
        truth = measure(smaller, problem.task, "val", limit=100)
        found = evaluator([masks])[0]
        assert found.accuracy == truth.accuracy
        assert found.loss == pytest.approx(truth.loss, rel=1e-4)
        assert found.loss < evaluator_without(problem)([masks])[0].loss


def evaluator_without(problem: PruningProblem) -> CandidateEvaluator:
    """Measure as for a choice, but let removed channels just go."""
    return CandidateEvaluator(problem.model, problem.network, problem.task, images=100, statistics_images=512)


def test_without_images_for_statistics_the_dense_ones_stay(problem: PruningProblem) -> None:
    evaluator = CandidateEvaluator(
        problem.model, problem.network, problem.task, images=256, statistics_images=0
    )
    masks = candidate(problem, 0.8)
    truth = measure(cut_in_float32(problem, masks), problem.task, "val", limit=256)
    assert evaluator([masks])[0].loss == pytest.approx(truth.loss, rel=0.02)
    dense = measure(problem.model, problem.task, "val", limit=256)
    assert evaluator.dense.accuracy == pytest.approx(dense.accuracy, abs=1)
    assert evaluator.dense.loss == pytest.approx(dense.loss, rel=0.02)


def test_the_dense_model_that_is_given_is_not_touched(problem: PruningProblem) -> None:
    modes = [module.training for module in problem.model.modules()]
    before = {name: tensor.clone() for name, tensor in problem.model.state_dict().items()}
    momenta = [m.momentum for m in problem.model.modules() if isinstance(m, _BatchNorm)]
    CandidateEvaluator(problem.model, problem.network, problem.task, images=50)([candidate(problem, 0.5)])
    after = problem.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {tensor.dtype for tensor in problem.model.parameters()} == {torch.float32}
    assert [module.training for module in problem.model.modules()] == modes
    assert [m.momentum for m in problem.model.modules() if isinstance(m, _BatchNorm)] == momenta


def test_keeping_everything_is_the_dense_network(problem: PruningProblem) -> None:
    evaluator = problem.evaluator
    evaluator([candidate(problem, 0.3)])
    found = evaluator([everything(problem)])[0]
    dense = evaluator.dense
    same = (dense.accuracy, dense.accuracy, dense.loss, dense.loss)
    assert found == Outcome(*same, dense.constant_prediction_loss, 1.0, 1.0, 1.0)
    assert found.accuracy_drop == 0
    assert found.excess_loss == 0


def test_who_does_not_look_at_the_images_does_little_worse_than_guessing(problem: PruningProblem) -> None:
    dense, guessing = problem.evaluator.dense, np.log(problem.task.num_outputs)
    assert dense.loss < 0.5
    assert 0.95 * guessing < dense.constant_prediction_loss < 1.5 * guessing


def test_candidates_of_the_same_counts_are_told_apart_by_which_filters_they_keep(
    problem: PruningProblem,
) -> None:
    masks = candidate(problem, 0.5)
    other = [mask[::-1].copy() for mask in masks]
    one, two = problem.evaluator([masks, other])
    assert one.macs_ratio == two.macs_ratio
    assert one.loss != two.loss


def test_sizes_are_those_of_the_cut_network(problem: PruningProblem) -> None:
    masks = candidate(problem, 0.5)
    smaller = cut_in_float32(problem, masks)
    found = problem.evaluator([masks])[0]
    params = [sum(p.numel() for p in model.parameters()) for model in (smaller, problem.model)]
    assert found.params_ratio == pytest.approx(params[0] / params[1])
    assert found.filters_ratio == sum(mask.sum() for mask in masks) / problem.network.widths.sum()
    assert 0 < found.macs_ratio < 1


@pytest.mark.usefixtures("without_clock")
def test_an_episode_is_paid_by_its_latency(plain_problem: PruningProblem) -> None:
    timed = PruningProblem.build(
        "plain",
        plain_problem.model,
        plain_problem.task,
        images=16,
        statistics_images=16,
        latency=LatencyConfig(),
    )
    env = FilterPruningEnv(timed, TargetReward(0.5, "latency"))
    env.reset(seed=0)
    rewards = [env.step(np.ones(env.slots))[1] for _ in timed.network.layers]
    assert rewards[-1] < 0  # nothing was removed, so the latency is far above its target


def test_an_outcome_has_a_latency_where_the_network_has_one(plain_problem: PruningProblem) -> None:
    assert plain_problem.evaluator([everything(plain_problem)])[0].latency_ratio is None
    network = dataclasses.replace(plain_problem.network, latency=plain_problem.network.params)
    evaluator = CandidateEvaluator(plain_problem.model, network, plain_problem.task, images=16)
    outcome = evaluator([candidate(plain_problem, 0.3)])[0]
    assert outcome.latency_ratio == outcome.params_ratio


def test_candidates_that_are_all_the_same_are_worth_the_same(problem: PruningProblem) -> None:
    masks = candidate(problem, 0.5)
    assert problem.evaluator([masks] * 3) == 3 * problem.evaluator([masks])


def test_every_candidate_is_counted(problem: PruningProblem) -> None:
    before = problem.evaluator.evaluations
    problem.evaluator([candidate(problem, 0.5)] * 3)
    assert problem.evaluator.evaluations == before + 3


def test_the_seed_chooses_the_images_for_statistics(problem: PruningProblem) -> None:
    masks = candidate(problem, 0.5)
    results = [
        CandidateEvaluator(
            problem.model, problem.network, problem.task, images=64, statistics_images=32, seed=s
        )([masks])[0].loss
        for s in (0, 0, 1)
    ]
    assert results[0] == results[1] != results[2]


class Noted:
    """A task that notes the predictions that are measured."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.predictions: list[torch.Tensor] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._task, name)

    def statistics(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.predictions.append(outputs.argmax(1))
        return self._task.statistics(outputs, targets)


@pytest.mark.parametrize("keep", [0.6, 0.8, 0.95])
def test_its_predictions_are_those_of_the_physical_cut(
    problem: PruningProblem, keep: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{ROOM}.candidate_network.working_dtype", lambda device: torch.float32)
    task = Noted(problem.task)
    evaluator = CandidateEvaluator(problem.model, problem.network, cast(Task, task), images=256)
    masks = candidate(problem, keep)
    task.predictions.clear()
    evaluator([masks])
    smaller = cut_in_float32(problem, masks)
    take_statistics(smaller, evaluator)
    with torch.no_grad():
        truth = torch.cat([smaller(piece).argmax(1) for piece in evaluator.bench.pieces])
    assert (torch.cat(task.predictions) == truth).float().mean() >= 0.995


@pytest.mark.parametrize(("vector", "widths"), [(16, (8, 8, 16, 32)), (8, (8, 8, 16, 24))])
def test_a_candidate_is_computed_at_widths_that_kernels_are_made_for(
    problem: PruningProblem, vector: int, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{ROOM}.candidate_network._VECTOR", vector)
    masks = everything(problem)
    for kept, width in zip((1, 8, 9, 17), widths, strict=True):
        masks[0] = np.arange(len(masks[0])) >= len(masks[0]) - kept
        network = problem.evaluator.bench.candidates.cut(masks)
        name = problem.network.layers[0].producers[0]
        assert len(network.get_submodule(name).weight) == width


def test_fewer_images_are_held_if_they_are_large(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = problem.task.batch("val", torch.arange(1))[0]
    monkeypatch.setattr(workload, "_MOST_BYTES", {"cpu": 10 * example.nbytes + 1})
    evaluator = CandidateEvaluator(problem.model, problem.network, problem.task, images=64)
    assert evaluator.dense.images == 10
    assert sum(map(len, evaluator.bench.candidates.statistics_images)) == 10
