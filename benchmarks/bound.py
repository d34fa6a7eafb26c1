"""Whether a drop bound is kept on test, and how much smaller the network is than a uniform cut that keeps it.

    python benchmarks/bound.py --cifar10 cifar10-folder --data-root data --runs runs/bound
    --json benchmarks/bound.json --minutes 40

Twenty bounds on small networks that this script trains: digits (8 pixels), MNIST and CIFAR-10 (both at 16
pixels, with 3,000 of the training images, so that a job takes a minute). Each job is ``secateur.prune(...,
drop_bound=P, epochs=5)`` with a seed of its own, once with the agent that ships and a few heuristics, once
with ``method="l2-uniform"``: the smallest uniform cut that keeps the bound by the same checks and the same
recovery. Test is read once, for the report. Rows that the JSON file has are not repeated, and an interrupted
job is resumed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation

import secateur
from secateur.envs.io.tensor_files import read_tensors, write_tensors
from secateur.envs.models.cifar import CifarResNet
from secateur.envs.models.demo import DemoNet
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import ClassificationTask, get_task

EPOCHS, DENSE_EPOCHS, SEARCH_IMAGES = 5, 20, 64

METHODS = ("ppo", "l2-uniform")


@dataclass(frozen=True)
class Data:
    """A data set: its pixels, the share of train that is val, and the training images that are used."""

    pixels: int | None
    val: float
    train: int


DATA = {
    "digits": Data(None, 0.45, 800),
    "mnist": Data(16, 0.1, 3000),
    "cifar10": Data(16, 0.12, 3000),
}


def plain(num_classes: int, in_channels: int) -> nn.Module:
    """Build five convolutions without shortcuts, two of them with a stride."""
    layers: list[nn.Module] = []
    for width, stride in ((16, 2), (24, 1), (32, 2), (48, 1), (64, 1)):
        layers.append(Conv2dNormActivation(in_channels, width, stride=stride))
        in_channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


NETWORKS = {"demo": DemoNet, "resnet8": functools.partial(CifarResNet, 8), "plain": plain}

BOUNDS: tuple[tuple[str, str, float], ...] = (
    *(("digits", "demo", bound) for bound in (2, 3, 5, 10)),
    *(("digits", "plain", bound) for bound in (2, 3, 5, 10)),
    *(("mnist", "plain", bound) for bound in (0.5, 1, 2, 5)),
    *(("mnist", "resnet8", bound) for bound in (1, 2)),
    *(("cifar10", "plain", bound) for bound in (2, 3, 5, 10)),
    *(("cifar10", "resnet8", bound) for bound in (3, 5)),
)
"""Data, network, and largest drop in percentage points."""


@functools.cache
def load(name: str, root: Path, folder: Path | None) -> ClassificationTask:
    """Load a data set, from a folder if one is given, with fewer training images."""
    kind = DATA[name]
    task = get_task(
        str(folder) if folder else name,
        root=root,
        val_fraction=kind.val,
        image_size=kind.pixels,
        augment="flip-crop" if folder else "auto",
        in_memory="always",
    )
    train = task.splits["train"]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    return replace(task, splits={**task.splits, "train": train.take(order[: kind.train].sort().values)})


def dense(network: str, task: ClassificationTask, path: Path) -> nn.Module:
    """Train a dense network, or read the one that was trained before."""
    torch.manual_seed(0)
    model = NETWORKS[network](task.num_outputs, task.input_shape[0])
    if path.is_file():
        model.load_state_dict(read_tensors(path)[0])
    else:
        finetune(model, task, RecoveryConfig.from_scratch(DENSE_EPOCHS))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, model.state_dict())
    return model.eval()


def measure(
    data: str, network: str, bound: float, method: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Run one job, and return its row."""
    seed = BOUNDS.index((data, network, bound))
    task = load(data, arguments.data_root, arguments.cifar10 if data == "cifar10" else None)
    model = dense(network, task, arguments.runs / f"{data}-{network}.safetensors")
    began = time.process_time()
    report = secateur.prune(
        model,
        task,
        drop_bound=bound,
        epochs=EPOCHS,
        search_images=SEARCH_IMAGES,
        method=method,
        seed=seed,
        name=network,
        out=arguments.runs / f"{data}-{network}-{bound:g}-{method}",
        resume=True,
    ).report
    check = report["drop_bound"]["on_val"]
    return {
        "data": data,
        "network": network,
        "bound": bound,
        "method": method,
        "seed": seed,
        "dense_accuracy": report["dense"]["accuracy"],
        "macs_ratio": report["ratios"]["macs"],
        "params_ratio": report["ratios"]["params"],
        "drop_on_test": report["accuracy_drop"],
        "kept": report["accuracy_drop"] <= bound,
        "said": check["met"],
        "check": check,
        "chosen": report["method"],
        "cpu_seconds": round(time.process_time() - began, 1),
        "device": report["device"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table, the agent's beside the uniform cut's, and what they add up to."""
    lines = [
        "| data | network | dense, % | bound | MACs | drop on test | kept | said "
        "| MACs, uniform | drop on test | kept | said |",
        "|" + "---|" * 12,
    ]
    found = {(row["data"], row["network"], row["bound"], row["method"]): row for row in rows}
    pairs = []
    for key in BOUNDS:
        ours, uniform = (found.get((*key, method)) for method in METHODS)
        if ours is None:
            continue
        cells = _cells(ours) + (_cells(uniform) if uniform else ["-"] * 4)
        lines.append(
            f"| {key[0]} | {key[1]} | {ours['dense_accuracy']:.2f} | {key[2]:g} | {' | '.join(cells)} |"
        )
        if uniform:
            pairs.append((ours, uniform))
    for number, method in enumerate(METHODS):
        own = [row for row in rows if row["method"] == method]
        kept = sum(row["kept"] for row in own)
        lines.append(f"\n{method}: {kept} of {len(own)} kept on test; {_said(own)}")
        both = [pair for pair in pairs if all(row["said"] != "no" for row in pair)]
        if number == 0 and both:
            ratio = geometric_mean(ours["macs_ratio"] / uniform["macs_ratio"] for ours, uniform in both)
            lines.append(f"MACs beside the uniform cut, geometric mean of {len(both)}: {ratio:.2f} times")
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['macs_ratio']:.1%}".replace("%", " %"),
        f"{row['drop_on_test']:.2f}",
        "yes" if row["kept"] else "no",
        row["said"],
    ]


def _said(rows: list[dict[str, Any]]) -> str:
    counts = {said: sum(row["said"] == said for row in rows) for said in ("yes", "undecided", "no")}
    return ", ".join(f"{said} was said {count} times" for said, count in counts.items())


def main() -> None:
    """Run what is missing while there is time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--cifar10", type=Path, help="image folder; without it torchvision's data set is read"
    )
    parser.add_argument(
        "--data-root", type=Path, default=Path("data"), help="folder of torchvision's data sets"
    )
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no job begins after so long")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
    known = {(row["data"], row["network"], row["bound"], row["method"]) for row in rows}
    began = time.monotonic()
    for name, method in itertools.product(arguments.data, METHODS):
        for data, network, bound in BOUNDS:
            is_late = time.monotonic() - began > 60 * arguments.minutes
            if is_late or data != name or (data, network, bound, method) in known:
                continue
            rows.append(measure(data, network, bound, method, arguments))
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
