"""How well the latency of a cut is predicted, and the speed-up by pruning in three runtimes.

    python benchmarks/latency.py [--networks resnet20 resnet18] [--parts table backends] [--json latency.json]

*table*: random cuts, their latency predicted by the table of layers and measured; the mean absolute
percentage error has to be at most 15 %. *backends*: the dense network, one with the same share of every
layer's filters, at half of the MACs, and one whose counts are multiples of 8 besides (``--round-to 8``), in
torch eager, torch.compile and onnxruntime (extra ``onnx``), at batches of 1 and 64. They run alternately in
one process, and the fastest pass of each counts: other work on the machine only ever adds to it. Weights are
random, latency does not depend on them. An idle machine is needed all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.envs.cost.config import LatencyConfig
from secateur.envs.cost.counts import size_ratio
from secateur.envs.cost.profiling import cut_to, random_counts, with_latency
from secateur.envs.cost.timer import latency_ms
from secateur.envs.models import get_model
from secateur.envs.surgery.constrained_trace import constrain
from secateur.envs.surgery.constraints import Constraints
from secateur.envs.surgery.export import export
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tracing import TracedNetwork
from secateur.envs.tracing.network import Ints

SHAPES = {"resnet20": (3, 32, 32), "resnet18": (3, 224, 224), "mobilenet_v2": (3, 224, 224)}
BACKENDS = ("eager", "compile", "onnxruntime")
BATCHES = (1, 64)
MULTIPLE = 8
BAR = 15.0
"""Largest mean absolute error of the table, percent."""

_IDLE = 0.3
"""Largest load average of an idle machine."""

Row = dict[str, Any]
Runner = Callable[[], object]


def main() -> int:
    """Measure the chosen parts; fail if a table's error exceeds :data:`BAR`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--parts", nargs="+", choices=("table", "backends"), default=["table", "backends"])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument(
        "--batches", nargs="+", type=int, default=list(BATCHES), help="batch sizes in the runtimes"
    )
    parser.add_argument("--cuts", type=int, default=20, help="number of random cuts for the table")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for measuring a pair of networks, s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="JSON file for the rows")
    args = parser.parse_args()
    if os.getloadavg()[0] > _IDLE:
        print(f"warning: the machine is busy, its load average is {os.getloadavg()[0]:.1f}", file=sys.stderr)
    warnings.filterwarnings("ignore")  # of exporters and compilers
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    if "table" in args.parts:
        print("\n| network | dense, ms | random cuts | mean error, % | largest, % | seconds for the table |")
        print("|---|---|---|---|---|---|")
        for name in args.networks:
            rows.append(compare_table(name, args))
            print(
                "| {model} | {dense_ms:.2f} | {cuts} | {error_percent:.1f} | {largest_error_percent:.1f} "
                "| {seconds:.0f} |".format(**rows[-1]),
                flush=True,
            )
    if "backends" in args.parts:
        print("\n| network | backend | batch | dense, ms | pruned | rounded | dense/pruned | dense/rounded |")
        print("|---|---|---|---|---|---|---|---|")
        for name in args.networks:
            for row in compare_backends(name, args):
                rows.append(row)
                print(
                    "| {model} | {backend} | {batch} | {dense_ms:.2f} | {pruned_ms:.2f} "
                    "| {rounded_ms:.2f} | {speedup:.2f} | {rounded_speedup:.2f} |".format(**row),
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(row.get("error_percent", 0.0) > BAR for row in rows) else 0


def compare_table(name: str, args: argparse.Namespace) -> Row:
    """Predict and measure random cuts, other than those that the table was fitted to."""
    model, network = dense(name)
    config = LatencyConfig(threads=args.threads)
    start = time.perf_counter()
    network = with_latency(model, network, SHAPES[name], config)
    seconds = time.perf_counter() - start
    assert network.latency is not None
    kept = random_counts(network, args.cuts, seed=1)
    batch = torch.zeros(1, *SHAPES[name])
    measured = np.array([latency_ms(cut_to(model, network, k), batch, threads=args.threads) for k in kept])
    errors = 100 * np.abs(network.latency(kept) / measured - 1)
    return {
        "model": name,
        "part": "table",
        "threads": args.threads,
        "dense_ms": float(network.latency(network.widths)),
        "cuts": args.cuts,
        "error_percent": float(errors.mean()),
        "largest_error_percent": float(errors.max()),
        "seconds": seconds,
    }


def compare_backends(name: str, args: argparse.Namespace) -> Iterator[Row]:
    """Time the dense and the pruned networks alternately in each runtime."""
    model, network = dense(name)
    kept = uniform_counts(network, 0.5)
    rounded = uniform_counts(constrain(network, model, Constraints(round_to={"*": MULTIPLE})), 0.5)
    networks = (model, cut_to(model, network, kept), cut_to(model, network, rounded))
    for backend in args.backends:
        for batch in args.batches:
            example = torch.randn(batch, *SHAPES[name])
            times = alternately(
                [runner(one, backend, example, args.threads) for one in networks], args.seconds
            )
            yield {
                "model": name,
                "part": "backends",
                "backend": backend,
                "batch": batch,
                "threads": args.threads,
                "macs_ratio": float(size_ratio(network, kept, "macs")),
                "dense_ms": times[0],
                "pruned_ms": times[1],
                "speedup": times[0] / times[1],
                "rounded_macs_ratio": float(size_ratio(network, rounded, "macs")),
                "rounded_ms": times[2],
                "rounded_speedup": times[0] / times[2],
            }


def dense(name: str) -> tuple[nn.Module, TracedNetwork]:
    """Build a network with random weights, and trace it."""
    torch.manual_seed(0)
    shape = SHAPES[name]
    model = get_model(name, num_classes=10 if shape[-1] == 32 else 1000, in_channels=3).eval()
    return model, trace_exactly(model, torch.zeros(2, *shape))


def uniform_counts(network: TracedNetwork, target: float) -> Ints:
    """Return the filters per layer at the largest common keep ratio within a MACs ratio."""
    shares = np.linspace(0, 1, 1001)[:, None]
    counts = np.array([network.nearest_allowed(kept) for kept in np.floor(shares * network.widths)])
    return counts[np.flatnonzero(size_ratio(network, counts, "macs") <= target)[-1]]


def runner(model: nn.Module, backend: str, example: Tensor, threads: int) -> Runner:
    """Return a function that runs one pass of a network."""
    if backend == "onnxruntime":
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            export(model, file, "onnx", tuple(example.shape[1:]))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        inputs = {session.get_inputs()[0].name: example.numpy()}
        return lambda: session.run(None, inputs)
    run = torch.compile(model, dynamic=False) if backend == "compile" else model
    return lambda: run(example)


@torch.inference_mode()
def alternately(runners: list[Runner], seconds: float) -> list[float]:
    """Time passes in turn, and return the fastest of each, ms."""
    times: list[list[float]] = [[] for _ in runners]
    for run in runners:  # compiles, and fills caches
        run()
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times[0]) < 3:
        for run, own in zip(runners, times, strict=True):
            start = time.perf_counter()
            run()
            own.append(1e3 * (time.perf_counter() - start))
    return [min(own) for own in times]


if __name__ == "__main__":
    sys.exit(main())
