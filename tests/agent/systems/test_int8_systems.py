"""Networks in int8, whole and cut: both train for rounding, and say so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.systems.base import Job
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.quantization import ranges_of
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network

CONFIG = PruningConfig(epochs=2, compensation_images=128, search_images=32)


def job(task: ClassificationTask, model: nn.Module, target: float = 0.5) -> Job:
    return Job("plain", model, task, trace_exactly(model, torch.zeros(2, 1, 8, 8)), target, CONFIG)


def test_the_whole_network_in_int8_keeps_all_filters_and_has_ranges(digit_task: ClassificationTask) -> None:
    model = plain_network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = SYSTEMS["int8"](job(digit_task, model))
    assert SYSTEMS["int8"].kind == "int8"
    assert result.plan is not None
    assert result.plan.kept["0"] == tuple(range(10))
    assert set(ranges_of(result.model)) == {"0", "3", "8"}
    assert result.epochs == 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert result.details["val_accuracy_int8"] == pytest.approx(result.details["val_accuracy_float"], abs=5)


def test_a_cut_network_in_int8_has_the_size_that_was_asked_for(digit_task: ClassificationTask) -> None:
    work = job(digit_task, plain_network(), 0.5)
    one, other = (SYSTEMS["fpgm-int8"](work) for _ in range(2))
    assert one.plan is not None
    kept = [len(filters) for filters in one.plan.kept.values()]
    assert work.network.macs(kept) <= 0.5 * work.network.macs(work.network.widths)
    assert len(one.model.get_parameter("0.weight")) == kept[0]
    assert ranges_of(one.model)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
