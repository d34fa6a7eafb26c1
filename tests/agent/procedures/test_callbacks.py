"""Callbacks of the fine-tuning: what they get, how they end it, and that what was ended stays so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.envs.recovery import Progress
from secateur.envs.recovery.checkpoint import Checkpoint, Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import Accuracy, TensorTask, measure
from support.small import plain_network

BRIEF: dict[str, Any] = {
    "method": "l2-uniform",
    "target_macs": 0.6,
    "epochs": 4,
    "batch_size": 16,
    "search_images": 16,
    "compensation_images": 16,
    "batchnorm_images": 32,
}


def task() -> TensorTask:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 10
    images = torch.randn(64, 1, 8, 8, generator=generator) + labels[:, None, None, None] / 3
    few = images[:32], labels[:32]
    return TensorTask(
        train=(images, labels), val=few, test=few, loss=F.cross_entropy, metric=Accuracy(), num_outputs=10
    )


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.parameters()]


def equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def ends_after(epoch: int, step: int) -> Any:
    return lambda progress: (progress.epoch, progress.step) == (epoch, step)


def test_callbacks_get_each_step_and_each_epoch_with_the_metric_on_val() -> None:
    steps: list[Progress] = []
    epochs: list[Progress] = []
    model = plain_network()
    secateur.recover(
        model,
        task(),
        epochs=3,
        batch_size=16,
        batchnorm_images=0,
        on_step=steps.append,
        on_epoch=epochs.append,
    )
    assert [p.finished_steps for p in steps] == list(range(1, 13))
    assert [(p.epoch, p.epochs, p.step, p.steps) for p in epochs] == [(k, 3, 4, 4) for k in (1, 2, 3)]
    assert [len(p.val_accuracies) for p in epochs] == [1, 2, 3]
    assert epochs[-1].val_accuracies[-1] == measure(model, task(), "val").accuracy
    assert epochs[0].loss == pytest.approx(np.mean([p.loss for p in steps[:4]]))


@pytest.mark.parametrize(
    ("name", "epoch", "step"), [("on_step", 2, 3), ("on_step", 2, 4), ("on_epoch", 2, 4)]
)
def test_a_callback_that_returns_true_ends_the_training_with_the_weights_of_that_moment(
    name: str, epoch: int, step: int
) -> None:
    seen: list[list[Tensor]] = []
    config = RecoveryConfig(epochs=4, batch_size=16)
    finetune(whole := plain_network(), task(), config, on_step=lambda _: seen.append(weights(whole)))
    summary = finetune(ended := plain_network(), task(), config, **{name: ends_after(epoch, step)})
    assert equal(weights(ended), seen[4 * (epoch - 1) + step - 1])
    assert not equal(weights(ended), weights(whole))
    assert summary.stopped.startswith(f"epoch {epoch}")
    assert summary.epochs == len(summary.losses) == (epoch if step == 4 else epoch - 1)


@pytest.mark.parametrize("answer", [None, False, 1, "yes", object(), [True]])
def test_what_else_a_callback_returns_does_not_end_it(answer: object) -> None:
    config = RecoveryConfig(epochs=2, batch_size=32)
    summary = finetune(plain_network(), task(), config, on_step=lambda _: answer, on_epoch=lambda _: answer)
    assert (summary.epochs, summary.stopped) == (2, "")


def test_numpys_true_ends_it_too() -> None:
    config = RecoveryConfig(epochs=2, batch_size=32)
    assert finetune(plain_network(), task(), config, on_epoch=lambda _: np.float64(1) > 0).epochs == 1


@pytest.mark.parametrize("ended", [ends_after(2, 2), ends_after(2, 4)])
def test_a_training_that_was_ended_is_not_gone_on_with(ended: Any, tmp_path: Path) -> None:
    config, checkpoint = RecoveryConfig(epochs=4, batch_size=16), Checkpoint(tmp_path / "c")
    first = finetune(one := plain_network(), task(), config, checkpoint=checkpoint, on_step=ended)
    again = finetune(other := plain_network(1), task(), config, checkpoint=checkpoint)
    assert equal(weights(one), weights(other))
    assert (again.stopped, again.losses) == (first.stopped, first.losses)


def no_longer_improves(progress: Progress) -> bool:
    scores = progress.val_accuracies
    return len(scores) > 1 and scores[-1] <= max(scores[:-1])


@pytest.mark.parametrize("at", [3, 4, 6])
def test_a_run_that_is_interrupted_ends_as_early_and_with_the_same_weights(at: int, tmp_path: Path) -> None:
    options = BRIEF | {"epochs": 12, "on_epoch": no_longer_improves}
    undisturbed = secateur.prune(plain_network(), task(), **options)
    steps: list[Progress] = []

    def interrupted(progress: Progress) -> None:
        steps.append(progress)
        if len(steps) == at:
            raise Stopped("as by a signal")

    with pytest.raises(Stopped):
        secateur.prune(plain_network(), task(), out=tmp_path / "run", on_step=interrupted, **options)
    resumed = secateur.prune(plain_network(), task(), out=tmp_path / "run", resume=True, **options)
    assert equal(weights(resumed.model), weights(undisturbed.model))
    (note,) = [n for n in resumed.report["splits"]["notes"] if "A callback ended the fine-tuning" in n]
    assert note in undisturbed.report["splits"]["notes"]
    assert len(resumed.report["recovery"]["losses"]) < 12
    assert resumed.report["recovery"]["losses"] == undisturbed.report["recovery"]["losses"]


def test_callbacks_change_nothing_if_they_end_nothing() -> None:
    plain = secateur.prune(plain_network(), task(), **BRIEF)
    watched = secateur.prune(
        plain_network(), task(), on_step=lambda _: None, on_epoch=lambda _: None, **BRIEF
    )
    assert equal(weights(plain.model), weights(watched.model))
