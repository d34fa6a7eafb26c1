"""What each effort takes and gives: CPU seconds and accuracy without fine-tuning.

    python benchmarks/effort.py resnet20 --data cifar10-folder --weights resnet20-cifar10.safetensors
    --augment flip-crop --runs runs/effort --json benchmarks/effort.json

Each run is a process of its own, ``secateur prune ... --epochs 0``, on one thread; its CPU seconds are those
of the whole process, imports and reading the images included. Accuracies are on the report's half of test,
as the search takes the other half. Runs that the JSON file has are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from secateur.agent.procedures.options import EFFORTS


def measure(arguments: argparse.Namespace, effort: str, seed: int) -> dict[str, Any]:
    """Run one job, and return its time and its result."""
    out = arguments.runs / f"{arguments.model}-{effort}-{seed}"
    command = [
        *(sys.executable, "-m", "secateur", "prune", arguments.model, "--data", arguments.data),
        *("--weights", arguments.weights, "--augment", arguments.augment, "--target-macs", "0.5"),
        *("--epochs", "0", "--effort", effort, "--seed", str(seed), "--out", str(out), "--quiet"),
    ]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads((out / "report.json").read_text())
    return {
        "model": arguments.model,
        "effort": effort,
        "seed": seed,
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "accuracy": report["pruned"]["accuracy"],
        "dense_accuracy": report["dense"]["accuracy"],
        "macs_ratio": report["ratios"]["macs"],
        "candidates": report["search"]["evaluations"],
        "chosen": report["method"],
        "best_heuristic": report["search"].get("best_heuristic"),
        "device": report["device"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the means and standard deviations over seeds as a Markdown table."""
    lines = ["| effort | seeds | accuracy, % | CPU seconds | candidates |", "|---|---|---|---|---|"]
    for effort in EFFORTS:
        found = [row for row in rows if row["effort"] == effort]
        if not found:
            continue
        cells = [
            " ± ".join(f"{part:.{digits}f}" for part in spread([row[key] for row in found]))
            for key, digits in (("accuracy", 2), ("cpu_seconds", 0))
        ]
        candidates = statistics.mean(row["candidates"] for row in found)
        lines.append(f"| {effort} | {len(found)} | {cells[0]} | {cells[1]} | {candidates:.0f} |")
    return "\n".join(lines)


def spread(values: list[float]) -> list[float]:
    """Return the mean, and the standard deviation if there are several values."""
    return [statistics.mean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--augment", default="auto")
    parser.add_argument("--efforts", nargs="+", default=list(EFFORTS), choices=EFFORTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
    known = {(row["model"], row["effort"], row["seed"]) for row in rows}
    for effort in arguments.efforts:
        for seed in arguments.seeds:
            if (arguments.model, effort, seed) not in known:
                rows.append(measure(arguments, effort, seed))
                arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(table([row for row in rows if row["model"] == arguments.model]))


if __name__ == "__main__":
    main()
