"""What recipes of the recovery give, after few and after many epochs.

    python benchmarks/recipes.py --data cifar10-folder --json benchmarks/recipes.json

A ResNet-20 for images of 16x16 pixels is trained on 10,000 images of CIFAR-10 and cut to 35 % of its MACs by
``l2-uniform``. It is fine-tuned on 5,000 of the images with the dense network as its teacher. Each recipe
keeps the average of the weights; the last weights are measured, too. Both are measured on test, which decides
nothing here.
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import nn

import secateur
from secateur.envs.models import get_model
from secateur.envs.modules.copying import replica
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import Task, get_task, measure

RECIPES: dict[str, dict[str, Any]] = {
    "one-cycle, 0.02, teacher 0.5": {"schedule": "one-cycle", "distillation_weight": 0.5},
    "rewinding, 0.1, teacher 0.5": {"schedule": "rewinding", "distillation_weight": 0.5},
    "rewinding, 0.1, teacher 0.9": {"schedule": "rewinding", "distillation_weight": 0.9},
}
EMA_DECAY = {10: 0.99, 50: 0.999}
DENSE_IMAGES, IMAGES = 10_000, 5_000


def recovered(
    model: nn.Module, teacher: nn.Module, task: Task, config: RecoveryConfig, seed: int
) -> dict[str, float]:
    """Fine-tune a copy, and return the test accuracy of the averaged and of the last weights, percent."""
    model, last = replica(model), replica(model)

    def note(progress: Progress) -> None:
        if progress.epoch == progress.epochs:
            last.load_state_dict(model.state_dict())

    finetune(model, task, config, teacher=replica(teacher), seed=seed, on_epoch=note)
    accuracies = {}
    for name, network in (("averaged", model), ("last", last)):
        reestimate_batchnorm(network, task, seed=seed)
        accuracies[name] = measure(network, task, "test").accuracy
    return accuracies


def main() -> None:
    """Train, cut, recover and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of CIFAR-10")
    parser.add_argument("--epochs", type=int, nargs="+", default=sorted(EMA_DECAY))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()

    whole = get_task(args.data, root=Path(), augment="flip-crop", image_size=16)
    order = torch.randperm(whole.size("train"), generator=torch.Generator().manual_seed(0))
    large, task = (
        dataclasses.replace(
            whole, splits={**whole.splits, "train": whole.splits["train"].take(order[:images])}
        )
        for images in (DENSE_IMAGES, IMAGES)
    )
    torch.manual_seed(0)
    dense = get_model("resnet20", num_classes=10, in_channels=3)
    finetune(dense, large, RecoveryConfig.from_scratch(40))
    plan = secateur.search(dense.eval(), large, target_macs=0.35, method="l2-uniform")
    smaller = secateur.cut(dense, plan, task=large)
    print(f"dense: {measure(dense, large, 'test').accuracy:.2f} % on test", flush=True)
    rows = []
    for epochs in args.epochs:
        for name, options in RECIPES.items():
            config = RecoveryConfig(epochs=epochs, ema_decay=EMA_DECAY.get(epochs, 0.999), **options)
            found = [recovered(smaller, dense, task, config, seed) for seed in args.seeds]
            row: dict[str, Any] = {"epochs": epochs, "recipe": name}
            for kind in ("averaged", "last"):
                row[kind] = [accuracies[kind] for accuracies in found]
            rows.append(row)
            args.json.write_text(json.dumps(rows, indent=2) + "\n")
            print(f"| {epochs} | {name} | {_shown(row['last'])} | {_shown(row['averaged'])} |", flush=True)


def _shown(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


if __name__ == "__main__":
    main()
