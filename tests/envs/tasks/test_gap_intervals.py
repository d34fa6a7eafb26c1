"""The interval of a difference between two sets of examples holds the truth as often as it says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.envs.tasks import Accuracy, Measurement, TensorTask
from secateur.envs.tasks.intervals import gap_interval


def task_of(metric: object) -> TensorTask:
    few = (torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))
    return TensorTask(train=few, val=few, test=few, loss=F.cross_entropy, metric=metric)  # type: ignore[arg-type]


def measured(scores: Tensor) -> Measurement:
    """Say how a network was measured that has these scores in [0, 1] on the examples."""
    statistics = torch.stack([scores.double(), torch.ones(len(scores)).double()], 1)
    return Measurement(100 * float(scores.double().mean()), 0.0, len(scores), example_statistics=statistics)


@pytest.mark.parametrize(("first", "second", "sizes"), [(0.95, 0.9, (80, 120)), (1.0, 0.9, (40, 40))])
def test_of_right_and_wrong_answers(first: float, second: float, sizes: tuple[int, int]) -> None:
    generator, task, held = torch.Generator().manual_seed(0), task_of(Accuracy()), 0
    for _ in range(400):
        drawn = [torch.rand(n, generator=generator) < p for n, p in zip(sizes, (first, second), strict=True)]
        found = gap_interval(task, *map(measured, drawn), 0.9)
        assert found is not None
        held += found[0] <= 100 * (first - second) <= found[1]
    assert held / 400 >= 0.87


def test_of_scores_between_0_and_1() -> None:
    class Score(Accuracy):
        def value(self, statistics: Tensor) -> float:
            total, count = statistics.tolist()
            return 100.0 * total / count

    generator, task, held = torch.Generator().manual_seed(0), task_of(Score()), 0
    for _ in range(60):
        drawn = [torch.rand(n, generator=generator) ** power for n, power in ((60, 1), (90, 2))]
        found = gap_interval(task, *map(measured, drawn), 0.8)
        assert found is not None
        held += found[0] <= 100 * (1 / 2 - 1 / 3) <= found[1]
    assert 0.65 <= held / 60 <= 0.95


def test_a_single_example_decides_nothing() -> None:
    one, many = measured(torch.ones(1)), measured(torch.zeros(50))
    assert gap_interval(task_of(Accuracy()), one, many) is None
