"""Detectors train by their own losses, and are pruned and recovered whole, in one job."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection

import secateur
from secateur.agent.procedures.recovery import recover_in_place
from secateur.envs.modules.copying import replica
from secateur.envs.recovery.callbacks import NO_CALLBACKS
from secateur.envs.recovery.checkpoint import Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.training_check import NO_TEACHER, check_training
from secateur.envs.tasks import measure
from secateur.envs.tasks.network_loss import measured_loss
from secateur.envs.tasks.user_task import check_answers, check_task, on_device
from support.extras import installed
from support.pages import ROOT

BRIEF: dict[str, Any] = {
    "method": "taylor-uniform",
    "target_macs": 0.6,
    "epochs": 3,
    "batch_size": 8,
    "optimiser": "adamw",
    "search_images": 8,
    "compensation_images": 16,
    "batchnorm_images": 16,
}


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")


def made(name: str) -> tuple[nn.Module, Any]:
    """Build the detector and the task of an example."""
    module: ModuleType = importlib.import_module(name)
    torch.manual_seed(0)
    if name == "ultralytics_detector":
        return module.build().eval(), module.YoloDetection(32, 16)
    return module.build().eval(), module.Detection(32, 16)


KINDS = [
    "torchvision_detector",
    pytest.param(
        "ultralytics_detector",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not installed("ultralytics"), reason="ultralytics is not installed"),
        ],
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_is_pruned_and_recovered_in_one_job_and_resumes_to_the_same_weights(
    kind: str, tmp_path: Path
) -> None:
    model, task = made(kind)
    training = {"batch_size": 8, "optimiser": "adamw", "learning_rate": 2e-3}
    secateur.recover(model, task, epochs=6, batchnorm_images=32, **training)
    undisturbed = secateur.prune(replica(model), task, **BRIEF)
    steps = []

    def interrupted(progress: Any) -> None:
        steps.append(progress)
        if len(steps) == 6:
            raise Stopped("as by a signal")

    out = tmp_path / "run"
    with pytest.raises(Stopped):
        secateur.prune(replica(model), task, out=out, on_step=interrupted, **BRIEF)
    resumed = secateur.prune(replica(model), task, out=out, resume=True, **BRIEF)

    expected, found = undisturbed.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    report = resumed.report
    losses = report["recovery"]["losses"]
    assert losses == undisturbed.report["recovery"]["losses"]
    assert losses[-1] < losses[0]
    assert 0.5 < report["ratios"]["macs"] < 0.65
    assert NO_TEACHER in report["splits"]["notes"]
    with torch.no_grad():
        answers = resumed.model(torch.stack(list(task.parts["val"][0][:2])))
    statistics = task.statistics(answers, task.batch("val", torch.arange(2))[1])
    assert statistics[-1].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("build", "predictors"),
    [
        (detection.ssdlite320_mobilenet_v3_large, 12),
        (detection.fasterrcnn_mobilenet_v3_large_320_fpn, 4),
    ],
)
def test_a_whole_detector_is_traced_and_all_but_its_predictors_can_go(
    build: Callable[..., nn.Module], predictors: int
) -> None:
    torch.manual_seed(0)
    model = build(weights=None, weights_backbone=None, num_classes=3).eval()
    model.transform.min_size, model.transform.max_size = (64,), 64  # type: ignore[union-attr,assignment]
    network = secateur.trace(model, torch.zeros(2, 3, 64, 64))
    assert len(network.pinned) == predictors
    assert all(layer.name.startswith(("head.", "rpn.head.", "roi_heads.box_")) for layer in network.pinned)
    assert "evaluation mode" in network.notes[0]


def test_the_loss_on_val_is_the_networks_own_and_leaves_no_trace() -> None:
    model, task = made("torchvision_detector")
    inputs, targets = task.batch("val", torch.arange(4))
    before, randomness = replica(model).state_dict(), torch.get_rng_state()
    losses = [measured_loss(task, model, inputs, targets).item() for _ in range(2)]
    assert losses[0] == losses[1] > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(randomness, torch.get_rng_state())
    assert not any(module.training for module in model.modules())


def test_measuring_by_example_adds_up_to_measuring_in_batches() -> None:
    model, task = made("torchvision_detector")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)  # so that something is found
    whole, single = measure(model, task, "val"), measure(model, task, "val", by_example=True)
    assert single.example_statistics is not None
    assert len(single.example_statistics) == 16
    assert single.accuracy == whole.accuracy
    assert single.details == whole.details
    assert int(single.example_statistics[:, :-1].sum()) > 0


def test_targets_of_any_kind_are_moved() -> None:
    _, task = made("torchvision_detector")
    moved = on_device(task, torch.device("meta"))
    inputs, targets = moved.batch("train", torch.arange(2))
    assert {inputs.device.type, *(t.device.type for row in targets for t in row.values())} == {"meta"}


def test_a_task_needs_a_loss_or_a_training_loss() -> None:
    model, task = made("torchvision_detector")
    check_task(task)
    assert check_answers(model, task) == ()

    class Without(type(task)):  # type: ignore[misc]
        training_loss = None

    with pytest.raises(ValueError, match="Without has no loss"):
        check_task(Without(4, 4))


def test_a_training_loss_that_is_no_number_is_refused() -> None:
    model, task = made("torchvision_detector")
    task.training_loss = lambda model, inputs, targets: model(list(inputs), targets)
    with pytest.raises(TypeError, match="training_loss of scenes is a dict; it has to be one differentiable"):
        check_answers(model, task)


def test_the_teacher_is_left_out_and_that_is_said() -> None:
    model, task = made("torchvision_detector")
    config = RecoveryConfig(epochs=1, batch_size=8, distillation_weight=0.5)
    assert check_training(model, task, config, model) == (NO_TEACHER,)


def test_a_network_that_diverges_is_named_by_its_layer_though_it_needs_targets() -> None:
    model, task = made("torchvision_detector")
    with torch.no_grad():
        model.head.regression_head.bbox_reg.weight.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match=r"first in the weights of head.regression_head.bbox_reg"):
        # Where weights become so in the training; secateur.recover refuses those that are before it.
        recover_in_place(
            model, task, RecoveryConfig(epochs=1, batch_size=8, batchnorm_images=0), None, 0, NO_CALLBACKS
        )


def test_targets_reach_the_loss_as_the_task_gave_them() -> None:
    model, task = made("torchvision_detector")
    seen: list[Any] = []
    own = task.training_loss

    def watched(model: nn.Module, inputs: Tensor, targets: Any) -> Tensor:
        seen.append(targets)
        return own(model, inputs, targets)

    task.training_loss = watched
    secateur.recover(model, task, epochs=1, batch_size=8, batchnorm_images=0)
    assert all(isinstance(targets, list) and set(targets[0]) == {"boxes", "labels"} for targets in seen)
    assert len(seen) >= 4
