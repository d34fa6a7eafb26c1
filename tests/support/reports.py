"""A report, as a finished run writes it."""

from __future__ import annotations

import io
import re
from html import unescape
from pathlib import Path
from typing import Any

from rich.console import Console

from secateur.agent.reporting.report import details_table, table, write_report


def demo_report() -> dict[str, Any]:
    """Give one that has all that a report of version 0.1 has to have."""
    return {
        "model": "demo",
        "data": "digits",
        "method": "ppo",
        "dense": {"accuracy": 97.77, "loss": 0.0853, "macs": 2834432, "params": 134762, "filters": 352,
                  "latency_ms": 0.812},
        "pruned": {"accuracy": 97.21, "loss": 0.1012, "macs": 1411022, "params": 62001, "filters": 172,
                   "latency_ms": 0.55},
        "latency": {"batch": 1, "threads": 2, "dtype": "float32", "device": "cpu"},
        "ratios": {"macs": 0.4978, "params": 0.46, "filters": 0.4886, "latency_ms": 0.677},
        "accuracy_drop": 0.56,
        "layers": [{"name": "stem.0", "filters": 32, "kept": 20},
                   {"name": "hidden", "filters": 64, "kept": 7}],
        "search": {"evaluations": 3012, "seconds": 71.3, "val_accuracy": 95.1, "rewards": [-0.5, -0.2, -0.1]},
        "recovery": {"epochs": 3, "seconds": 9.1, "losses": [0.9, 0.5, 0.4]},
        "splits": {"train": 1295, "val": 143, "test": 359, "notes": ["val was taken from train"]},
        "seed": 0,
        "command": "secateur prune demo --target-macs 0.5",
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
        "device": "cpu (x86_64)",
        "pinned": [{"name": "classifier", "pinned": 10, "filters": 10, "cause": "the network's output"}],
        "num_outputs": 10,
        "input_shape": [1, 8, 8],
    }  # fmt: skip


def full_report() -> dict[str, Any]:
    """Give one with all that this version adds."""
    report = demo_report()
    report["dense"] |= {
        "images_per_second": 3021.0,
        "images_per_second_spread": [2990.0, 3050.0],
        "latency_spread_ms": [0.80, 0.83],
        "file_bytes": 545_000,
    }
    report["pruned"] |= {
        "images_per_second": 5518.0,
        "images_per_second_spread": [5400.0, 5610.0],
        "latency_spread_ms": [0.54, 0.58],
        "file_bytes": 254_000,
    }
    report["ratios"] |= {"images_per_second": 1.8266, "file_bytes": 0.466}
    report["latency"] |= {"busy": False}
    report["throughput"] = report["latency"] | {"batch": 128, "threads": 1}
    report["search"] |= {"best_heuristic": {"name": "taylor-global", "val_accuracy": 94.2}}
    report["search"] |= {"finalists": finalists()}
    report["recovery"] |= {"val_accuracy_before": 93.5, "val_accuracy_after": 96.25}
    return report | {
        "accuracy_drop_interval": [-0.83, 1.951],
        "classes": [str(digit) for digit in range(10)],
        "details": [{"name": str(digit), "dense": 98.0, "pruned": 97.0 - digit} for digit in range(10)],
        "normalisation": {"mean": [0.3053], "std": [0.376]},
        "augmentation": "random crops with a black border of 1 pixels",
        "remarks": [],
        "built_by_name": True,
    }  # fmt: skip


def finalists() -> dict[str, Any]:
    """Give the comparison of three plans, of which a heuristic wins though the agent's leads a little."""
    columns = ("name", "is_own", "macs_ratio", "accuracy_before", "accuracy")
    plans = [
        dict(zip(columns, row, strict=True))
        for row in (
            ("ppo", True, 0.4978, 95.1, 96.4),
            ("l2-uniform", False, 0.4991, 90.0, 96.2),
            ("l1-uniform", False, 0.4999, 89.0, 95.0),
        )
    ]
    last = [plans[0] | {"accuracy": 96.9}, plans[1] | {"accuracy": 96.7}]
    return {
        "images": 500,
        "epochs": 1.5,
        "seconds": 12.3,
        "rungs": [{"epochs": 0.25, "plans": plans}, {"epochs": 0.375, "plans": last}],
        "winner": "l2-uniform",
        "lead": {"over": "ppo", "points": -0.2, "interval": [-0.9, 0.5], "level": 0.8, "is_clear": False},
    }


def shown(report: dict[str, Any], width: int = 100) -> str:
    """Print the table of a report."""
    console = Console(file=io.StringIO(), width=width)
    console.print(table(report))
    return console.file.getvalue()  # type: ignore[attr-defined]


def shown_details(report: dict[str, Any]) -> str:
    """Print the table of classes."""
    console = Console(file=io.StringIO(), width=100)
    console.print(details_table(report))
    return console.file.getvalue()  # type: ignore[attr-defined]


def page_text(report: dict[str, Any], folder: Path) -> str:
    """Write a report, and give the text of its page."""
    write_report(folder, report)
    return unescape(re.sub(r"<[^>]*>", "", (folder / "report.html").read_text(encoding="utf-8")))
