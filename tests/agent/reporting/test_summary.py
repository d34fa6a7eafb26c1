"""The numbers of a report agree with each other, with the files of the run, and with what was measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.prune import random_unstructured

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.procedures.prune import PruningResult, prune
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.cutting import file_bytes, save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.tasks import ClassificationTask, measure
from secateur.envs.tasks.measuring import class_accuracies
from secateur.envs.tracing import trace
from support.small import plain_network

CONFIG = PruningConfig(method="l2-uniform", epochs=0, search_images=64)


@pytest.fixture(scope="module")
def result(problem: PruningProblem) -> PruningResult:
    return prune(problem.model, problem.task, CONFIG)


@pytest.fixture
def report(result: PruningResult) -> dict[str, Any]:
    return result.report


def test_the_accuracies_of_the_classes_are_that_of_all(
    report: dict[str, Any], problem: PruningProblem
) -> None:
    task = problem.task
    assert [row["name"] for row in report["details"]] == report["classes"] == [str(k) for k in range(10)]
    _, labels = task.batch("test", torch.arange(task.size("test")))
    shares = torch.bincount(labels.cpu(), minlength=10) / len(labels)
    for key in ("dense", "pruned"):
        weighted = sum(row[key] * float(share) for row, share in zip(report["details"], shares, strict=True))
        assert weighted == pytest.approx(report[key]["accuracy"], abs=1e-3)


def test_a_class_without_examples_has_no_accuracy(digit_task: ClassificationTask) -> None:
    part = digit_task.splits["test"]
    keep = (part.targets != 3).nonzero().flatten()
    task = dataclasses.replace(digit_task, splits={**digit_task.splits, "test": part.take(keep)})
    found = class_accuracies(task, measure(plain_network(), task, "test", by_example=True))
    assert [name for name, value in found.items() if value is None] == ["3"]
    assert class_accuracies(task, measure(plain_network(), task, "test")) == {}


def test_the_size_of_the_file_is_that_of_the_file(result: PruningResult, tmp_path: Path) -> None:
    save_pruned(result.model, result.plan, tmp_path)
    written = (tmp_path / "model.safetensors").stat().st_size
    assert result.report["pruned"]["file_bytes"] == written
    assert file_bytes(nn.Conv2d(1, 1, 1)) < 300


def test_the_dense_network_is_weighed_as_its_file(tmp_path: Path) -> None:
    masked, normed = plain_network(), plain_network()
    layer = next(module for module in masked.modules() if isinstance(module, nn.Conv2d))
    random_unstructured(layer, "weight", 0.6)
    layer = next(module for module in normed.modules() if isinstance(module, nn.Conv2d))
    weight_norm(layer)
    for number, model in enumerate((plain_network(), masked, normed, plain_network().to(torch.bfloat16))):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_pruned(model, PruningPlan.dense(trace(plain_network(), torch.zeros(2, 1, 8, 8))), folder)
        assert file_bytes(model) == (folder / "model.safetensors").stat().st_size


def test_speed_is_measured_with_its_spread(report: dict[str, Any]) -> None:
    for row in (report["dense"], report["pruned"]):
        for key in ("latency", "images_per_second"):
            median = row["latency_ms" if key == "latency" else key]
            low, high = row["latency_spread_ms" if key == "latency" else f"{key}_spread"]
            assert 0 < low <= median <= high
    for key, ratio in report["ratios"].items():
        assert ratio == pytest.approx(report["pruned"][key] / report["dense"][key])
    assert report["throughput"]["batch"] == 128
    assert {type(report[what]["busy"]) for what in ("latency", "throughput")} == {bool}


def test_how_inputs_are_prepared_is_in_the_report(report: dict[str, Any], problem: PruningProblem) -> None:
    task = problem.task
    assert report["normalisation"] == {"mean": list(task.mean), "std": list(task.std)}  # type: ignore[attr-defined]

    class Augmented(type(task)):  # type: ignore[misc]
        augmentation = "flips"

    flipping = Augmented(**{field.name: getattr(task, field.name) for field in dataclasses.fields(task)})  # type: ignore[arg-type]
    assert prune(problem.model, flipping, CONFIG).report["augmentation"] == "flips"
