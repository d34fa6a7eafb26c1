"""Candidates per second: the evaluator, the usual way of RL pruners, and the machine's ceiling.

    python benchmarks/evaluation.py resnet20 resnet56 vgg16 --data cifar10-folder --weights
    resnet20-cifar10.safetensors resnet56-cifar10.safetensors vgg16-cifar10.safetensors

The usual way: a deep copy of the dense network, filters masked, float32, the default layout, one candidate
at a time, in batches of each of the given sizes. The evaluator gets all candidates in one call, as many as
episodes in lock-step end together. Both take batch-norm statistics from the same training images (or
neither does), measure on the same validation images and have the same threads. They take turns in one
process; a ratio is that of the medians, its spread the smallest and the largest of the turns, against the
best batch. The ceiling is the rate of a bfloat16 matrix product in the same turns; a candidate counts for
what the masked dense network computes, so work that is skipped raises the share. Only figures from an idle
machine mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, device, load_task
from secateur.envs.cost.counts import cost
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.cutting import mask_
from secateur.envs.surgery.plan import Mask, PruningPlan

SIDE = 2048
"""Rows and columns of the matrices whose product gives the ceiling."""


def whole_network(problem: PruningProblem, target: float, count: int) -> list[list[Mask]]:
    """Sample random candidates of a given size that have nothing in common."""
    return [Baseline("random", "global", seed).decide(problem, target, "macs")[0] for seed in range(count)]


def one_layer(problem: PruningProblem, target: float, count: int) -> list[list[Mask]]:
    """Sample candidates that keep half of the middle layer and differ only there."""
    (base,) = whole_network(problem, target, 1)
    middle = len(base) // 2
    drawn = np.random.default_rng(0)
    candidates = []
    for _ in range(count):
        candidate = [mask.copy() for mask in base]
        candidate[middle][:] = drawn.permutation(len(base[middle])) < len(base[middle]) // 2
        candidates.append(candidate)
    return candidates


def usual_way(
    problem: PruningProblem, masks: Sequence[Mask], statistics: Tensor | None, images: int, batch: int
) -> float:
    """Measure one candidate as RL pruners usually do, and return its accuracy."""
    network, task = problem.network, problem.task
    model = replica(problem.model)
    mask_(model, network, PruningPlan.from_masks(network, masks))
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    chosen = torch.arange(images) * task.size("val") // images
    inputs, targets = task.batch("val", chosen)
    with torch.no_grad():
        if statistics is not None:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            for part in statistics.split(batch):
                model(part)
            model.eval()
        pairs = zip(inputs.split(batch), targets.split(batch), strict=True)
        return task.metric(sum(task.statistics(model(x), y) for x, y in pairs))  # type: ignore[arg-type]


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds of one call, including its work on a GPU."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(problem: PruningProblem, args: argparse.Namespace, which: str, images_bn: int) -> dict[str, Any]:
    """Time both ways and the matrix product in turn on one kind of candidates."""
    draw = whole_network if which == "whole network" else one_layer
    candidates = draw(problem, args.target_macs, args.candidates)
    pieces = problem.evaluator.bench.candidates.statistics_images
    statistics_images = torch.cat(pieces).float().contiguous() if pieces else None
    factor = torch.randn(SIDE, SIDE).to(device(), torch.bfloat16)
    jobs: dict[str, Callable[[], object]] = {
        "evaluator": lambda: problem.evaluator(candidates),
        "product": lambda: factor @ factor,
    }
    for batch in args.batches:
        jobs[f"usual_{batch}"] = lambda batch=batch: usual_way(  # type: ignore[misc]
            problem, candidates[0], statistics_images, args.images, batch
        )
    for job in jobs.values():
        job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(args.turns):
        for name, job in jobs.items():
            times[name].append(seconds(job) / (len(candidates) if name == "evaluator" else 1))
    middle = {name: statistics.median(taken) for name, taken in times.items()}
    best = min((name for name in times if name.startswith("usual")), key=middle.__getitem__)
    ratios = [u / e for u, e in zip(times[best], times["evaluator"], strict=True)]
    gflop = 2e-9 * cost(problem.network).macs * args.images
    ceiling = 2e-9 * SIDE**3 / middle["product"]
    return {
        "model": problem.name,
        "candidates": which,
        "statistics_images": images_bn,
        "threads": torch.get_num_threads(),
        "candidates_per_second": 1 / middle["evaluator"],
        **{f"{name}_per_second": 1 / middle[name] for name in times if name.startswith("usual")},
        "best_usual_batch": int(best.removeprefix("usual_")),
        "ratio": middle[best] / middle["evaluator"],
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        **{f"ratio_{name}": middle[name] / middle["evaluator"] for name in times if name.startswith("usual")},
        "product_gflops": ceiling,
        "share_of_product": gflop / middle["evaluator"] / ceiling,
    }


def print_table(rows: list[dict[str, Any]], batches: Sequence[int]) -> None:
    """Print a Markdown table."""
    heads = [f"usual, batch {batch}" for batch in batches]
    ratios = [f"ratio to {batch}" for batch in batches]
    print(
        f"\n| model | candidates | BN images | {' | '.join(heads)} | evaluator | {' | '.join(ratios)} "
        "| spread | of bf16 product |"
    )
    print("|---" * (6 + 2 * len(batches)) + "|")
    for row in rows:
        usual = " | ".join(f"{row[f'usual_{batch}_per_second']:.2f}" for batch in batches)
        ratio = " | ".join(f"{row[f'ratio_usual_{batch}']:.1f}" for batch in batches)
        print(
            f"| {row['model']} | {row['candidates']} | {row['statistics_images']} | {usual} "
            f"| {row['candidates_per_second']:.1f} | {ratio} "
            f"| {row['ratio_lowest']:.1f}-{row['ratio_highest']:.1f} | {row['share_of_product']:.0%} |"
        )


def warn_if_busy() -> None:
    """Warn if the machine is busy, as this distorts all results."""
    load = os.getloadavg()[0]
    print(f"load average {load:.2f} on {os.cpu_count()} cores, {torch.get_num_threads()} threads a side")
    if load > 0.3:
        print("the machine is busy: do not use these figures", file=sys.stderr)


def main() -> None:
    """Measure all networks and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", nargs="+", help="one file per network; random by default")
    parser.add_argument("--images", type=int, default=512, help="validation images per candidate")
    parser.add_argument("--statistics-images", type=int, default=256)
    parser.add_argument("--candidates", type=int, default=16, help="candidates per call of the evaluator")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[128, 512], help="batch sizes of the usual way"
    )
    parser.add_argument("--target-macs", type=float, default=0.5)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    warn_if_busy()
    task = load_task(DataConfig(data=args.data, augment="flip-crop"), seed=0)
    rows = []
    for name, weights in zip(args.models, args.weights or [None] * len(args.models), strict=True):
        model = build_dense_network(name, task, weights, seed=0)
        for images_bn in dict.fromkeys((args.statistics_images, 0)):
            problem = PruningProblem.build(
                name,
                model,
                task,
                images=args.images,
                statistics_images=images_bn,
                compensation_images=0,  # the usual way has none
            )
            for which in ("whole network", "one layer"):
                rows.append(compare(problem, args, which, images_bn))
                print(json.dumps(rows[-1]), flush=True)
    warn_if_busy()
    print_table(rows, args.batches)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
