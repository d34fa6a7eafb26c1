"""SegNet on CamVid: dense, then pruned to half of its MACs and recovered.

    python benchmarks/camvid.py camvid-240x180.tar --runs runs/camvid

A method such as ppo or l2-uniform prunes the whole network at once; with -layerwise at its end, layer after
layer with an epoch of fine-tuning after each. Both have the same epochs of fine-tuning in all, and so has
``dense``, which keeps every filter: what more training alone is worth. Layer by layer there are many more
candidates, so each is measured on fewer images.

The data are a tar or a folder with train/, val/ and test/, each with images/ and masks/, label 11 for what
does not count. The dense network is trained once, then every method prunes it; a run whose report is there is
not run again, one that was cut short is moved aside. Printed are dense and pruned mean IoU, and that of each
class; drawn are three test images beside their truth and the answers of the dense and of the first method's
network.
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
# The colours of the data set's own pictures; void is black.
COLOURS = [
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0),
]  # fmt: skip
PICTURES = 3


def main() -> None:
    """Do what is missing, then print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="tar or folder")
    parser.add_argument("--runs", type=Path, required=True, help="where everything goes")
    parser.add_argument("--model", default="segnet16")
    parser.add_argument("--target-macs", type=float, default=0.5)
    parser.add_argument("--methods", nargs="+", default=["ppo", "ppo-layerwise", DENSE])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--dense-epochs", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=30, help="of fine-tuning, all together")
    parser.add_argument("--evaluations", type=int, default=300, help="of PPO")
    parser.add_argument("--layer-evaluations", type=int, default=48, help="of PPO for a layer, if layerwise")
    parser.add_argument("--layer-images", type=int, default=16, help="of val for each of these")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()

    data = DataConfig(
        task="segmentation",
        data=str(unpacked(asked.data, asked.runs)),
        ignore_label=VOID,
        balance_classes=True,
    )
    weights = trained(asked, data)
    reports = {
        (method, seed): pruned(asked, data, weights, method, seed)
        for seed in asked.seeds
        for method in asked.methods
    }
    print_tables(reports)
    if asked.json:
        rows = [flat(asked.model, *run, report) for run, report in reports.items()]
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    draw(asked, data, weights, run_of(asked, asked.methods[0], asked.seeds[0]))


def unpacked(data: Path, runs: Path) -> Path:
    """Unpack a tar beside the runs and name its classes; leave a folder as it is."""
    if data.is_dir():
        return data
    folder = runs / "data"
    if not (folder / "classes.txt").is_file():
        with tarfile.open(data) as tar:
            tar.extractall(folder, filter="data")
        (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def trained(asked: argparse.Namespace, data: DataConfig) -> Path:
    """Train the dense network, unless it is there."""
    folder = asked.runs / f"{asked.model}-dense"
    weights = folder / "dense.safetensors"
    if not weights.is_file():
        move_aside(folder)
        task = load_task(data, seed=0)
        model = build_dense_network(asked.model, task, None, seed=0)
        began = time.perf_counter()
        config = Prune(model=asked.model, data=data, dense_epochs=asked.dense_epochs)
        train_dense_network(model, task, asked.dense_epochs, 0, RunFolder(folder, config), "dense")
        print(f"trained {asked.model} in {time.perf_counter() - began:.0f} s")
    return weights


def pruned(
    asked: argparse.Namespace, data: DataConfig, weights: Path, method: str, seed: int
) -> dict[str, Any]:
    """Prune and recover, unless the report is there, and read the report."""
    out = run_of(asked, method, seed)
    if not (out / "report.json").is_file():
        move_aside(out)
        whole = Prune(
            model=asked.model,
            data=data,
            weights=str(weights),
            target_macs=1.0 if method == DENSE else asked.target_macs,
            method="l2-uniform" if method == DENSE else method.removesuffix(LAYERWISE),
            evaluations=asked.evaluations if _learns(method) else None,
            epochs=asked.epochs,
            seed=seed,
            out=out,
        )
        (layerwise(asked, data, whole) if method.endswith(LAYERWISE) else whole).run()
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def _learns(method: str) -> bool:
    return method.removesuffix(LAYERWISE) == PPO


def layerwise(asked: argparse.Namespace, data: DataConfig, whole: Prune) -> Prune:
    """Turn a whole-network run into one layer by layer, with the same epochs in all."""
    task = load_task(data, seed=0)
    model = get_model(asked.model, num_classes=task.num_outputs, in_channels=3)
    layers = len(trace(model, torch.zeros(2, *task.input_shape)).layers)
    if asked.epochs < layers:
        raise SystemExit(f"{layers} layers take an epoch each; give --epochs at least that")
    return dataclasses.replace(
        whole,
        procedure="layerwise",
        evaluations=layers * asked.layer_evaluations if whole.method == PPO else None,
        search_images=asked.layer_images,
        layer_epochs=1,
        epochs=asked.epochs - layers,
    )


def run_of(asked: argparse.Namespace, method: str, seed: int) -> Path:
    """Name the folder of a run."""
    runs: Path = asked.runs
    return runs / f"{asked.model}-{method}-seed{seed}"


def move_aside(folder: Path) -> None:
    """Make room where an earlier attempt was cut short; nothing is deleted."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}-unfinished-{time.time_ns()}"))


def print_tables(reports: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Print Markdown: a line a run, then a line a class with every run beside the dense network."""
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
    """Make one row of a report."""
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


def draw(asked: argparse.Namespace, data: DataConfig, weights: Path, run: Path) -> None:
    """Save image, truth, dense and pruned answer of three test images, unless they are there."""
    paths = [asked.runs / f"{asked.model}-picture{k}.png" for k in range(1, PICTURES + 1)]
    if all(path.is_file() for path in paths):
        return
    task = load_task(data, seed=0)
    assert isinstance(task, SegmentationTask)
    classes = task.num_outputs
    dense = get_model(asked.model, num_classes=classes, in_channels=3, weights=weights)
    smaller = load_pruned(lambda: get_model(asked.model, num_classes=classes, in_channels=3), run)
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
    """Give the class of every pixel, (H, W)."""
    found: np.ndarray = main_output(network.to(device()).eval()(inputs)).argmax(1)[0].cpu().numpy()
    return found


def coloured(classes: np.ndarray) -> np.ndarray:
    """Paint class indices (H, W): (H, W, 3) uint8."""
    return np.array(COLOURS, np.uint8)[np.minimum(classes, VOID)]


def save_picture(path: Path, panels: list[np.ndarray]) -> None:
    """Put panels side by side under their names."""
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
