"""What has to hold before anything is trained or written."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from ...envs.cost.latency_table import LatencyTable
from ...envs.cost.profiling import with_latency
from ...envs.problem.problem import check_prunable
from ...envs.surgery.constrained_trace import trace_constrained
from ...envs.surgery.constraints import Constraints
from ...envs.tasks import Task
from ...envs.tasks.user_task import check_answers, check_task
from ...envs.tracing import TracedNetwork
from ..run.progress import log_info
from .config import PruningConfig
from .goal import Goal


@dataclass(frozen=True)
class Prepared:
    """A network that can be pruned as is asked for.

    Args:
        network: Its trace.
        goal: What is asked for.
        notes: What the user should know of the network's answers, in sentences for the report.
    """

    network: TracedNetwork
    goal: Goal
    notes: tuple[str, ...] = ()


def prepare(
    model: nn.Module,
    task: Task,
    config: PruningConfig,
    *,
    latency: LatencyTable | None = None,
    name: str = "the network",
) -> Prepared:
    """Trace a network and find out whether it can be pruned as is asked for.

    Args:
        model: The dense network.
        task: Data and metric.
        config: What is asked for.
        latency: Of the network, where it was timed before.
        name: Of the network, for messages.

    Raises:
        ValueError: If the network does not run on the task's images, the task's loss or metric does not take
            its outputs, pinned filters or constraints make the target unreachable, a constraint names no
            layer, or the agent cannot be loaded.
        TypeError: If the network or the task gives something of the wrong type.
    """
    network, notes = trace_for_task(model, task, config.constraints)
    check_prunable(network, name)
    if latency is not None:
        network = dataclasses.replace(network, latency=latency)
    elif config.target_latency is not None:
        log_info("timing the network's layers")
        network = with_latency(model, network, task.input_shape, config.latency)
    return Prepared(network, Goal.resolve(config, network), notes)


def trace_for_task(
    model: nn.Module, task: Task, constraints: Constraints
) -> tuple[TracedNetwork, tuple[str, ...]]:
    """Trace a network on inputs of a task, and check that both fit each other.

    Args:
        model: The dense network.
        task: Data and metric.
        constraints: What a cut has to respect beside its size.

    Returns:
        The trace, and what the user should know of the network's answers, in sentences that are said too.

    Raises:
        ValueError: If the network does not run on the task's inputs, the task's loss or metric does not take
            its outputs, or a constraint names no layer.
        TypeError: If the network or the task gives something of the wrong type.
    """
    check_task(task)
    network = trace_constrained(model, torch.zeros(2, *task.input_shape), constraints)
    notes = check_answers(model, task)
    for note in notes:
        log_info(note)
    return network, notes
