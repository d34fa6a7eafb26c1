"""Networks in int8, whole and cut: both train for rounding, and say so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import secateur
from secateur.agent.comparison.config import ComparisonConfig
from secateur.agent.procedures.config import PruningConfig
from secateur.agent.systems.base import Job
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.quantization import load_ranges, ranges_of
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network

CONFIG = PruningConfig(epochs=2, compensation_images=128, search_images=32)


def job(task: ClassificationTask, model: nn.Module, target: float = 0.5) -> Job:
    return Job("plain", model, task, trace_exactly(model, torch.zeros(2, 1, 8, 8)), target, CONFIG)


def test_the_whole_network_in_int8_keeps_all_filters_and_has_ranges(digit_task: ClassificationTask) -> None:
    result = SYSTEMS["int8"](job(digit_task, plain_network()))
    assert result.plan is not None
    assert result.plan.kept["0"] == tuple(range(10))
    assert set(ranges_of(result.model)) == {"0", "3", "8"}


def test_a_comparison_measures_int8_and_writes_a_network_that_loads(
    digit_task: ClassificationTask, tmp_path: Path
) -> None:
    secateur.compare(
        plain_network(), digit_task, methods=("int8", "l2-uniform"), epochs=1, out=tmp_path / "out",
        compensation_images=128,
    )  # fmt: skip
    reports = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("report.json")]
    of = {report["system"]["name"]: report for report in reports}
    found = of["int8"]
    assert not found["system"]["not_loadable"]
    assert found["pruned"]["file_bytes"] < 0.5 * found["dense"]["file_bytes"]
    (ranges,) = [load_ranges(path.parent) for path in (tmp_path / "out").rglob("int8.json")]
    assert ranges is not None
    assert set(ranges) == {"0", "3", "8"}


@pytest.mark.parametrize("method", ["int8", "fpgm-int8"])
def test_the_notes_name_the_layers_that_stay_in_float(method: str, digit_task: ClassificationTask) -> None:
    class Own(nn.Conv2d):
        pass

    model = plain_network()
    model[3].__class__ = Own
    weight_norm(model[8])
    result = SYSTEMS[method](job(digit_task, model, 0.9))
    assert set(ranges_of(result.model)) == {"0", "8"}
    (said,) = [note for note in result.notes if "in float" in note]
    assert said.startswith("1 layer stays in float (3): ")


def test_a_comparison_of_all_systems_in_int8_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="leave out quantize, and give methods"):
        ComparisonConfig(quantize="int8")


def test_the_agent_in_int8_lets_its_finalists_recover_rounded_within_the_passes(
    digit_task: ClassificationTask,
) -> None:
    work = job(digit_task, plain_network())
    work = dataclasses.replace(work, config=dataclasses.replace(CONFIG, effort="quick", batch_size=64))
    result = SYSTEMS["agent-int8"](work)
    assert SYSTEMS["agent-int8"].kind == "int8"
    assert result.details["search"]["finalists"]["rungs"]
    assert result.epochs <= 2.5
    assert ranges_of(result.model)
    assert result.stored is not None
    assert not ranges_of(result.stored)
