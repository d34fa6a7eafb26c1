"""The work that tests give to ranks, which import it by name."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import secateur
from secateur.envs.modules.digest import weights_digest
from secateur.envs.modules.ranks import (
    any_rank,
    broadcast,
    first_decides,
    gather,
    in_unison,
    is_first,
    one_first,
    rank,
    ranks,
    together,
)
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.checkpoint import Checkpoint, Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.data_parallel import SharedStep
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import Accuracy, ClassificationTask, LoaderTask, get_task, measure
from secateur.envs.tasks.passes import DataError

IN_FLOAT32 = partial(mock.patch, "secateur.envs.modules.precision.working_dtype", return_value=torch.float32)
"""bfloat16 rounds the gradients of each share by itself."""


def use_everything() -> dict[str, Any]:
    """Call every function of the ranks; return what this rank has got."""
    got: dict[str, Any] = {
        "broadcast": broadcast(f"from {rank()}"),
        "gather": gather(rank() * 10),
        "any": (any_rank(False), any_rank(rank() == 1)),
        "decided": first_decides(lambda: os.getpid()),
        "pid": os.getpid(),
    }
    got["decided error"] = _error(lambda: first_decides(partial(_fail, "decided on", rank())))
    got["together"] = _error(lambda: _fail_together(1))
    seen: list[int] = []
    got["in unison"] = _error(lambda: seen.extend(in_unison(_failing_numbers(fails=rank() == 1))))
    got["seen"] = seen
    with one_first():
        if rank() == 0:
            time.sleep(0.2)
        got["entered"] = time.monotonic()
    return got


def _fail(what: str, number: int) -> None:
    raise ValueError(f"{what} {number}")


def _fail_together(number: int) -> None:
    with together():
        if rank() == number:
            _fail("together with", number)


def _failing_numbers(*, fails: bool) -> Any:
    yield from (0, 1)
    if fails:
        raise DataError("a file vanished")
    yield 2


def _error(function: Callable[[], Any]) -> str:
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def network(dropout: float = 0.0, *, batchnorm: bool = False) -> nn.Module:
    """Build a small network for digits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6) if batchnorm else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(96, 10),
        )


def few_digits() -> ClassificationTask:
    """Keep 200 digits for training, augmented by random crops."""
    digits = get_task("digits", root=Path())
    train = digits.splits["train"].take(torch.arange(0, 1000, 5))
    return dataclasses.replace(digits, splits={**digits.splits, "train": train})


class TwoHeads(nn.Module):
    """A network one of whose two answers does not count in the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.other = network()[:7], nn.Linear(96, 10), nn.Linear(96, 3)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(inputs)
        return self.head(features), self.other(features)


def gradients_of(examples: int) -> tuple[float, dict[str, Tensor]]:
    """Return loss and gradients of a batch of digits in float64, each rank with its share."""
    torch.manual_seed(rank())
    model = TwoHeads().double()
    with torch.no_grad():  # ranks begin with rank 0's weights, whatever theirs are
        model.head.weight += rank()
    inputs, targets = few_digits().batch("train", torch.arange(examples))
    share = torch.arange(examples).tensor_split(ranks())[rank()]
    chosen = share if len(share) else torch.arange(1)
    step = SharedStep(model, lambda inputs, targets: F.cross_entropy(model(inputs.double())[0], targets))
    loss = step(inputs[chosen], targets[chosen], len(share) / examples)
    loss.backward()
    return loss.item(), {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }


def train(
    checkpoint: Path | None = None,
    stop: tuple[int, int] | None = None,
    dropout: float = 0.0,
    *,
    batchnorm: bool = False,
    batch_size: int = 64,
) -> dict[str, Any]:
    """Fine-tune for two epochs; stop if asked to after a step, if a rank of that number says so."""
    model, task, steps = network(dropout, batchnorm=batchnorm), few_digits(), [0]

    def on_step(progress: Progress) -> None:
        steps[0] += 1
        if stop is not None and any_rank(stop == (steps[0], rank())):
            raise Stopped

    config = RecoveryConfig(epochs=2, batch_size=batch_size, learning_rate=0.05)
    saved = None if checkpoint is None else Checkpoint(checkpoint)
    losses: tuple[float, ...] = ()
    # bfloat16 rounds the gradients of each share by itself.
    in_float32 = IN_FLOAT32()
    with contextlib.suppress(Stopped), in_float32:
        losses = finetune(model, task, config, checkpoint=saved, on_step=on_step, seed=3).losses
    return {"steps": steps[0], "losses": losses, "weights": model.state_dict()}


def measured(limit: int | None = None) -> Any:
    """Measure a network on test, in batches that do not divide it."""
    found = measure(network(), get_task("digits", root=Path()), "test", batch_size=50, by_example=True)
    return dataclasses.asdict(found)


def measured_stream(limit: int | None = None) -> Any:
    """Measure a network on a stream, in batches that do not divide it."""
    inputs, targets = get_task("digits", root=Path()).batch("test", torch.arange(330))
    data = _Stream(list(zip(inputs, targets.tolist(), strict=True)))
    task = LoaderTask(
        train=data, val=data, test=data, loss=F.cross_entropy, metric=Accuracy(), in_memory="never"
    )
    found = measure(network(), task, "test", batch_size=50, limit=limit, by_example=True)
    return dataclasses.asdict(found)


class _Stream(IterableDataset[Any]):
    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Any:
        return iter(self._rows)


def train_with_callbacks(on: str) -> tuple[int, str, str]:
    """Recover with a callback that one rank has, or ends; return its calls, what it saw, and the weights."""
    seen: list[Progress] = []

    def end_on_rank_1(progress: Progress) -> bool:
        seen.append(progress)
        return rank() == 1 and len(seen) == 3

    model, task = network(), few_digits()
    callbacks: dict[str, Any] = {"on_step": end_on_rank_1} if on == "steps" else {}
    if on == "epochs of rank 0" and is_first():
        callbacks["on_epoch"] = seen.append
    secateur.recover(model, task, epochs=2, batch_size=64, **callbacks)
    return len(seen), str(seen[-1].val_accuracies if seen else ()), weights_digest(model)


def average_without_reestimation() -> str:
    """Train with an average of the weights and per-rank batch-norm; return a hash of the network."""
    model = network(batchnorm=True)
    finetune(model, few_digits(), RecoveryConfig(epochs=1, batch_size=64, ema_decay=0.9))
    return weights_digest(model)


def train_on_vanishing_data(checkpoint: Path) -> str:
    """Train on data that cannot be read on one rank in the third step."""
    task = few_digits()

    class Vanishing:
        reads = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(task, name)

        def loader(self, passed: Any) -> Any:
            for number, share in enumerate(passed.shares):
                if number == 2 and passed.rank == 1:
                    raise DataError("img.png vanished")
                yield task.batch("train", share)

    config = RecoveryConfig(epochs=1, batch_size=32)
    return _error(lambda: finetune(network(), Vanishing(), config, checkpoint=Checkpoint(checkpoint)))


def train_with(options: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune with options of :func:`train`."""
    return train(**options)


class _Failing:
    """A task whose loss fails on one rank, in the first epoch of a training."""

    rank: int

    def __init__(self) -> None:
        self._task, self._steps = few_digits(), 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._task, name)

    def to(self, device: torch.device) -> _Failing:
        return self

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self._steps += outputs.requires_grad
        if self._steps == 10 and rank() == self.rank:
            raise ValueError(f"the loss fails on rank {self.rank}")
        return self._task.loss(outputs, targets)


class Failing0(_Failing):
    rank = 0


class Failing1(_Failing):
    rank = 1
