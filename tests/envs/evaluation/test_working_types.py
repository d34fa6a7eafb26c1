"""Candidates are computed in bfloat16 where the device is made for it, and agree with those in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, weight_norm

from secateur.envs.evaluation import candidate_network
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network


@pytest.mark.parametrize("reparametrise", [nn.Sequential, orthogonal, weight_norm, nn.utils.spectral_norm])
def test_weights_that_are_computed_from_others_are_measured_in_either_type(
    digit_task: ClassificationTask,
    reparametrise: Callable[[nn.Module], nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = plain_network()
    model[8] = reparametrise(model[8])
    network = PruningProblem.build("plain", model.eval(), digit_task).network
    everything = PruningPlan.dense(network).masks(network)
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(candidate_network, "working_dtype", lambda device, dtype=dtype: dtype)
        losses.append(CandidateEvaluator(model, network, digit_task, images=100)([everything])[0].loss)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
