"""Weights and statistics that no trained network has are named, by every function that takes a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.envs.modules.usable_weights import check_finite
from secateur.envs.surgery.export import export
from secateur.envs.tasks import Accuracy


def network(value: float | None = None, name: str = "1.running_mean") -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    ).eval()
    if value is not None:
        model.state_dict()[name][1] = value
    return model


def task(**settings: Any) -> secateur.TensorTask:
    part = (torch.rand(16, 1, 4, 4), torch.arange(16) % 2)
    return secateur.TensorTask(
        train=part, val=part, test=part, **{"loss": F.cross_entropy, "metric": Accuracy(), **settings}
    )


def under_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return network()


PLAN = secateur.PruningPlan({"0": (0, 1)}, {"0": 4}, input_shape=(1, 4, 4))

USES: dict[str, Callable[[Any, Path], object]] = {
    "search": lambda model, _: secateur.search(model, task(), target_macs=0.5, method="l1-uniform"),
    "prune": lambda model, folder: secateur.prune(model, task(), out=folder / "out", epochs=0),
    "recover": lambda model, _: secateur.recover(model, task(), epochs=1),
    "compare": lambda model, _: secateur.compare(model, task(), methods="l1-uniform", epochs=0),
    "teacher": lambda model, _: secateur.recover(network(), task(), teacher=model, epochs=1),
    "cut": lambda model, _: secateur.cut(model, PLAN),
    "export": lambda model, folder: export(model, folder / "out", "safetensors"),
    "trace": lambda model, _: secateur.trace(model, torch.zeros(2, 1, 4, 4)),
}
TRAINING = ("search", "prune", "recover", "compare")
"""Functions that need weights of float32 that can be trained."""

PROBLEMS: dict[str, tuple[Callable[[], nn.Module], str, tuple[str, ...]]] = {
    "without weights": (
        nn.Flatten,
        "the network, Flatten, has no parameters, .*; give one with layers",
        (*TRAINING, "cut", "trace"),
    ),
    "meta": (
        lambda: network().to("meta"),
        "0.weight is on the meta device.*; give the network with its weights",
        tuple(USES),
    ),
    "inference mode": (
        under_inference_mode,
        r"0.weight was made under torch.inference_mode\(\).*; build or load the network outside",
        TRAINING,
    ),
    "undefined mean": (
        lambda: network(math.nan),
        "1.running_mean holds infinite or undefined numbers; give a network with the statistics",
        (*TRAINING, "teacher", "export"),
    ),
    "negative variance": (
        lambda: network(-1.0, "1.running_var"),
        "1.running_var holds negative numbers, and a variance is never.*; give a network with the statistics",
        (*TRAINING, "teacher", "export"),
    ),
    "half": (
        lambda: network().half(),
        r"does not run .*; 0.weight is float16, and the inputs are float32: call model.float\(\)",
        (*TRAINING, "teacher"),
    ),
    "double": (
        lambda: network().double(),
        r"does not run .*; 0.weight is float64, and the inputs are float32: call model.float\(\)",
        TRAINING,
    ),
}


@pytest.mark.parametrize(
    ("problem", "use"), [(p, use) for p, (_, _, uses) in PROBLEMS.items() for use in uses]
)
def test_a_network_that_cannot_be_used_is_one_line(problem: str, use: str, tmp_path: Path) -> None:
    build, sentence, _ = PROBLEMS[problem]
    with pytest.raises(ValueError, match=sentence) as caught:
        USES[use](build(), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("use", ["cut", "export", "teacher"])
def test_what_is_no_network_is_refused_by_its_type(use: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"is (a )?str; give an? (torch\.)?nn.Module"):
        USES[use]("demo", tmp_path)


def test_masks_of_attention_may_be_infinite() -> None:
    model = network()
    model.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))
    check_finite(model)


def test_a_loss_that_is_undefined_and_outputs_that_are_say_so() -> None:
    def undefined(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) * math.nan

    with pytest.raises(
        ValueError,
        match="is infinite or undefined on the label 0 of train, with finite outputs; mend the loss",
    ):
        secateur.search(network(), task(loss=undefined), target_macs=0.5)
    endless = nn.Sequential(*network(), Endless())
    with pytest.raises(
        ValueError, match=r"outputs for the first examples of train are .*, first in the output of 5"
    ):
        secateur.search(endless, task(), target_macs=0.5)


class Endless(nn.Module):
    """Divide the outputs by 0."""

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs / 0
