"""The interface of systems of pruning: what each gets, and what each gives back.

A system has the whole way from the dense network to the one that ships: it chooses, removes and trains. All
systems of a comparison get the same network, data, size, recipe and number of passes over the training
images. Whoever calls them measures the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import nn

from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import Task
from ...envs.tracing import TracedNetwork
from ..procedures.config import PruningConfig
from ..run.folder import RunFolder

Kind = Literal["filters", "weights", "blocks", "rank", "width", "int8"]
"""What a system removes, or makes smaller. Networks of different kinds of the same size are not equally fast:
filters, blocks, ranks and widths save computation everywhere, zeros among the weights save space alone."""


@dataclass(frozen=True)
class Job:
    """What a system gets.

    Args:
        name: Name of the network.
        model: The dense network, trained, in evaluation mode, on the task's device. No system changes it.
        task: Data, loss and metric. Systems read train and val; test is for the report.
        network: The trace of the dense network.
        target: Share of the MACs that stays, in (0, 1]; for weights, the share of the weights.
        config: The options: recipe of the training with the passes that a system may spend in all, and seed.
        folder: Where checkpoints and logs go; None writes nothing. A job that is run again with the same
            folder goes on where it was stopped.
    """

    name: str
    model: nn.Module
    task: Task
    network: TracedNetwork
    target: float
    config: PruningConfig
    folder: RunFolder | None = None

    @property
    def epochs(self) -> int:
        """Passes over the training images that a system may spend in all."""
        return self.config.recovery.recipe.epochs


@dataclass(frozen=True)
class Result:
    """What a system gives back.

    Args:
        model: The network, in evaluation mode, as it ships; masked weights are still masked.
        plan: The filters, blocks and ranks that it keeps of the dense network; with the dense network's
            factory and the weights of ``model`` enough to rebuild it. None if it is another network.
        epochs: Passes over the training images that were spent, with those of rounds that came before.
        notes: Sentences for the report.
        details: The system's own numbers for the report, as JSON holds them.
        stored: The network whose weights are written, where that is another than ``model``: of one in int8
            the one in float, which the plan rebuilds.
    """

    model: nn.Module
    plan: PruningPlan | None
    epochs: float
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    stored: nn.Module | None = None


class System(Protocol):
    """Make a network smaller."""

    @property
    def kind(self) -> Kind:
        """What it removes."""

    def __call__(self, job: Job) -> Result:
        """Make the smaller network.

        Raises:
            ValueError: If the target cannot be met, or the system cannot do this network.
        """
