"""What a GPU promises of candidates: recorded once and replayed, they are measured as their cuts are."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.envs.environment.demo import demo_problem
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask, PruningPlan
from secateur.envs.tasks import ClassificationTask, get_task, measure
from secateur.envs.tracing import TracedNetwork

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.fixture(scope="module")
def digits() -> ClassificationTask:
    return get_task("digits", root=Path()).to("cuda")


@pytest.fixture(scope="module")
def on_gpu(digits: ClassificationTask) -> PruningProblem:
    model = copy.deepcopy(demo_problem().model).to("cuda")  # other tests use the cached one
    return PruningProblem.build("demo on a GPU", model, digits, images=256, statistics_images=256)


def candidates(network: TracedNetwork, count: int) -> list[list[Mask]]:
    drawn = np.random.default_rng(0)
    found = [
        [drawn.random(layer.filters) < keep for layer in network.layers]
        for keep in np.linspace(0.3, 0.9, count)
    ]
    for masks in found:
        for mask in masks:
            mask[0] = True
    return found


def test_candidates_are_replayed_and_as_good_as_their_physical_cut(on_gpu: PruningProblem) -> None:
    assert not on_gpu.evaluator.bench.candidates.shares
    for masks in candidates(on_gpu.network, 4):
        evaluator = on_gpu.evaluator
        smaller = on_gpu.cut(PruningPlan.from_masks(on_gpu.network, masks)).eval()
        with torch.no_grad():
            evaluator.bench.candidates._take_statistics(
                smaller, evaluator.bench.candidates.statistics_images, repeat(nullcontext())
            )
        truth = measure(smaller, on_gpu.task, "val", limit=256)
        found = evaluator([masks])[0]
        assert found.accuracy == pytest.approx(truth.accuracy, abs=2)  # near ties fall otherwise in bfloat16
        assert found.loss == pytest.approx(truth.loss, rel=0.05)


def test_a_replayed_result_does_not_depend_on_what_was_run_before(on_gpu: PruningProblem) -> None:
    asked = candidates(on_gpu.network, 5)
    together = on_gpu.evaluator(asked)
    assert on_gpu.evaluator(asked[::-1]) == together[::-1]
    assert [on_gpu.evaluator([masks])[0] for masks in asked] == together
    assert len({outcome.loss for outcome in together}) == 5


def test_replays_measure_what_launches_do(on_gpu: PruningProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = candidates(on_gpu.network, 4)
    replayed = on_gpu.choice_problem(200).evaluator(asked)
    monkeypatch.setattr("secateur.envs.evaluation.candidate_network.capture_graph", lambda *_: None)
    launched = on_gpu.choice_problem(200)
    assert launched.evaluator.bench.candidates.shares
    for one, other in zip(replayed, launched.evaluator(asked), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=0.02)
        assert one.accuracy == pytest.approx(other.accuracy, abs=2)


def test_who_looks_further_replays_on_other_images(on_gpu: PruningProblem) -> None:
    evaluator = CandidateEvaluator(on_gpu.model, on_gpu.network, on_gpu.task, images=100)
    (asked,) = candidates(on_gpu.network, 1)
    parts = on_gpu.task.size("val") // 100
    found = []
    for _ in range(parts + 1):
        found.append(evaluator([asked])[0])
        evaluator.next_val_subset()
    assert found[0] == found[-1]
    assert len({outcome.loss for outcome in found}) == parts


def test_a_candidate_of_a_network_that_cannot_be_recorded_is_cut(
    on_gpu: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asked,) = candidates(on_gpu.network, 1)
    before = on_gpu.evaluator([asked])[0]
    forward = type(on_gpu.model).forward

    def curious(self: nn.Module, inputs: Tensor) -> Tensor:
        outputs = forward(self, inputs)
        return outputs * 2 if outputs.sum().item() > 1e9 else outputs

    monkeypatch.setattr(type(on_gpu.model), "forward", curious)
    evaluator = CandidateEvaluator(
        on_gpu.model,
        on_gpu.network,
        on_gpu.task,
        images=256,
        statistics_images=256,
        compensation=on_gpu.compensation,
    )
    assert evaluator.bench.candidates.shares
    assert evaluator([asked])[0].loss == pytest.approx(before.loss, rel=0.02)
