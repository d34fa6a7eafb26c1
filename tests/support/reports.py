"""A report, as a finished run writes it."""

from __future__ import annotations

from typing import Any


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
