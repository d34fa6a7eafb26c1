"""Other pruning systems beside ours: same checkpoint, images and recovery.

    python -m venv peers-venv
    peers-venv/bin/pip install -r benchmarks/peers-requirements.txt .
    python benchmarks/peers.py resnet20 --weights resnet20-cifar10.safetensors --data cifar10-folder
    --target-macs 0.5 --epochs 1 --peer-python peers-venv/bin/python --json benchmarks/peers.json
    python benchmarks/peers.py --coverage --peer-python peers-venv/bin/python --json
    benchmarks/peers-coverage.json

The peers have an environment of their own. Their side is ``peer_cuts.py``: it gets the dense network and
images, and hands the cut network back. All networks are then recovered by ``secateur.recover`` with the same
options. *Before* is measured after batch-norm statistics were estimated again on the same images. Seconds are
those of the processor, on one thread, without imports. Rows that are in the JSON file are not measured again.
``--coverage`` asks of each network in a list whether it can be cut and is right then (``peer_coverage.py``).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import peer_coverage
import torch
from peer_cuts import PEERS, macs
from torch import Tensor, nn

import secateur
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.modules.copying import replica
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import Task, measure

OURS: dict[str, dict[str, Any]] = {
    "ours, quick": {"effort": "quick"},
    "ours, normal": {"effort": "normal"},
    "ours, fpgm-global alone": {"method": "fpgm-global"},
}
"""Options of our own rows."""

VAL_IMAGES, STATISTICS_BATCHES, BATCH = 512, 50, 40
"""Images on which FastNAS measures, and batches for its batch-norm statistics: it wants fifty, and ours are
estimated on as many images."""


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="resnet20")
    parser.add_argument("--weights", help="weights of the dense network")
    parser.add_argument("--data", help="folder of CIFAR-10")
    parser.add_argument("--target-macs", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, help="training images for all, drawn at random; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[*PEERS, *OURS], help="rows to measure")
    parser.add_argument("--coverage", action="store_true", help="which networks each can cut")
    parser.add_argument(
        "--peer-python", type=Path, required=True, help="interpreter of the peers' environment"
    )
    parser.add_argument("--json", type=Path, required=True, help="file of rows to read and extend")
    args = parser.parse_args()
    if args.coverage:
        for system in peer_coverage.SYSTEMS:
            python = sys.executable if system == peer_coverage.OURS else args.peer_python
            run(python, "peer_coverage.py", system, str(args.json))
        print(peer_coverage.table(peer_coverage.read(args.json)))
    elif not (args.weights and args.data):
        parser.error("give --weights and --data, or --coverage")
    else:
        rows = json.loads(args.json.read_text()) if args.json.is_file() else []
        for row in compared(args, rows):
            rows.append(row)
            save(args.json, rows)
        print_table(rows)


def compared(args: argparse.Namespace, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Cut, recover and measure, one row after the other."""
    for seed in args.seeds:
        identity = {
            "model": args.model,
            "weights": Path(args.weights).name,
            "target_macs": args.target_macs,
            "epochs": args.epochs,
            "images": args.images,
            "seed": seed,
        }
        missing = [
            system
            for system in args.only
            if not any((identity | {"system": system}).items() <= row.items() for row in rows)
        ]
        if not missing:
            continue
        task = load_task(DataConfig(data=args.data, augment="flip-crop", val_from="train"), seed)
        if args.images:
            order = torch.randperm(task.size("train"), generator=torch.Generator().manual_seed(seed))
            part = task.splits["train"].take(order[: args.images])
            task = dataclasses.replace(task, splits={**task.splits, "train": part})
        dense = build_dense_network(args.model, task, args.weights, seed=seed).eval()
        accuracy = measure(dense, task, "test").accuracy
        for system in missing:
            cut = ours if system in OURS else theirs
            found = cut(system, dense, task, args, seed)
            print(f"{system}, seed {seed}: {found.get('problem', 'cut')}", flush=True)
            smaller = found.pop("model", None)
            if smaller is not None:
                found |= {"dense": accuracy} | measured(smaller, dense, task, args.epochs, seed)
            yield identity | {"system": system} | found


