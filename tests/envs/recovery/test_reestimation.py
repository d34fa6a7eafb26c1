"""Statistics of batch-norm after a cut: exact averages, and no other traces."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from secateur.envs.models import get_model
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import ClassificationTask, measure
from support.recovering import equal, small, weights


def test_reestimated_statistics_are_the_averages_of_the_batches(few: ClassificationTask) -> None:
    task = dataclasses.replace(few, padding=0)  # no augmentation: the batches can be recomputed by hand
    model = small()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))[:150]
    batches = [model[0](task.batch("train", part)[0]) for part in order.split(50)]
    reestimate_batchnorm(model, task, images=150, batch_size=50, seed=3)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[1].running_var, variances)


def test_reestimation_changes_nothing_but_statistics(few: ClassificationTask) -> None:
    model = small(dropout=0.9)
    model[1].eval()
    before = weights(model)
    reestimate_batchnorm(model, few)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}
    assert [model[1].momentum, model[4].momentum] == [0.1, 0.3]
    assert [module.training for module in model] == [True, False] + [True] * 7


def test_reestimation_follows_its_seed_and_ignores_dropout(few: ClassificationTask) -> None:
    found = []
    for seed in (0, 0, 1):
        model = small(dropout=0.5)
        reestimate_batchnorm(model, few, images=64, seed=seed)
        found.append(weights(model))
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


def test_reestimation_keeps_the_statistics_of_layers_that_no_image_reaches(few: ClassificationTask) -> None:
    model = small()
    model.register_module("9", nn.Identity())
    idle = nn.BatchNorm2d(2)
    idle.running_mean.fill_(5.0)  # type: ignore[union-attr]
    model[9].add_module("idle", idle)
    reestimate_batchnorm(model, few)
    assert idle.running_mean.tolist() == [5.0, 5.0]  # type: ignore[union-attr]


def test_reestimation_that_fails_leaves_statistics_momenta_and_modes(few: ClassificationTask) -> None:
    class FailsSecond(nn.Module):
        passes = -1  # the memory layout is tried first

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            if self.passes == 2:
                raise RuntimeError("second batch")
            return x

    model = nn.Sequential(nn.BatchNorm2d(1), FailsSecond(), nn.Flatten()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="second batch"):
        reestimate_batchnorm(model, few, images=96, batch_size=32)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model[0].momentum == 0.1
    assert all(module.training for module in model.modules())


def test_reestimation_repairs_wrong_statistics(digits: ClassificationTask) -> None:
    model = get_model("demo", num_classes=10, in_channels=1)
    finetune(model, digits, RecoveryConfig.from_scratch(3))
    good = measure(model, digits, "val").accuracy
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 20)  # type: ignore[union-attr]
    assert measure(model, digits, "val").accuracy < good - 20
    reestimate_batchnorm(model, digits)
    assert measure(model, digits, "val").accuracy > good - 3
