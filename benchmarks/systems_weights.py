"""What the systems promise that prune single weights: claims of ``systems.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.systems.base import Job, System
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.sparsity import prunable_weights, sparsity
from secateur.envs.tasks import measure
from secateur.envs.tracing import trace

if TYPE_CHECKING:
    from systems import Bench

HAN_EPOCHS = {"lenet300": 16, "lenet5": 6}
"""Passes over the training images for all rounds of Han et al."""

HAN_RATE = 0.05
"""Largest learning rate of each round. On val LeNet-300-100 loses less than with 0.02, the default."""

GRADUAL_EPOCHS = 4
FLOOR_SHARES = (0.5, 0.2, 0.1, 0.05)
FLOOR = ("random-weights", "threshold", "magnitude-layer", "magnitude-global")


def han(bench: Bench, seed: int) -> dict[str, float]:
    """Prune LeNet-300-100 and LeNet-5 to a twelfth of the weights, as Han et al. 2015 in tables 3 and 4."""
    found = {}
    for name, epochs in HAN_EPOCHS.items():
        model = bench.dense(name, seed)
        pruned = _pruned(bench, SYSTEMS["iterative"], name, seed, 1 / 12, epochs, HAN_RATE)
        dense, after = _accuracy(bench, name, model), _accuracy(bench, name, pruned)
        found |= {
            f"{name} dense": dense,
            f"{name} pruned": after,
            f"{name} drop": dense - after,
            f"{name} times fewer weights": 1 / (1 - sparsity(pruned)),
        }
    return found


def gradual(bench: Bench, seed: int) -> dict[str, float]:
    """Compare gradual pruning with one shot, and a large sparse network with a small dense one."""
    name, share = "lenet300", 0.1
    found = {"dense": _accuracy(bench, name, bench.dense(name, seed))}
    for left in (share, share / 2):
        both = [
            _accuracy(bench, name, _pruned(bench, SYSTEMS[key], name, seed, left, GRADUAL_EPOCHS))
            for key in ("gradual", "magnitude-global")
        ]
        at = f"at {100 * left:g} %"
        found |= {f"gradual {at}": both[0], f"one shot {at}": both[1], f"gain {at}": both[0] - both[1]}
    small = _mlp(share, seed)
    passes = bench.dense_epochs(name) + GRADUAL_EPOCHS
    finetune(small, bench.task, RecoveryConfig.from_scratch(passes), seed=seed)
    weights = [
        sum(weight.numel() for weight in prunable_weights(model).values())
        for model in (small, bench.dense(name, seed))
    ]
    return found | {
        f"small dense with {100 * share:g} %": _accuracy(bench, name, small.eval()),
        "its share of the weights": weights[0] / weights[1],
    }


def floor(bench: Bench, seed: int) -> dict[str, float]:
    """Prune LeNet-300-100 by four criteria to four sizes, and train for one epoch."""
    return {
        f"{system} at {100 * share:g} %": _accuracy(
            bench, "lenet300", _pruned(bench, SYSTEMS[system], "lenet300", seed, share, 1)
        )
        for share in FLOOR_SHARES
        for system in FLOOR
    }


def _pruned(
    bench: Bench,
    system: System,
    name: str,
    seed: int,
    share: float,
    epochs: int,
    rate: float | None = None,
) -> nn.Module:
    task, model = bench.task_of(name), bench.dense(name, seed)
    network = trace(model, task.batch("train", torch.arange(2))[0])
    # No teacher, as in the papers.
    config = PruningConfig(epochs=epochs, seed=seed, learning_rate=rate, distillation_weight=0.0)
    return system(Job(name, model, task, network, share, config)).model


def _accuracy(bench: Bench, name: str, model: nn.Module) -> float:
    return measure(model, bench.task_of(name), "test").accuracy


def _mlp(share: float, seed: int) -> nn.Module:
    """Build the multi-layer perceptron in LeNet-300-100's proportions with a share of its weights."""
    torch.manual_seed(seed)
    pixels, classes, total = 28 * 28, 10, 28 * 28 * 300 + 300 * 100 + 100 * 10
    width = min(
        range(1, 101),
        key=lambda k: abs(pixels * 3 * k + 3 * k * k + k * classes - share * total),
    )
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, 3 * width),
        nn.ReLU(),
        nn.Linear(3 * width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


CLAIMS: dict[str, Callable[[Bench, int], dict[str, float]]] = {
    "han": han,
    "gradual": gradual,
    "floor": floor,
}