def ours(system: str, dense: nn.Module, task: Task, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Search and cut with Secateur; also measure the cut network without compensation."""
    began = time.process_time()
    plan = secateur.search(dense, task, target_macs=args.target_macs, seed=seed, **OURS[system])
    smaller = secateur.cut(dense, plan, task=task)
    seconds = time.process_time() - began
    plain = secateur.cut(dense, plan, example=task.batch("val", torch.arange(2))[0])
    return {
        "model": smaller,
        "seconds": seconds,
        "version": secateur.__version__,
        "uncompensated": before_recovery(plain, task, seed),
    }


def theirs(system: str, dense: nn.Module, task: Task, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Let a peer cut the network in its own environment."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(task.size("train"), generator=generator)[: STATISTICS_BATCHES * BATCH]
    train = [
        _fast(task.batch("train", part, augment=True, generator=generator)[0]) for part in order.split(BATCH)
    ]
    inputs, labels = task.batch("val", torch.arange(min(VAL_IMAGES, task.size("val"))))
    traced = trace_exactly(dense, inputs[:2])
    request = {
        "peer": system,
        "model": replica(dense),
        "heads": [layer.name for layer in traced.pinned if layer.outputs],
        "macs_ratio": args.target_macs,
        "val": (_fast(inputs), labels),
        "train": train,
    }
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "request.pt"), Path(folder, "response.pt")
        torch.save(request, asked)
        run(args.peer_python, "peer_cuts.py", str(asked), str(answered))
        return torch.load(answered, weights_only=False)  # written by our own peer_cuts.py


def _fast(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def run(python: Path | str, script: str, *words: str) -> None:
    """Run a script of this folder with an interpreter, on one thread."""
    command = [str(python), str(Path(__file__).with_name(script)), *words]
    process = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: {process.stderr.strip()[-600:]}")


def measured(smaller: nn.Module, dense: nn.Module, task: Task, epochs: int, seed: int) -> dict[str, Any]:
    """Measure a cut network before and after the recovery, on test."""
    example = task.batch("val", torch.arange(2))[0]
    before = before_recovery(smaller, task, seed)
    began = time.process_time()
    secateur.recover(smaller, task, teacher=dense, epochs=epochs, seed=seed)
    seconds = time.process_time() - began
    params = [sum(p.numel() for p in model.parameters()) for model in (smaller, dense)]
    return {
        "before": before,
        "after": measure(smaller, task, "test").accuracy,
        "macs_ratio": macs(smaller, example) / macs(dense, example),
        "params_ratio": params[0] / params[1],
        "recovery_seconds": seconds,
        "torch": torch.__version__,
    }


def before_recovery(model: nn.Module, task: Task, seed: int) -> float:
    """Return the accuracy on test with batch-norm statistics estimated again, percent."""
    model = replica(model)
    reestimate_batchnorm(model, task, seed=seed)
    return measure(model, task, "test").accuracy


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows atomically."""
    write_atomically(path, lambda aside: aside.write_text(json.dumps(rows, indent=1) + "\n"))


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a Markdown table with mean and standard deviation over seeds."""
    kinds = ("model", "target_macs", "epochs", "images", "system")
    print(
        "\n| network | wanted | epochs | images | system | before, % | without compensation, % "
        "| after, % | MACs left | parameters left | seconds | measured | seeds |"
    )
    print("|---" * 13 + "|")
    rows = sorted(rows, key=lambda row: tuple(str(row[key]) for key in kinds))
    for kind, grouped in groupby(rows, key=lambda row: tuple(str(row[key]) for key in kinds)):
        group = list(grouped)
        start = f"| {' | '.join(kind)} |"
        if problems := [row["problem"] for row in group if "problem" in row]:
            print(f"{start} {problems[0]} |" + " |" * 7)
            continue
        cells = [
            _mean(group, "before", ".2f"),
            _mean(group, "uncompensated", ".2f"),
            _mean(group, "after", ".2f"),
            _mean(group, "macs_ratio", ".1%"),
            _mean(group, "params_ratio", ".1%"),
            _mean(group, "seconds", ".0f"),
            _mean(group, "evaluations", ".0f"),
        ]
        print(f"{start} {' | '.join(cells)} | {len(group)} |")


def _mean(rows: list[dict[str, Any]], key: str, style: str) -> str:
    values = [row[key] for row in rows if key in row]
    if not values:
        return ""
    spread = f" ± {format(statistics.stdev(values), style)}" if len(values) > 1 and style == ".2f" else ""
    return format(statistics.mean(values), style) + spread


if __name__ == "__main__":
    main()
