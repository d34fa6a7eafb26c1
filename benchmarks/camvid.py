"""SegNet on CamVid: dense, then pruned to half of its MACs and recovered.

    python benchmarks/camvid.py camvid-240x180.tar --runs runs/camvid

A method such as ppo or l2-uniform prunes the whole network at once; with the suffix -layerwise it prunes
layer by layer, with one epoch of fine-tuning after each. Both have the same total number of fine-tuning
epochs, and so has ``dense``, which keeps all filters and shows the effect of longer training alone.
Layer-wise pruning measures many more candidates, so it uses fewer images for each.

The data are a tar file or a folder with train/, val/ and test/, each with images/ and masks/; label 11 is
ignored. The dense network is trained once, then each method prunes it. Finished runs are not repeated,
interrupted ones are moved aside. The script prints mean IoU and IoU per class, dense and pruned. It draws
three test images with their true masks and the predictions of the dense network and of the first method's.
"""

import argparse
import dataclasses
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.agent.commands import Prune
from secateur.agent.deciders.names import PPO
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, device, load_task, train_dense_network
from secateur.agent.run.folder import RunFolder
from secateur.envs.models import get_model
from secateur.envs.modules.outputs import main_output
from secateur.envs.surgery.cutting import load_pruned
from secateur.envs.tasks import SegmentationTask
from secateur.envs.tracing import trace

CLASSES = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
]
VOID = 11
LAYERWISE = "-layerwise"
DENSE = "dense"
# The data set's own colours; ignored pixels are black.
COLOURS = [
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0),
]  # fmt: skip
PICTURES = 3


def main() -> None:
    """Do the missing runs, then print the tables and draw the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="tar file or folder of the data")
    parser.add_argument("--runs", type=Path, required=True, help="folder for all results")
    parser.add_argument("--model", default="segnet16")
    parser.add_argument("--target-macs", type=float, default=0.5)
    parser.add_argument("--methods", nargs="+", default=["ppo", "ppo-layerwise", DENSE])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--dense-epochs", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=30, help="total fine-tuning epochs per run")
    parser.add_argument("--evaluations", type=int, default=300, help="candidates that PPO measures")
    parser.add_argument(
        "--layer-evaluations",
        type=int,
        default=48,
        help="candidates that PPO measures per layer, with -layerwise",
    )
    parser.add_argument(
        "--layer-images", type=int, default=16, help="validation images per candidate, with -layerwise"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    data = DataConfig(
        task="segmentation",
        data=str(unpacked(args.data, args.runs)),
        ignore_label=VOID,
        balance_classes=True,
        augment="flip-crop",
    )
    weights = trained(args, data)
    reports = {
        (method, seed): pruned(args, data, weights, method, seed)
        for seed in args.seeds
        for method in args.methods
    }
    print_tables(reports)
    if args.json:
        rows = [flat(args.model, *run, report) for run, report in reports.items()]
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    draw(args, data, weights, run_of(args, args.methods[0], args.seeds[0]))


def unpacked(data: Path, runs: Path) -> Path:
    """Unpack a tar file next to the runs and name its classes; return a folder unchanged."""
    if data.is_dir():
        return data
    folder = runs / "data"
    if not (folder / "classes.txt").is_file():
        with tarfile.open(data) as tar:
            tar.extractall(folder, filter="data")
        (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def trained(args: argparse.Namespace, data: DataConfig) -> Path:
    """Train the dense network, unless its weights exist."""
    folder = args.runs / f"{args.model}-dense"
    weights = folder / "dense.safetensors"
    if not weights.is_file():
        move_aside(folder)
        task = load_task(data, seed=0)
        model = build_dense_network(args.model, task, None, seed=0)
        began = time.perf_counter()
        config = Prune(model=args.model, data=data, dense_epochs=args.dense_epochs)
        train_dense_network(model, task, args.dense_epochs, 0, RunFolder(folder, config), "dense")
        print(f"trained {args.model} in {time.perf_counter() - began:.0f} s")
    return weights


def pruned(
    args: argparse.Namespace, data: DataConfig, weights: Path, method: str, seed: int
) -> dict[str, Any]:
    """Prune and recover, unless the report exists, and read the report."""
    out = run_of(args, method, seed)
    if not (out / "report.json").is_file():
        move_aside(out)
        whole = Prune(
            model=args.model,
            data=data,
            weights=str(weights),
            target_macs=1.0 if method == DENSE else args.target_macs,
            method="l2-uniform" if method == DENSE else method.removesuffix(LAYERWISE),
            evaluations=args.evaluations if _learns(method) else None,
            epochs=args.epochs,
            seed=seed,
            out=out,
        )
        (layerwise(args, data, whole) if method.endswith(LAYERWISE) else whole).run()
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def _learns(method: str) -> bool:
    return method.removesuffix(LAYERWISE) == PPO


def layerwise(args: argparse.Namespace, data: DataConfig, whole: Prune) -> Prune:
    """Convert the options of a whole-network run to layer-wise pruning, with the same total epochs."""
    task = load_task(data, seed=0)
    model = get_model(args.model, num_classes=task.num_outputs, in_channels=3)
    layers = len(trace(model, torch.zeros(2, *task.input_shape)).layers)
    if args.epochs < layers:
        raise SystemExit(f"{layers} layers take an epoch each; give --epochs at least that")
    return dataclasses.replace(
        whole,
        procedure="layerwise",
        evaluations=layers * args.layer_evaluations if whole.method == PPO else None,
        search_images=args.layer_images,
        layer_epochs=1,
        epochs=args.epochs - layers,
    )


def run_of(args: argparse.Namespace, method: str, seed: int) -> Path:
    """Return the folder of a run."""
    runs: Path = args.runs
    return runs / f"{args.model}-{method}-seed{seed}"


def move_aside(folder: Path) -> None:
    """Rename the folder of an interrupted run; nothing is deleted."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}-unfinished-{time.time_ns()}"))


