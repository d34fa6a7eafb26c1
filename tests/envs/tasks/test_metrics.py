"""What metrics of one's own tasks promise: batches add up to scikit-learn's figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, r2_score

from secateur.envs.tasks import R2, MacroF1
from secateur.envs.tasks.metrics import Average


@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_r2_adds_up_to_scikit_learns(pieces: int) -> None:
    generator = torch.Generator().manual_seed(0)
    true = 5 + torch.randn(70, 3, generator=generator).double()
    found = true + torch.tensor([0.1, 0.5, 2.0]) * torch.randn(70, 3, generator=generator)
    parts = zip(found.chunk(pieces), true.chunk(pieces), strict=True)
    total = torch.stack([R2().statistics(f, t) for f, t in parts]).sum(0)
    assert R2().value(total) == pytest.approx(100 * r2_score(true, found), rel=1e-6)
    each = 100 * r2_score(true, found, multioutput="raw_values")
    assert list(R2().details(total).values()) == pytest.approx(list(each), rel=1e-6)


def test_r2_of_equal_targets_is_undefined_and_said_to_be_nothing() -> None:
    total = R2().statistics(torch.randn(8, 1), torch.full((8, 1), 0.3))
    assert R2().value(total) == 0.0


@pytest.mark.parametrize("pieces", [1, 4])
def test_macro_f1_adds_up_to_scikit_learns(pieces: int) -> None:
    generator = np.random.default_rng(0)
    true = torch.from_numpy(generator.integers(0, 2, (60, 4))).float()
    found = true - 0.5 + torch.from_numpy(generator.normal(size=(60, 4))).float()
    parts = zip(found.chunk(pieces), true.chunk(pieces), strict=True)
    total = torch.stack([MacroF1().statistics(f, t) for f, t in parts]).sum(0)
    expected = 100 * f1_score(true.numpy(), (found > 0).numpy(), average="macro")
    assert MacroF1().value(total) == pytest.approx(expected)


def test_a_label_that_is_nowhere_has_no_score() -> None:
    true = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    total = MacroF1().statistics(true - 0.5, true)
    assert MacroF1().details(total) == {"0": 100.0, "1": None}
    assert MacroF1().value(total) == 100.0


@pytest.mark.parametrize("whole", [False, True])
def test_a_bool_counts_as_nothing_or_all(whole: bool) -> None:
    def right(outputs: torch.Tensor, targets: torch.Tensor) -> Any:
        found = outputs.argmax(1) == targets
        return found.all() if whole else found

    metric = Average(right)
    outputs, targets = torch.eye(4), torch.tensor([0, 1, 2, 0])
    assert metric.value(metric.statistics(outputs, targets)) == (0.0 if whole else 75.0)
