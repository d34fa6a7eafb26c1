"""Candidates and training images a second with one and two processes, and what is sent to them.

    python benchmarks/scaling.py --ray --train --json benchmarks/scaling.json

By default a ResNet-20 with random weights on random images of 32x32: the numbers do not change the time.
Each engine measures the same candidates in several calls; every process, and every thread, has one core. Then
a simulation takes the measured seconds and bytes to more workers: it is marked as such, and knows no network
but its rate and its delay. With ``--train``, fine-tuning runs under torchrun with one and two ranks on the
same images and the same batches. It needs an idle machine.

Shapes: B candidates of a call.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from secateur.agent.procedures.loading import build_dense_network
from secateur.envs.environment.demo import demo_problem
from secateur.envs.evaluation.engines import open_engine
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.evaluation.packing import pack
from secateur.envs.modules.process_group import joined
from secateur.envs.modules.ranks import is_first
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.surgery.plan import Mask
from secateur.envs.tasks import Task, get_task
from secateur.envs.tasks.own.tensors import TensorTask

_GIGABIT = 125e6
"""Bytes a second of a network between machines, for the simulation."""

_DELAY = 5e-4
"""Seconds that a message takes beside its bytes, for the simulation."""

_RANDOM = {"train": 2048, "val": 512, "test": 128}
"""Numbers of random images."""


def main() -> None:
    """Measure, simulate, print and write."""
    args = parse()
    torch.set_num_threads(1)
    if args.as_rank:
        train_here(args)
        return
    problem = load(args)
    drawn = np.random.default_rng(0)
    candidates = [draw(problem, drawn) for _ in range(args.candidates)]
    engines = [("local", 1, 1), ("local", 1, 2), ("local", 2, 1)]
    if args.ray:
        engines += [("ray", 1, 1), ("ray", 2, 1)]
    rows = [measure(problem, candidates, *engine, args.rounds) for engine in engines]
    sizes = payloads(problem, candidates[0])
    seconds = 1 / rows[0]["candidates_per_second"]
    simulated = [simulate(workers, args.candidates, seconds, sizes) for workers in (1, 2, 8, 64)]
    simulated += [simulate(workers, 64, seconds, sizes) for workers in (8, 64)]
    content: dict[str, Any] = {
        "model": args.model,
        "data": args.data,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "kind": problem.evaluator.bench.kind,  # type: ignore[attr-defined]
        "measured": rows,
        "payload_bytes": sizes,
        "simulated": simulated,
    }
    if args.train:
        content["training_images_per_second"] = {ranks: train(ranks, args) for ranks in (1, 2)}
    show(content)
    if args.json:
        args.json.write_text(json.dumps(content, indent=1) + "\n")


def load(args: argparse.Namespace) -> PruningProblem:
    """Return the network of the arguments, with its data."""
    if (args.model, args.data) == ("demo", "digits"):
        return demo_problem()
    task = load_task(args)
    model = build_dense_network(args.model, task, args.weights, 0).eval()
    return PruningProblem.build(args.model, model, task, images=256)


def load_task(args: argparse.Namespace) -> Task:
    """Return the data of the arguments."""
    if args.data != "random":
        return get_task(args.data, root=args.data_root)
    generator = torch.Generator().manual_seed(0)
    parts = {
        split: (torch.rand(size, 3, 32, 32, generator=generator), torch.arange(size) % 10)
        for split, size in _RANDOM.items()
    }
    return TensorTask(
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        loss=functional.cross_entropy,
        metric=lambda outputs, targets: 100 * (outputs.argmax(1) == targets).float().mean(),
    )


def draw(problem: PruningProblem, drawn: np.random.Generator) -> list[Mask]:
    """Draw a candidate with another keep ratio in each layer."""
    masks = [drawn.random(layer.filters) < drawn.uniform(0.4, 0.9) for layer in problem.network.layers]
    for mask in masks:
        mask[0] = True
    return masks


def measure(
    problem: PruningProblem, candidates: list[list[Mask]], name: str, workers: int, threads: int, rounds: int
) -> dict[str, Any]:
    """Time calls with an engine; what is sent once is sent in a first call that does not count."""
    torch.set_num_threads(threads)
    with open_engine(name, workers, torch.device("cpu")) as engine:
        evaluator = CandidateEvaluator(
            problem.model,
            problem.network,
            problem.task,
            images=256,
            compensation=problem.compensation,
            engine=engine,
        )
        times = []
        for _ in range(1 + rounds):
            began = time.perf_counter()
            evaluator(candidates)
            times.append(time.perf_counter() - began)
    torch.set_num_threads(1)
    rates = sorted(len(candidates) / seconds for seconds in times[1:])
    return {
        "engine": name,
        "processes": workers,
        "threads": threads,
        "candidates_per_second": statistics.median(rates),
        "lowest": rates[0],
        "highest": rates[-1],
        "first_call_seconds": times[0],
    }


def payloads(problem: PruningProblem, masks: list[Mask]) -> dict[str, int]:
    """Return the bytes of what is sent to a worker: once, with a subset of val, and with a candidate."""
    bench = problem.evaluator.bench  # type: ignore[attr-defined]
    return {
        "once": len(pack(bench)),
        "of it the network": len(pack(problem.model)),
        "of it the compensation": len(pack(problem.compensation)),
        "subset of val": len(pack(bench.subset)),
        "candidate": len(pack(masks)),
        "outcome": len(pack(bench.measure(masks))),
    }


def simulate(workers: int, candidates: int, seconds: float, sizes: dict[str, int]) -> dict[str, Any]:
    """Simulate a call of B candidates on workers behind one network: each gets the next when it is free.

    The driver's messages leave one after the other, with the rate of the network; a subset of val goes to
    every worker that takes part, once in the call, as each update of a search takes another one.
    """
    free = [(0.0, k) for k in range(workers)]
    sent = end = 0.0
    has_subset: set[int] = set()
    for _ in range(candidates):
        idle, worker = heapq.heappop(free)
        size = sizes["candidate"] + (0 if worker in has_subset else sizes["subset of val"])
        has_subset.add(worker)
        sent = max(sent, idle) + size / _GIGABIT
        done = sent + _DELAY + seconds + sizes["outcome"] / _GIGABIT + _DELAY
        heapq.heappush(free, (done, worker))
        end = max(end, done)
    return {"workers": workers, "candidates_per_call": candidates, "candidates_per_second": candidates / end}


def train(ranks: int, args: argparse.Namespace) -> float:
    """Return the training images a second of fine-tuning on ranks of torchrun."""
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    words = ["--model", args.model, "--data", args.data, "--data-root", str(args.data_root), "--as-rank"]
    one_core = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launch, __file__, *words, "--epochs", str(args.epochs)]
    done = subprocess.run(command, env=one_core, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def train_here(args: argparse.Namespace) -> None:
    """Fine-tune as one of the ranks; the first one prints the training images a second."""
    with joined():
        task = load_task(args)
        model = build_dense_network(args.model, task, None, 0)
        finetune(model, task, RecoveryConfig(epochs=1), seed=0)  # to warm up
        began = time.perf_counter()
        finetune(model, task, RecoveryConfig(epochs=args.epochs), seed=0)
        if is_first():
            print(args.epochs * task.size("train") / (time.perf_counter() - began))


def show(content: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"\n{content['model']} on {content['data']}, {content['kind']}; load {content['load_before']:.1f}")
    print("\n| engine | processes x threads | candidates/s (lowest to highest) | ratio | first call, s |")
    print("|---|---|---|---|---|")
    for row in content["measured"]:
        rate, spread = row["candidates_per_second"], f"{row['lowest']:.1f} to {row['highest']:.1f}"
        ratio = rate / content["measured"][0]["candidates_per_second"]
        size = f"{row['processes']} x {row['threads']}"
        first = f"{row['first_call_seconds']:.1f}"
        print(f"| {row['engine']} | {size} | {rate:.1f} ({spread}) | {ratio:.2f} | {first} |")
    print("\n| sent to a worker | bytes |\n|---|---|")
    for name, size in content["payload_bytes"].items():
        print(f"| {name} | {size:,} |")
    print("\n| simulated: workers | candidates a call | candidates/s |\n|---|---|---|")
    for row in content["simulated"]:
        print(f"| {row['workers']} | {row['candidates_per_call']} | {row['candidates_per_second']:.1f} |")
    for ranks, rate in content.get("training_images_per_second", {}).items():
        print(f"training on {ranks} ranks: {rate:.0f} images/s")


def parse() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights")
    parser.add_argument("--data", default="random", help="random, or a data set")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--candidates", type=int, default=16, help="candidates of a call")
    parser.add_argument("--rounds", type=int, default=9, help="calls that count")
    parser.add_argument("--ray", action="store_true", help="also with actors of Ray")
    parser.add_argument("--train", action="store_true", help="also training, under torchrun")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of the training")
    parser.add_argument("--as-rank", action="store_true", help="train under torchrun, and print the rate")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
