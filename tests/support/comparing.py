"""Comparisons of a small network, and systems that do little."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from secateur.agent.systems.base import Job, Kind, Result
from secateur.agent.systems.training import train_stage
from secateur.envs.modules.copying import replica
from secateur.envs.surgery.plan import PruningPlan

NETWORK = "support.small:plain_network"
SMALL = ["compare", NETWORK, "--epochs", "1", "--dense-epochs", "2", "--batchnorm-images", "64"]

LONG = "what to do about it takes a sentence " * 5 + "."
"""A reason that is no line of a terminal."""

TIMES = ("latency_ratio", "latency_ms", "latency_busy", "seconds")
"""What no two comparisons have in common."""


@dataclass(frozen=True)
class Refuses:
    """A system that can do nothing."""

    kind: Kind = "filters"

    def __call__(self, job: Job) -> Result:
        raise ValueError(f"{job.target:g} is out of reach; {LONG}\nfor this system")


@dataclass(frozen=True)
class Otherwise:
    """A system whose network no plan describes: another one, trained for half of the passes."""

    kind: Kind = "width"

    def __call__(self, job: Job) -> Result:
        model = nn.Sequential(replica(job.model), nn.Identity()).eval()
        train_stage(job, model, job.epochs / 2, "half")
        return Result(model, None, job.epochs / 2, ("It is another network.",))


@dataclass(frozen=True)
class Keeps:
    """A system of some kind that keeps everything."""

    kind: Kind

    def __call__(self, job: Job) -> Result:
        return Result(replica(job.model), PruningPlan.dense(job.network), job.epochs)


@dataclass(frozen=True)
class Rounds:
    """A system whose network computes something else than the one that is stored."""

    kind: Kind = "int8"

    def __call__(self, job: Job) -> Result:
        stored = replica(job.model)
        model = nn.Sequential(replica(job.model), Rounding()).eval()
        return Result(model, PruningPlan.dense(job.network), job.epochs, stored=stored)


class Rounding(nn.Module):
    """Round logits, so that ties decide."""

    def forward(self, logits: Tensor) -> Tensor:
        return (logits / 4).round()


def content_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    return found


def without_times(folder: Path) -> list[dict[str, Any]]:
    rows = content_of(folder)["members"]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def assert_same_networks(one: Path, other: Path) -> None:
    """Compare what two comparisons have found, bit for bit."""
    assert without_times(one) == without_times(other)
    weights = sorted(path.relative_to(one) for path in one.glob("*/model.safetensors"))
    assert weights
    for path in (*weights, *(path.parent / "plan.json" for path in weights)):
        if (one / path).is_file():
            assert (one / path).read_bytes() == (other / path).read_bytes(), path
    assert not list(other.rglob("checkpoints"))
    assert not list(other.rglob("measured.json"))
