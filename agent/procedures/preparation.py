"""Checks before anything is trained or written."""

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
    """A network for which the goal is reachable.

    Args:
        network: Its trace.
        goal: Reward, decider and initial agent.
    """

    network: TracedNetwork
    goal: Goal


def prepare(
    model: nn.Module,
    task: Task,
    config: PruningConfig,
    *,
    latency: LatencyTable | None = None,
    name: str = "the network",
) -> Prepared:
    """Trace a network and check that the goal of the configuration is reachable.

    Args:
        model: The dense network.
        task: Data, loss and metric.
        config: The configuration.
        latency: Latency table of the network, if it was timed before.
        name: Name of the network, for messages.

    Raises:
        ValueError: If the network does not run on the task's images, the task's loss or metric does not take
            its outputs, pinned filters or constraints make the target unreachable, a constraint names no
            layer, or the agent cannot be loaded.
        TypeError: If the network or the task gives something of the wrong type.
    """
    network = trace_for_task(model, task, config.constraints)
    check_prunable(network, name)
    if latency is not None:
        network = dataclasses.replace(network, latency=latency)
    elif config.target_latency is not None:
        log_info("timing the network's layers")
        network = with_latency(model, network, task.input_shape, config.latency)
    return Prepared(network, Goal.resolve(config, network))


def trace_for_task(model: nn.Module, task: Task, constraints: Constraints) -> TracedNetwork:
    """Trace a network on inputs of a task, and check that both fit each other.

    Args:
        model: The dense network.
        task: Data, loss and metric.
        constraints: Constraints on a cut.

    Raises:
        ValueError: If the network does not run on the task's inputs, the task's loss or metric does not take
            its outputs, or a constraint names no layer.
        TypeError: If the network or the task gives something of the wrong type.
    """
    check_task(task)
    network = trace_constrained(model, torch.zeros(2, *task.input_shape), constraints)
    check_answers(model, task)
    return network
