"""A network may edit its input in place; nobody else is to see that.

Everything that runs a network is tried with one that edits its input and with a twin that edits a copy, on a
task that hands out its own images each time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.modules.modes import fastest_layout
from secateur.envs.modules.nonfinite import first_nonfinite
from secateur.envs.problem.importance import importance
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.recovery.compensation import Compensation
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.surgery.export import export
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import Accuracy, TensorTask, measure
from secateur.envs.tasks.user_task import check_answers
from secateur.envs.tracing import trace
from support.candidates import candidate
from support.editing import EditsItsInput, LeavesItsInput, twins
from support.small import plain_network


class Resident(TensorTask):
    """Gives the same tensors again whenever it is asked for the same examples, as a cache does."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        splits = {
            name: (torch.rand(96, 1, 8, 8, generator=generator), torch.arange(96) % 10)
            for name in ("train", "val", "test")
        }
        super().__init__(**splits, loss=F.cross_entropy, metric=Accuracy())
        self.given: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def batch(self, split: str, indices: Tensor, **augmentation: object) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        key = (split, *indices.tolist())
        if key not in self.given:
            self.given[key] = super().batch(split, indices)  # type: ignore[arg-type]
        return self.given[key]

    def assert_untouched(self) -> None:
        assert self.given
        for (split, *indices), pair in self.given.items():
            for now, before in zip(pair, super().batch(split, torch.tensor(indices)), strict=True):  # type: ignore[arg-type]
                assert torch.equal(now, before)


def state(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def scores(model: nn.Module, task: TensorTask) -> list[Tensor]:
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    found = importance(model, network, task, images=64, batch_size=32)
    return [torch.from_numpy(score) for by_layer in found.values() for score in by_layer]


def compensated(model: nn.Module, task: TensorTask) -> list[Tensor]:
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    masks = [np.arange(layer.filters) % 2 == 0 for layer in network.layers]
    return state(Compensation(model, network, task, images=64).compensated_copy(model, masks))


def measured(model: nn.Module, task: TensorTask) -> list[Tensor]:
    return [torch.tensor([measure(model, task, "val", batch_size=96).loss]) for _ in range(2)]


def reestimated(model: nn.Module, task: TensorTask) -> list[Tensor]:
    for _ in range(2):
        reestimate_batchnorm(model, task, images=96)
    return state(model)


def finetuned(model: nn.Module, task: TensorTask) -> list[Tensor]:
    recovery = RecoveryConfig(epochs=2, batch_size=32, distillation_weight=0.5)
    finetune(model, task, recovery, teacher=copy.deepcopy(model))
    return state(model)


def answers(model: nn.Module, task: TensorTask) -> list[Tensor]:
    for _ in range(2):
        check_answers(model, task)
    return []


@pytest.mark.parametrize("use", [measured, scores, compensated, reestimated, finetuned, answers])
def test_a_network_that_edits_its_input_is_treated_as_one_that_does_not(
    use: Callable[[nn.Module, TensorTask], list[Tensor]],
) -> None:
    found = []
    for model in twins():
        task = Resident()
        found.append(use(model, task))
        task.assert_untouched()
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_candidates_are_measured_on_images_that_stay_as_they_are() -> None:
    found = []
    for model in twins():
        task = Resident()
        problem = PruningProblem.build("twin", model, task, images=48, statistics_images=48)
        late = [candidate(problem, 1.0), candidate(problem, 1.0)]
        late[1][1][:5] = False  # the first layer is shared
        evaluator = problem.evaluator
        alone = [evaluator([candidate(problem, 0.5)]) for _ in range(3)]
        found.append([*alone, evaluator(late), evaluator(late)])
        task.assert_untouched()
    assert found[0] == found[1]
    assert found[0][0] == found[0][1] == found[0][2]
    assert found[0][3] == found[0][4]


def test_tracing_leaves_the_example_as_it_is() -> None:
    model, _ = twins()
    example = torch.ones(2, 1, 8, 8)
    trace(model, example)
    assert (example == 1).all()


def test_trying_a_memory_layout_edits_no_image() -> None:
    images = torch.ones(4, 1, 8, 8)  # of one channel, so that they are channels-last already
    model, _ = twins()
    assert fastest_layout(model, images) == torch.channels_last
    assert (images == 1).all()


def test_where_numbers_stop_being_finite_is_looked_for_on_the_images_that_were_given() -> None:
    class Divides(EditsItsInput):
        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.reciprocal_())

    images = torch.full((2, 1, 8, 8), 1e-39)  # infinite once divided by, and zero when that is
    model = Divides(plain_network()).eval()
    first = first_nonfinite(model, images)
    assert first == first_nonfinite(model, images) == "first in the output of body.0"


def test_an_export_is_compared_on_the_inputs_that_the_network_got(tmp_path: Path) -> None:
    model, _ = twins()
    assert export(model, tmp_path / "model.pt2", "pt2", (1, 8, 8)).difference < 1e-5


def test_losses_and_metrics_of_ones_own_may_edit_what_they_are_given() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy(outputs.sigmoid_(), targets.clamp_(0.1, 0.9))

    def polite(outputs: Tensor, targets: Tensor) -> Tensor:
        return loss(outputs.clone(), targets.clone())

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return 100 * (outputs.sigmoid_().round_() == targets.round_()).float().mean(1)

    def kind(outputs: Tensor, targets: Tensor) -> Tensor:
        return score(outputs.clone(), targets.clone())

    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(64, 1, 8, 8, generator=generator)
    labels = torch.rand(64, 10, generator=generator)
    found = []
    for own_loss, own_metric in ((loss, score), (polite, kind)):
        data = {split: (inputs, labels.clone()) for split in ("train", "val", "test")}
        task = TensorTask(**data, loss=own_loss, metric=own_metric)
        model = plain_network()
        network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
        evaluator = CandidateEvaluator(model, network, task, images=32, statistics_images=32)
        masks = [np.arange(layer.filters) % 2 == 0 for layer in network.layers]
        finetune(model, task, RecoveryConfig(epochs=1, batch_size=32), teacher=plain_network(1))
        found.append(([evaluator([masks]) for _ in range(2)], measure(model, task, "val"), evaluator.dense))
        assert found[-1][0][0] == found[-1][0][1]
    assert found[0] == found[1]


def test_the_twins_of_these_tests_compute_the_same() -> None:
    images = torch.rand(3, 1, 8, 8)
    edits, leaves = twins()
    assert isinstance(leaves, LeavesItsInput)
    expected = leaves(images)
    given = images.clone()
    assert torch.equal(edits(given), expected)
    assert not torch.equal(given, images)
