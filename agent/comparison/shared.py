"""What the members of a comparison have in common, and what each does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ...envs.tasks import Task
from ...envs.tracing import TracedNetwork
from ..procedures.data_config import DataConfig
from ..reporting.summary import MeasuredRow
from ..run.origin import Origin
from .config import ComparisonConfig, size_name

STOP = "stop"
"""File among the checkpoints of a comparison that stops its members at their next safe point."""


@dataclass(frozen=True)
class Entry:
    """What a member does.

    Args:
        method: Name of the system.
        target: Share of the MACs that stays; of the weights for systems that remove single ones.
        seed: Seed of all random numbers.
    """

    method: str
    target: float
    seed: int

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.method}-{size_name(self.target)}-seed{self.seed}"


@dataclass(frozen=True)
class Shared:
    """What all members have in common.

    Args:
        name: Name of the network.
        model: The dense network, in evaluation mode, on the task's device.
        task: Data, loss and metric.
        network: The trace of the dense network.
        data: Options of the data.
        config: Options of the comparison.
        out: Folder of the comparison.
        checkpoints: Folder of its checkpoints.
        advice: What resumes it.
        command: The command that began it; "" if none did.
        origin: What each member begins with.
        dense: The dense network as measured on test.
    """

    name: str
    model: nn.Module
    task: Task
    network: TracedNetwork
    data: DataConfig
    config: ComparisonConfig
    out: Path
    checkpoints: Path
    advice: str
    command: str
    origin: Origin
    dense: MeasuredRow

    @property
    def stop(self) -> Path:
        """The file that stops the members."""
        return self.checkpoints / STOP