def print_tables(reports: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Print two Markdown tables: one row per run, and one row per class."""
    print("\n| network | seed | mean IoU, % | MACs left | parameters left | search, s | recovery, s |")
    print("|---|---|---|---|---|---|---|")
    first = next(iter(reports.values()))
    print(f"| dense | - | {first['dense']['accuracy']:.2f} | 100 % | 100 % | - | - |")
    for (method, seed), report in reports.items():
        shown = "dense, trained on" if method == DENSE else method
        ratios, search = report["ratios"], report["search"]
        recovery = report["recovery"]["seconds"] + search.get("finetuning_seconds", 0.0)
        print(
            f"| {shown} | {seed} | {report['pruned']['accuracy']:.2f} | {ratios['macs']:.1%} "
            f"| {ratios['params']:.1%} | {search['seconds']:.0f} | {recovery:.0f} |"
        )
    names = [f"{'trained on' if method == DENSE else method}, seed {seed}" for method, seed in reports]
    print(f"\n| IoU, % | dense | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for k, row in enumerate(first["details"]):
        values = [row["dense"], *(report["details"][k]["pruned"] for report in reports.values())]
        shown = ["-" if value is None else f"{value:.1f}" for value in values]
        print(f"| {row['name']} | {' | '.join(shown)} |")


def flat(model: str, method: str, seed: int, report: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a report."""
    sides = ("dense", "pruned")
    classes = {f"{side} {row['name']}": row[side] for side in sides for row in report["details"]}
    return {
        "model": model,
        "method": method,
        "seed": seed,
        **{f"{side} mean IoU": report[side]["accuracy"] for side in sides},
        **{f"{size} ratio": report["ratios"][size] for size in ("macs", "params")},
        "search seconds": report["search"]["seconds"],
        "recovery seconds": report["recovery"]["seconds"] + report["search"].get("finetuning_seconds", 0.0),
        **classes,
    }


def draw(args: argparse.Namespace, data: DataConfig, weights: Path, run: Path) -> None:
    """Save pictures of three test images, their true masks, and dense and pruned predictions."""
    paths = [args.runs / f"{args.model}-picture{k}.png" for k in range(1, PICTURES + 1)]
    if all(path.is_file() for path in paths):
        return
    task = load_task(data, seed=0)
    assert isinstance(task, SegmentationTask)
    classes = task.num_outputs
    dense = get_model(args.model, num_classes=classes, in_channels=3, weights=weights)
    smaller = load_pruned(lambda: get_model(args.model, num_classes=classes, in_channels=3), run)
    part = task.splits["test"]
    for k, path in enumerate(paths):
        index = torch.tensor([(2 * k + 1) * len(part) // (2 * PICTURES)])
        inputs, masks = task.batch("test", index)
        answers = [answer(network, inputs) for network in (dense, smaller)]
        image = part.images[index][0].permute(1, 2, 0).cpu().numpy()
        told = masks[0].cpu().numpy()
        save_picture(path, [image, coloured(told), *map(coloured, answers)])
    print(f"\npictures: {', '.join(map(str, paths))}")


@torch.inference_mode()
def answer(network: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """Return the predicted class of each pixel, (H, W)."""
    found: np.ndarray = main_output(network.to(device()).eval()(inputs)).argmax(1)[0].cpu().numpy()
    return found


def coloured(classes: np.ndarray) -> np.ndarray:
    """Convert class indices (H, W) to colours (H, W, 3), uint8."""
    return np.array(COLOURS, np.uint8)[np.minimum(classes, VOID)]


def save_picture(path: Path, panels: list[np.ndarray]) -> None:
    """Save panels side by side with their titles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.6), layout="constrained")
    for axes, panel, title in zip(
        figure.subplots(1, 4), panels, ("image", "truth", "dense", "pruned"), strict=True
    ):
        axes.imshow(panel, interpolation="nearest")
        axes.set_title(title)
        axes.axis("off")
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    figure.savefig(aside, dpi=100, format="png")
    aside.replace(path)


if __name__ == "__main__":
    main()
