"""What happens where numbers stop being numbers: nothing goes on, and one line says where it began."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.agent.cli import main
from secateur.envs.environment.single import FilterPruningEnv
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.modules.nonfinite import explain_nonfinite, first_nonfinite
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.tasks import ClassificationTask, SplitName
from secateur.envs.tracing import trace
from secateur.rewards import Outcome, TargetReward


def test_an_example_of_undefined_numbers_is_said() -> None:
    with pytest.raises(ValueError, match=r"undefined \(NaN\); give a batch without them"):
        trace(nn.Conv2d(3, 4, 1), torch.full((2, 3, 8, 8), math.nan))


@pytest.mark.parametrize(("kind", "wrong"), [("metric", math.nan), ("loss", torch.tensor(math.inf))])
def test_a_candidate_that_is_worth_no_number_is_named(
    problem: PruningProblem, kind: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = copy.copy(problem.evaluator)
    evaluator.evaluations = 41
    monkeypatch.setattr(ClassificationTask, kind, lambda *given: wrong)
    masks = [np.ones(layer.filters, np.bool_) for layer in problem.network.layers]
    with pytest.raises(
        FloatingPointError, match=f"the {kind} of candidate 42 of demo on val is {float(wrong)}"
    ):
        evaluator([masks])


def test_a_network_that_cannot_be_looked_into_is_left_as_it_was_before_the_step() -> None:
    class FailsSecond(nn.Module):
        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            if self.passes == 2:
                raise MemoryError
            return x

    model, images = nn.Sequential(nn.BatchNorm1d(4), FailsSecond()), torch.ones(8, 4)
    before = [buffer.clone() for buffer in model.buffers()]

    def step() -> None:
        with explain_nonfinite(model, images, "step 1", "lower the learning rate"):
            model(images)
            raise FloatingPointError("the loss became nan")

    with pytest.raises(MemoryError):
        step()
    assert all(map(torch.equal, before, model.buffers()))


def test_a_reward_that_is_no_number_ends_the_episode(problem: PruningProblem) -> None:
    class Undefined(TargetReward):
        def __call__(self, outcome: Outcome) -> float:
            return math.nan

    env = FilterPruningEnv(problem, Undefined())
    env.reset(seed=0)
    for _ in problem.network.layers[1:]:
        env.step(np.ones(env.slots))
    with pytest.raises(FloatingPointError, match="the reward of a candidate of demo is nan: its accuracy is"):
        env.step(np.ones(env.slots))


def test_a_dense_network_that_answers_with_no_number_is_refused_with_the_layer(
    plain_problem: PruningProblem,
) -> None:
    model = copy.deepcopy(plain_problem.model)
    with torch.no_grad():
        model[3].weight[2, 0, 0, 0] = math.inf
    with pytest.raises(
        FloatingPointError, match=r"the loss of net, before .* is nan, first in the weights of 3"
    ):
        CandidateEvaluator(model, plain_problem.network, plain_problem.task, images=16, name="net")


@pytest.mark.parametrize("statistics_images", [0, 16])
def test_images_that_are_no_numbers_are_seen_behind_a_relu(
    plain_problem: PruningProblem, statistics_images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ClassificationTask.batch

    def damaged(
        task: ClassificationTask, split: SplitName, *chosen: Any, **how: Any
    ) -> tuple[Tensor, Tensor]:
        inputs, targets = given(task, split, *chosen, **how)
        return (inputs.index_fill(0, torch.tensor([0]), math.nan) if split == "val" else inputs), targets

    monkeypatch.setattr(ClassificationTask, "batch", damaged)
    with pytest.raises(FloatingPointError, match=r"before anything is removed, .* first in the images"):
        CandidateEvaluator(
            plain_problem.model,
            plain_problem.network,
            plain_problem.task,
            images=16,
            statistics_images=statistics_images,
        )


def test_the_first_layer_in_forward_order_is_found_and_the_network_left_as_it_was() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sqrt()

    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(Root(), nn.ReLU()), nn.Conv2d(2, 1, 1))
    assert first_nonfinite(model, torch.full((1, 1, 2, 2), math.nan)) == "first in the images"
    with torch.no_grad():
        model[0].weight.fill_(-1)
        model[0].bias.fill_(0)
    assert first_nonfinite(model, torch.ones(1, 1, 2, 2)) == "first in the output of 1.0"
    assert "are finite" in first_nonfinite(model, torch.zeros(1, 1, 2, 2))
    assert not any(module._forward_hooks for module in model.modules())


def test_the_command_line_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ClassificationTask, "loss", lambda self, outputs, targets: outputs.sum() * math.nan)
    assert main(["prune", "demo", "--dense-epochs", "1", "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the loss became nan in epoch 1, step 1 of" in line
