"""The contract of tracing and surgery, every promise on every model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from torch import nn

from secateur.envs.modules.copying import replica
from secateur.envs.recovery.compensation import Compensation
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import TOLERANCE, trace_exactly
from secateur.envs.tasks import Task
from secateur.envs.tracing import TracedNetwork
from support.detectors import detectors
from support.networks import OWN, Architecture
from support.promises import (
    Examples,
    Inputs,
    assert_counts_are_true,
    assert_survives_saving,
    assert_trains,
    give_twins,
    is_grouped,
    masked_difference,
    outputs,
    random_plan,
    randomised,
    shifted,
)
from support.published import classifiers, published
from support.varieties import varieties

FAST = {
    *(a.name for a in OWN), "resnet18", "mobilenet_v2", "densenet121",
    "yolov5", "centernet", "crnn", "fno", "unet 3d deep supervision", "siamese", "critic", "hooked unet",
}  # fmt: skip
ONE_OF_EACH_FAMILY = {
    "alexnet", "convnext_tiny", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5",
    "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet50", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn",
    "yolov7", "yolov8", "yolox", "retinanet", "fcos", "ssd", "efficientdet", "hrnet", "rcan", "convlstm",
    "deeplabv3_mobilenet_v3_large", "fcn_resnet50 aux", "lraspp_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_fpn backbone",
}  # fmt: skip
ARCHITECTURES = {a.name: a for a in [*OWN, *detectors(), *varieties(), *published()]}
assert set(ARCHITECTURES) >= ONE_OF_EACH_FAMILY | FAST

by_sparsity = pytest.mark.parametrize("sparsity", [0.3, 0.6])


def marks(name: str) -> tuple[pytest.MarkDecorator, ...]:
    if name in FAST:
        return ()
    return (pytest.mark.slow if name in ONE_OF_EACH_FAMILY else pytest.mark.exhaustive,)


@dataclass(frozen=True)
class Subject:
    architecture: Architecture
    model: nn.Module
    network: TracedNetwork
    inputs: Inputs


@pytest.fixture(
    scope="module",  # all promises of one model, then the next: they do not fit into memory together
    params=[pytest.param(a, id=name, marks=marks(name)) for name, a in ARCHITECTURES.items()],
)
def subject(request: pytest.FixtureRequest) -> Subject:
    architecture: Architecture = request.param
    model = randomised(architecture.model())
    inputs = tuple(x.double() for x in architecture.example())
    return Subject(architecture, model, trace_exactly(model, inputs), inputs)


@by_sparsity
def test_a_pruned_network_computes_what_the_masked_one_did_and_goes_on_living(
    subject: Subject, sparsity: float, tmp_path: Path
) -> None:
    model, network, inputs = subject.model, subject.network, subject.inputs
    plan = random_plan(network, sparsity)
    assert masked_difference(model, network, plan, plan, inputs) <= TOLERANCE
    smaller = cut(model, network, plan)
    assert_counts_are_true(network, plan, smaller, inputs)
    assert_survives_saving(subject.architecture.model, smaller, plan, inputs, tmp_path)
    assert_trains(smaller, inputs)


def test_the_contract_notices_a_plan_that_is_shifted_by_one_filter(subject: Subject) -> None:
    model, network, inputs = subject.model, subject.network, subject.inputs
    if not network.layers:
        assert subject.architecture.name not in FAST, "nothing of it can be pruned"
        pytest.skip("every layer is pinned")
    plan = random_plan(network, 0.3)
    # A filter that a ReLU or an auxiliary head's dropout silences is missed by nobody: look at six layers.
    moved = itertools.islice(shifted(plan), 6)
    assert max(masked_difference(model, network, plan, other, inputs) for other in moved) > TOLERANCE


def test_twins_of_filters_that_stay_are_made_up_for(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever reads a channel and its twin reads the twin alone as well, once it has both's weights."""
    architecture, network = subject.architecture, subject.network
    readers = (
        "weight norms",
        "masked weights",
    )  # whose weights are computed from others: their channels just go
    if architecture.name in readers or architecture.more or any(map(is_grouped, subject.model.modules())):
        pytest.skip("has readers that are not made up for, groups of channels, or several inputs")
    if architecture not in OWN or max(network.widths, default=0) > 64:
        pytest.skip("so many channels want more images than a test has")
    model, (inputs,) = replica(subject.model), (x.double() for x in architecture.example(64))
    give_twins(model, network)
    masks = [np.arange(layer.filters) % 2 == 0 for layer in network.layers]
    plan = PruningPlan.from_masks(network, masks)
    monkeypatch.setattr("secateur.envs.recovery.compensation.RIDGE", 1e-6)
    monkeypatch.setattr("secateur.envs.recovery.compensation.POSITIONS", 2**20)
    task, dense = cast(Task, Examples(inputs)), outputs(model, (inputs,))[0]
    errors = []
    for images in (0, len(inputs)):
        compensated = Compensation(model, network, task, images=images).compensated_copy(model, masks)
        error = outputs(cut(compensated, network, plan), (inputs,))[0] - dense
        errors.append(
            float(error.norm() / dense.norm())
        )  # one maximum that SegNet finds elsewhere is no matter
    assert errors[1] < 1e-3
    assert errors[0] > 10 * errors[1] or not network.layers


def test_nearly_all_filters_of_batch_normalised_classifiers_can_go(subject: Subject) -> None:
    name = subject.architecture.name
    has_norms = any(isinstance(module, nn.BatchNorm2d) for module in subject.model.modules())
    promised = 0.9 if has_norms and name in {a.name for a in classifiers()} else 0.0
    if name.startswith("shufflenet"):  # every unit halves its stream: of some stages all channels go, or none
        promised = 0.75
    assert subject.network.prunable_share >= promised
