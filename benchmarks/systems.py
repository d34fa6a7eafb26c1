"""What each system of pruning promises, on small networks that this script trains.

    python benchmarks/systems.py --mnist mnist-folder --runs runs/systems --json benchmarks/systems.json

    python benchmarks/systems.py --mnist mnist-folder --runs runs/systems --json benchmarks/systems.json
    --claims gradual lottery --seeds 0 --minutes 20

A claim is a function in a ``systems_*.py`` beside this file; it gets a :class:`Bench` and a seed, and returns
its numbers. Claims and seeds with a row in the JSON file are not run again; dense networks are trained once
for each seed and kept. After ``--minutes`` no further claim begins; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import systems_blocks
import systems_int8
import systems_rank
import systems_tickets
import systems_weights
import torch
from torch import nn

from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.io.tensor_files import read_tensors, write_tensors
from secateur.envs.models import get_model
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import Task, get_task

DENSE_EPOCHS: Mapping[str, int] = {"lenet300": 12, "lenet5": 6, "demo": 30}
"""Epochs of the dense networks."""

DENSE_RATES: Mapping[str, float] = {"lenet5": 0.02}
"""Largest learning rates that differ from the recipe's: LeNet-5, which has no batch-norm, was measured so."""


@dataclass(frozen=True)
class Bench:
    """The data and the dense networks of all claims.

    Args:
        mnist: Folder of MNIST, as torchvision keeps it.
        runs: Folder for the dense networks and for what claims keep.
    """

    mnist: Path
    runs: Path

    @cached_property
    def digits(self) -> Task:
        """scikit-learn's digits, 8x8 pixels, for the demo network."""
        return get_task("digits", root=Path())

    @cached_property
    def task(self) -> Task:
        """MNIST, with a part of train as val."""
        return get_task("mnist", root=self.mnist, val_from="train")

    def task_of(self, name: str) -> Task:
        """Return the data of a network."""
        return self.task if name.startswith("lenet") else self.digits

    def dense(self, name: str, seed: int) -> nn.Module:
        """Return a trained dense network, in evaluation mode."""
        task, file = self.task_of(name), self.runs / f"{name}-{seed}.safetensors"
        model = self.untrained(name, seed)
        if file.is_file():
            model.load_state_dict(read_tensors(file)[0])
        else:
            recipe = RecoveryConfig.from_scratch(DENSE_EPOCHS[name])
            recipe = replace(recipe, learning_rate=DENSE_RATES.get(name, recipe.learning_rate))
            finetune(model, task, recipe, seed=seed)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(file, model.state_dict())
        return model.eval()

    def dense_epochs(self, name: str) -> int:
        """Return the passes over the training images of :meth:`dense`."""
        return DENSE_EPOCHS[name]

    def untrained(self, name: str, seed: int) -> nn.Module:
        """Return a network with the random weights that :meth:`dense` begins with."""
        task = self.task_of(name)
        torch.manual_seed(seed)
        return get_model(name, num_classes=task.num_outputs, in_channels=task.input_shape[0])


Claim = Callable[[Bench, int], dict[str, float]]
"""Measures what a system promises, for one seed."""

CLAIMS: dict[str, Claim] = {
    **systems_weights.CLAIMS,
    **systems_tickets.CLAIMS,
    **systems_blocks.CLAIMS,
    **systems_rank.CLAIMS,
    **systems_int8.CLAIMS,
}
"""The claims by name, in the order of the table."""


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True, help="folder of MNIST")
    parser.add_argument("--runs", type=Path, required=True, help="folder for dense networks")
    parser.add_argument("--claims", nargs="+", choices=CLAIMS, default=list(CLAIMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=math.inf, help="no claim begins after this time")
    parser.add_argument("--json", type=Path, required=True, help="JSON file of rows to read and extend")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench, until = Bench(args.mnist, args.runs), time.monotonic() + 60 * args.minutes
    rows = json.loads(args.json.read_text()) if args.json.is_file() else []
    for name in args.claims:
        for seed in args.seeds:
            is_there = any(row["claim"] == name and row["seed"] == seed for row in rows)
            if is_there or time.monotonic() > until:
                continue
            start = time.process_time()
            found = CLAIMS[name](bench, seed)
            seconds = round(time.process_time() - start)
            rows.append({"claim": name, "seed": seed, "seconds": seconds, "found": found})
            write_atomically(args.json, lambda path: path.write_text(json.dumps(rows, indent=1) + "\n"))
            print(f"{name}, seed {seed}: {found} ({seconds} s)", flush=True)
    print_table(rows)


def print_table(rows: list[dict[str, object]]) -> None:
    """Print each number of each claim, as mean and deviation over the seeds."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        numbers = row["found"]
        assert isinstance(numbers, dict)
        for key, value in numbers.items():
            found.setdefault((str(row["claim"]), key), []).append(value)
    print("| claim | number | mean | deviation | seeds |\n|---|---|---|---|---|")
    for (claim, key), values in found.items():
        deviation = f"{statistics.stdev(values):.3f}" if len(values) > 1 else ""
        print(f"| {claim} | {key} | {statistics.mean(values):.3f} | {deviation} | {len(values)} |")


if __name__ == "__main__":
    main()
