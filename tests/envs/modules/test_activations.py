"""What a forward pass takes is foreseen without taking it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.models import get_model
from secateur.envs.modules import activations
from secateur.envs.modules.activations import require_memory_for


@pytest.fixture
def needed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record what memory is asked for."""
    asked: list[int] = []
    monkeypatch.setattr(activations, "require_memory", lambda count, *_: asked.append(count))
    return asked


def test_the_largest_operation_counts(needed: list[int]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 50, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    require_memory_for(model, (3, 10, 10), 4, "")
    assert needed == [2 * 4 * 50 * 100 * 4]  # the input and output of the ReLU, float32


def test_it_takes_no_memory_and_changes_nothing(needed: list[int]) -> None:
    model = get_model("demo", num_classes=10, in_channels=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    require_memory_for(model, (1, 100_000, 100_000), 100, "")
    assert needed[0] > 100 * 100_000**2 * 4
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Counting(nn.Module):
    """Keep what it has seen, and read a value."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x * x.sum().item()


def test_a_network_that_does_not_run_without_numbers_is_known_by_its_input(needed: list[int]) -> None:
    model = Counting()
    require_memory_for(model, (3, 4, 4), 2, "")
    assert needed[0] >= 2 * 3 * 4 * 4 * 4
    assert not hasattr(model, "seen")


def test_what_does_not_fit_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.envs.io.memory.available_memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"activations of 2 inputs of 3x9x9 need .*: give a smaller one"):
        require_memory_for(nn.Conv2d(3, 3, 3), (3, 9, 9), 2, "give a smaller one")
