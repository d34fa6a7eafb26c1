"""A network that answers otherwise in training mode is known before the search, and trained on what fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.envs.modules.copying import replica
from secateur.envs.modules.precision import autocast
from secateur.envs.recovery import training_check
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.recovery.training_check import check_training
from secateur.envs.recovery.training_loss import StepLoss
from secateur.envs.tasks import R2, TensorTask

ONCE = RecoveryConfig(epochs=1, batch_size=8, distillation_weight=0.0)
BRIEF: dict[str, Any] = {"method": "l2-uniform", "epochs": 1, "batch_size": 8, "search_images": 8}


class Maps(nn.Module):
    """A network from images (B, 1, 8, 8) to maps, with a map of half the size in training mode."""

    def __init__(self, answer: Callable[[Maps, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer
        self.first, self.norm, self.second = (
            nn.Conv2d(1, 8, 3, 1, 1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, 1, 1),
        )
        self.fine, self.coarse = nn.Conv2d(8, 1, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.second(self.norm(self.first(x)).relu()).relu()
        return self.answer(self, self.fine(x), self.coarse(F.max_pool2d(x, 2)))


def plain(net: Maps, fine: Tensor, coarse: Tensor) -> Any:
    return fine


def fine_first(net: Maps, fine: Tensor, coarse: Tensor) -> Any:
    return [fine, coarse] if net.training else fine


def coarse_first(net: Maps, fine: Tensor, coarse: Tensor) -> Any:
    return (coarse, fine) if net.training else (fine,)


def same_size(net: Maps, fine: Tensor, coarse: Tensor) -> Any:
    return [fine, F.interpolate(coarse, scale_factor=2)] if net.training else fine


def coarse_alone(net: Maps, fine: Tensor, coarse: Tensor) -> Any:
    return [coarse] if net.training else fine


def named(net: Maps, fine: Tensor, coarse: Tensor) -> Any:
    return {"fine": fine, "coarse": coarse} if net.training else fine


def nothing(net: Maps, fine: Tensor, coarse: Tensor) -> Any:
    if net.training:
        raise RuntimeError("targets are missing")
    return fine


def network(answer: Callable[[Maps, Tensor, Tensor], Any]) -> Maps:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Maps(answer).eval()


def both_sizes(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    outputs = model(inputs)
    fine, coarse = outputs.values() if isinstance(outputs, dict) else outputs
    return F.mse_loss(fine, targets) + F.mse_loss(coarse, F.avg_pool2d(targets, 2))


def task(**settings: Any) -> TensorTask:
    images = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    parts = {"train": (images, images), "val": (images[:8], images[:8]), "test": (images[8:], images[8:])}
    scored = {"loss": F.mse_loss, "metric": lambda y, t: 90 - F.mse_loss(y, t), "num_outputs": 1}
    return TensorTask(**parts, **scored, **settings)


def weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def trained(model: Maps, with_task: TensorTask) -> dict[str, Tensor]:
    finetune(model, with_task, ONCE)
    return model.state_dict()


@pytest.mark.parametrize("answer", [fine_first, coarse_first])
def test_outputs_of_another_size_are_left_out_and_that_is_said(answer: Callable[..., Any]) -> None:
    (note,) = check_training(network(answer), task(), ONCE, None)
    assert "outputs of 2x1x4x4 for 2 examples" in note
    assert "the main output is of 2x1x8x8" in note
    found, expected = trained(network(answer), task()), trained(network(plain), task())
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_teacher_with_other_outputs_is_refused_as_they_would_be_broadcast() -> None:
    task = _numbers()
    model, other = nn.Linear(4, 3), nn.Linear(4, 1)
    with pytest.raises(ValueError, match=r"^the teacher gives outputs of 1 for an example, the network of 3"):
        check_training(model, task, RecoveryConfig(), other)
    with pytest.raises(ValueError, match=r"^the teacher does not run on the data"):
        check_training(model, task, RecoveryConfig(), nn.Linear(7, 3))


def test_a_rank_does_not_get_single_examples_for_batchnorm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_check, "ranks", lambda: 3)
    config = RecoveryConfig(batch_size=5, distillation_weight=0.0)
    with pytest.raises(ValueError, match=r"^3 processes share batches of 4 images"):
        check_training(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), _numbers(), config, None)
    check_training(nn.Linear(4, 3), _numbers(), config, None)


def _numbers() -> TensorTask:
    part = torch.rand(12, 4), torch.rand(12, 3)
    return TensorTask(train=part, val=part, test=part, loss=nn.functional.mse_loss, metric=R2())


def test_outputs_of_the_same_size_train_with_a_smaller_weight() -> None:
    assert check_training(network(same_size), task(), ONCE, None) == ()
    model, images = network(same_size).train(), task().batch("train", torch.arange(8))
    with autocast(images[0].device):
        fine, coarse = (outputs.float() for outputs in model(images[0]))
    expected = F.mse_loss(fine, images[1]) + 0.3 * F.mse_loss(coarse, images[1])
    model = network(same_size).train()
    assert torch.equal(StepLoss(task(), None, ONCE, (1, 8, 8))(model, *images), expected)


@pytest.mark.parametrize("answer", [fine_first, named])
def test_a_task_may_train_on_all_outputs(answer: Callable[..., Any]) -> None:
    whole = task(training_loss=both_sizes)
    assert check_training(network(answer), whole, ONCE, None) == ()
    before = network(answer).state_dict()
    after = trained(network(answer), whole)
    assert not torch.equal(before["coarse.weight"], after["coarse.weight"])
    alone = trained(network(fine_first), task())
    assert torch.equal(before["coarse.weight"], alone["coarse.weight"])


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (coarse_alone, "in training mode it gives 2x1x4x4 .*give a network that begins with its main output"),
        (named, "in training mode it gives 2x1x8x8, 2x1x4x4 .TypeError: the network returns a dict"),
        (nothing, "in training mode.*targets are missing"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_search(
    answer: Callable[..., Any], cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.agent.procedures.choosing.prune_at_once", None)  # the search
    model = network(answer)
    with pytest.raises(ValueError, match=cause) as caught:
        secateur.prune(model, task(), target_macs=0.6, **BRIEF)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=cause):
        secateur.recover(model, task(), epochs=1, batch_size=8)
    assert not model.training


def test_a_network_that_cannot_be_trained_can_be_searched_and_cut() -> None:
    model = network(coarse_alone)
    plan = secateur.search(model, task(), target_macs=0.6, method="l2-uniform", search_images=8)
    assert secateur.cut(model, plan)(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    result = secateur.prune(model, task(), target_macs=0.6, **(BRIEF | {"epochs": 0}))
    assert weights(result.model) < weights(model)


def test_frozen_networks_are_refused_before_the_search() -> None:
    with pytest.raises(ValueError, match=r"all its parameters are frozen; call model.requires_grad_\(True\)"):
        check_training(network(plain).requires_grad_(False), task(), ONCE, None)


@pytest.mark.parametrize("answer", [fine_first, coarse_first, same_size])
@pytest.mark.parametrize("procedure", ["network", "layerwise"])
def test_deep_supervision_is_pruned_and_recovered(answer: Callable[..., Any], procedure: str) -> None:
    model = network(answer)
    result = secateur.prune(model, task(), target_macs=0.6, procedure=procedure, **BRIEF)
    assert weights(result.model) < weights(model)
    notes = [note for note in result.report["splits"]["notes"] if "In training mode" in note]
    assert len(notes) == (answer is not same_size)


def test_the_check_leaves_the_network_and_its_random_numbers() -> None:
    model = network(fine_first)
    before, randomness = replica(model).state_dict(), torch.get_rng_state()
    check_training(model, task(), replace(ONCE, distillation_weight=0.5), model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    assert torch.equal(randomness, torch.get_rng_state())
