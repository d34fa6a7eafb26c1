"""What compilation promises: the same network, faster, or the network itself and a word on why not."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.modules.compilation import compiled_for_training
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import get_task


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 10)
    )


def tensors(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def test_a_network_that_cannot_be_compiled_runs_as_it_is_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(model: nn.Module, **options: Any) -> Any:
        raise RuntimeError("no compiler\nwas found")

    monkeypatch.setattr(torch, "compile", fails)
    model = small().train()
    said = r"^torch.compile fails, so the network runs uncompiled \(RuntimeError: no compiler\)$"
    with pytest.warns(UserWarning, match=said):
        assert compiled_for_training(model, torch.rand(4, 1, 8, 8)) is model


def test_trying_it_changes_neither_weights_nor_statistics_nor_generators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)  # what compiling runs, without it
    model = small().train()
    before, state = tensors(model), torch.get_rng_state()
    compiled_for_training(model, torch.rand(4, 1, 8, 8, generator=torch.Generator()))
    assert all(torch.equal(one, other) for one, other in zip(tensors(model), before, strict=True))
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow  # a minute of compiling
def test_a_compiled_training_ends_where_the_other_does() -> None:
    digits = get_task("digits", root=Path())
    train = digits.splits["train"].take(torch.arange(0, 1000, 5))
    few = dataclasses.replace(digits, splits={**digits.splits, "train": train})
    plain, compiled = small()[:-2].append(nn.Linear(144, 10)), small()[:-2].append(nn.Linear(144, 10))
    compiled.load_state_dict(plain.state_dict())
    config = RecoveryConfig(epochs=1, batch_size=64, precision="fp32", distillation_weight=0.0)
    finetune(plain, few, config)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # that it fails
        finetune(compiled, few, dataclasses.replace(config, compile=True))
    for one, other in zip(tensors(compiled), tensors(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
