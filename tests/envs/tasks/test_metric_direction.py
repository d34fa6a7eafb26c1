"""Metrics of which lower is better are found, and no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur import TensorTask
from secateur.envs.tasks.metric_direction import score_of_wrong_targets

torch.manual_seed(0)
INPUTS = torch.rand(60, 3)
LABELS = torch.arange(60) // 20  # sorted by class


def errors(outputs: Tensor, labels: Tensor) -> Tensor:
    return 100.0 * (outputs.argmax(1) != labels).float()


def hits(outputs: Tensor, labels: Tensor) -> Tensor:
    return 100.0 - errors(outputs, labels)


Function = Callable[[Tensor, Tensor], Tensor]


def task_of(inputs: Tensor, targets: Tensor, loss: Function, metric: Function) -> TensorTask:
    part = (inputs, targets)
    return TensorTask(train=part, val=part, test=part, loss=loss, metric=metric)


@pytest.mark.parametrize(("metric", "is_found"), [(errors, True), (hits, False)])
def test_the_error_of_a_network_that_has_learned_is_found_and_its_accuracy_is_not(
    metric: Callable[..., Tensor], is_found: bool
) -> None:
    task = task_of(4.0 * F.one_hot(LABELS).float(), LABELS, F.cross_entropy, metric)
    found = score_of_wrong_targets(nn.Identity(), task)
    assert (found is not None) == is_found
    if found is not None:
        assert found == (0.0, pytest.approx(200 / 3, abs=40))


@pytest.mark.parametrize("metric", [errors, hits])
def test_nothing_is_said_of_a_network_that_has_learned_nothing(metric: Callable[..., Tensor]) -> None:
    task = task_of(torch.zeros(60, 3), LABELS, F.cross_entropy, metric)
    assert score_of_wrong_targets(nn.Identity(), task) is None


def test_the_squared_error_as_a_metric_is_found() -> None:
    def squared(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(1)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return squared(outputs, targets).mean()

    found = score_of_wrong_targets(nn.Identity(), task_of(INPUTS, INPUTS, loss, squared))
    assert found is not None
    assert found[0] == 0.0
    negative = task_of(INPUTS, INPUTS, loss, lambda outputs, targets: -squared(outputs, targets))
    assert score_of_wrong_targets(nn.Identity(), negative) is None


def test_a_metric_that_refuses_the_targets_of_other_examples_says_nothing() -> None:
    def picky(outputs: Tensor, labels: Tensor) -> Tensor:
        if labels[0] != 0:
            raise RuntimeError("the first label is that of the first example")
        return errors(outputs, labels)

    task = task_of(4.0 * F.one_hot(LABELS).float(), LABELS, F.cross_entropy, picky)
    assert score_of_wrong_targets(nn.Identity(), task) is None
