"""Jobs that systems stumble over: uncalled layers, averaged weights, frozen parameters, masks of biases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from secateur.agent.systems import dynamic_filters, tickets
from secateur.agent.systems.base import Job
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.sparsity import keep_masks, sparsity
from secateur.envs.sparsity.filters import kept_filters, unmasked_state
from secateur.envs.surgery.plan import Mask
from secateur.envs.surgery.verification import trace_exactly
from support.promises import macs_of
from support.pruning_jobs import DIGIT, job_of


class Uncalled(nn.Module):
    """Read the weights of a convolution and of attention's projection without a call of these modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.stem(x).relu(), self.conv.weight, self.conv.bias, padding=1).relu()
        x = x.flatten(2).movedim(1, 2)
        return self.head(x + self.attention(x, x, x, need_weights=False)[0]).mean(1)

    @property
    def read(self) -> tuple[nn.Conv2d, nn.Linear]:
        return self.conv, self.attention.out_proj


def with_network(job: Job, model: nn.Module) -> Job:
    return replace(job, model=model.eval(), network=trace_exactly(model, torch.zeros(2, 1, 8, 8)))


@pytest.mark.parametrize(
    "name", ["magnitude-global", "iterative", "gradual", "dynamic", "lottery", "gradual-filters"]
)
def test_weights_of_layers_that_are_not_called_are_masked_while_they_train(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trained: list[tuple[int, int]] = []
    own = Uncalled.forward

    def forward(self: Uncalled, x: Tensor) -> Tensor:
        outputs = own(self, x)
        if self.training and keep_masks(self):
            masked = [layer for layer in self.read if hasattr(layer, "weight_mask")]
            zeros = sum(int((layer.weight == 0).sum()) for layer in masked)
            trained.append((zeros, sum(int((~layer.weight_mask).sum()) for layer in masked)))
        return outputs

    monkeypatch.setattr(Uncalled, "forward", forward)
    torch.manual_seed(0)
    SYSTEMS[name](with_network(job_of(problem, 0.8, epochs=2), Uncalled()))
    assert max(masked for _, masked in trained) > 0
    assert all(zeros == masked for zeros, masked in trained)


@pytest.mark.parametrize("name", ["gradual", "gradual-filters", "dynamic", "dynamic-filters"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_averaged_weights_have_the_masks_of_the_last_step(
    problem: PruningProblem, name: str, epochs: int
) -> None:
    job = job_of(problem, 0.3, epochs=epochs, batch_size=96, ema_decay=0.9)
    result = SYSTEMS[name](job)
    if name in ("gradual", "dynamic"):
        assert sparsity(result.model) == pytest.approx(0.7, abs=1e-3)
    else:
        assert macs_of(result.model, DIGIT) / macs_of(job.model, DIGIT) <= 0.3


def test_a_policy_decides_by_its_own_numbers_not_by_their_average(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[list[Mask], list[Mask]]] = []
    cut_and_train = dynamic_filters.cut_and_train

    def noted(job: Job, model: nn.Module, kept: list[Mask], epochs: float) -> Any:
        found.append((kept_filters(model, job.network), kept))
        return cut_and_train(job, model, kept, epochs)

    monkeypatch.setattr(dynamic_filters, "cut_and_train", noted)
    SYSTEMS["dynamic-filters"](job_of(problem, 0.2, epochs=4, ema_decay=0.99))
    ((trained, kept),) = found
    assert all(np.array_equal(one, other) for one, other in zip(trained, kept, strict=True))


@pytest.mark.parametrize("name", ["lottery", "lottery-rewinding", "lottery-filters", "small-dense"])
def test_frozen_parameters_keep_what_training_gave(problem: PruningProblem, name: str) -> None:
    model = replica(problem.model)
    frozen = next(key for key, weight in model.named_parameters() if weight.dim() == 4)
    model.get_parameter(frozen).requires_grad_(False)
    result = SYSTEMS[name](with_network(job_of(problem, 0.5, epochs=2), model))
    assert "1 frozen parameter keeps what training gave." in result.notes
    kept = unmasked_state(result.model)[frozen].flatten(1).tolist()
    given = model.get_parameter(frozen).flatten(1).tolist()
    assert {*map(tuple, kept)} <= {*map(tuple, given)}


def test_a_ticket_keeps_the_masks_of_biases(problem: PruningProblem) -> None:
    model = replica(problem.model)
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    prune.custom_from_mask(layer, "bias", torch.arange(len(layer.bias)) > 2)
    ticket = SYSTEMS["lottery"](with_network(job_of(problem, 0.5, epochs=2), model)).model
    (mask,) = (mask for name, mask in keep_masks(ticket).items() if name.endswith("bias"))
    assert mask.tolist() == [k > 2 for k in range(len(mask))]


def test_a_ticket_goes_back_to_the_state_itself_not_to_an_average(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Tensor]] = []
    train_stage = tickets.train_stage

    def noted(job: Job, model: nn.Module, epochs: float, name: str, **options: Any) -> None:
        if name == "round-1":
            begun.append({key: value.clone() for key, value in unmasked_state(model).items()})
        train_stage(job, model, epochs, name, **options)

    monkeypatch.setattr(tickets, "train_stage", noted)
    for decay in (0.0, 0.9):
        SYSTEMS["lottery-rewinding"](job_of(problem, 0.5, epochs=6, ema_decay=decay))
    assert all(torch.equal(value, begun[1][key]) for key, value in begun[0].items())


def test_a_ticket_is_refused_before_anything_is_trained(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "train_stage", lambda *_, **__: pytest.fail("it trained"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    parametrizations.weight_norm(model[1])
    with pytest.raises(ValueError, match=r"1\.weight is computed from other parameters"):
        SYSTEMS["lottery-rewinding"](with_network(job_of(problem, 0.5, epochs=2), model))


@pytest.mark.parametrize(
    ("name", "rate", "teacher"),
    [
        ("lottery", RecoveryConfig.from_scratch().learning_rate, 0.5),
        ("lottery-filters", RecoveryConfig.from_scratch().learning_rate, 0.5),
        ("small-dense", RecoveryConfig.from_scratch().learning_rate, 0.0),
        ("small-dense-taught", RecoveryConfig.from_scratch().learning_rate, 0.5),
    ],
)
def test_the_report_has_the_recipe_that_was_used(
    problem: PruningProblem, name: str, rate: float, teacher: float
) -> None:
    recipe = SYSTEMS[name](job_of(problem, 0.5, epochs=1)).details["recovery"]
    assert (recipe["learning_rate"], recipe["distillation_weight"], recipe["epochs"]) == (rate, teacher, 1)
