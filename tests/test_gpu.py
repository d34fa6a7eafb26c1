"""What a GPU promises: the same results as a CPU, from networks that are recorded once and replayed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.googlenet import GoogLeNetOutputs

from secateur.agent.cli import main
from secateur.envs.modules.cuda_graphs import capture_graph, capture_training_graph
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import ClassificationTask, get_task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


class Curious(nn.Module):
    """Look at numbers on the way, which no recording can."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.network(inputs)
        return outputs * 2 if outputs.sum().item() > 1e9 else outputs


@pytest.fixture(scope="module")
def digits() -> ClassificationTask:
    return get_task("digits", root=Path()).to("cuda")


def small(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(512, 10),
    ).cuda()


def without_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.envs.recovery.finetuning.capture_graph", lambda *_: None)
    monkeypatch.setattr("secateur.envs.recovery.finetuning.capture_training_graph", lambda model, *_: model)


def test_a_network_that_looks_at_numbers_is_not_recorded(digits: ClassificationTask) -> None:
    curious = Curious(small()).train()
    example, labels = digits.batch("train", torch.arange(32))
    with torch.no_grad():
        assert capture_graph(curious, example) is None
    assert capture_training_graph(curious, example) is curious
    torch.nn.functional.cross_entropy(curious(example), labels).backward()  # the GPU is none the worse
    summary = finetune(curious, digits, RecoveryConfig(epochs=2, batch_size=32, distillation_weight=0.0))
    assert summary.losses[1] < summary.losses[0]


def test_recording_leaves_a_network_as_it_was(digits: ClassificationTask) -> None:
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    example, _ = digits.batch("train", torch.arange(32))
    running = capture_training_graph(model, example)
    assert running is not model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_replayed_step_has_the_gradient_of_a_launched_one(digits: ClassificationTask) -> None:
    model = small().train()
    example, _ = digits.batch("train", torch.arange(32))
    inputs, labels = digits.batch("train", torch.arange(100, 132))
    gradients = []
    for run in (model, capture_training_graph(model, example)):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(run(inputs).float(), labels)
        loss.backward()
        gradients.append([weight.grad.clone() for weight in model.parameters() if weight.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) == 6
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=2e-3)


def test_every_replay_drops_other_channels(digits: ClassificationTask) -> None:
    example, _ = digits.batch("train", torch.arange(32))
    running = capture_training_graph(small(dropout=0.5).train(), example)
    assert not torch.equal(running(example).clone(), running(example).clone())


def test_a_replayed_network_gives_its_outputs_in_their_form(digits: ClassificationTask) -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.aux = small(), small()

        def forward(self, x: Tensor) -> GoogLeNetOutputs:
            return GoogLeNetOutputs(self.main(x), self.aux(x), self.aux(x))

    example, _ = digits.batch("train", torch.arange(32))
    running = capture_training_graph(Auxiliary().train(), example)
    outputs = running(example)
    assert isinstance(outputs, GoogLeNetOutputs)
    assert outputs.aux_logits2.requires_grad


def trained(
    digits: ClassificationTask, seed: int, around: int = 0
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    model, teacher = small(0.1), small()
    torch.manual_seed(around)  # what others draw must not matter
    config = RecoveryConfig(epochs=3, batch_size=64)
    losses = finetune(model, digits, config, teacher=teacher, seed=seed).losses
    return {name: value.clone() for name, value in model.state_dict().items()}, losses


def test_replayed_training_follows_its_seed_and_learns_as_launched_training_does(
    digits: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed, losses = trained(digits, seed=1)
    again, _ = trained(digits, seed=1, around=5)
    assert all(torch.equal(replayed[name], again[name]) for name in replayed)
    without_recordings(monkeypatch)
    _, launched = trained(digits, seed=1)
    assert losses == pytest.approx(launched, rel=0.1)
    assert losses[2] < losses[0]


def test_the_whole_job_runs_on_the_gpu_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["prune", "--evaluations", "48", "--epochs", "2", "--out", str(run)])
    report = json.loads((run / "report.json").read_text())
    assert report["device"] == torch.cuda.get_device_name()
    assert report["ratios"]["macs"] <= 0.5
    assert report["pruned"]["accuracy"] > 90
