"""What quantisation promises: pruned and in int8 as good as pruned in float, and faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from quantise import BATCHES, compare

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.systems.base import Job
from secateur.envs.surgery.verification import trace_exactly

if TYPE_CHECKING:
    from systems import Bench

EPOCHS = {"demo": 10, "lenet5": 1}
"""Epochs of each recovery."""


def int8(bench: Bench, seed: int) -> dict[str, float]:
    """Compare demo and LeNet-5 at half of the MACs, in float and int8: accuracies, latencies and files.

    Latencies and files are relative to the dense network in float of the same seed, run in the same minute.
    """
    found = {}
    for name, epochs in EPOCHS.items():
        task, model = bench.task_of(name), bench.dense(name, seed)
        network = trace_exactly(model, torch.zeros(2, *task.input_shape))
        config = PruningConfig(epochs=epochs, seed=seed)
        rows = compare(Job(name, model, task, network, 0.5, config))
        dense = rows["dense"]
        for kind, row in rows.items():
            found[f"{name}, {kind}, accuracy"] = row["accuracy"]
            if kind != "dense":
                ratios = {f"latency at batch {n}": f"latency_ms_{n}" for n in BATCHES} | {"file": "bytes"}
                found |= {f"{name}, {kind}, {what}": row[key] / dense[key] for what, key in ratios.items()}
        found[f"{name}, points of pruned that int8 costs"] = (
            rows["pruned"]["accuracy"] - rows["pruned and int8"]["accuracy"]
        )
    return found


CLAIMS = {"int8": int8}
