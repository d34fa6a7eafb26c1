"""Checks and tracing before anything is trained or written."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from ...envs.cost.config import LatencyConfig
from ...envs.cost.latency_bounds import check_latency_target
from ...envs.cost.latency_table import LatencyTable
from ...envs.cost.profiling import with_latency
from ...envs.cost.timer import timed_copy
from ...envs.evaluation.engines import check_engine
from ...envs.modules.activations import require_memory_for
from ...envs.modules.digest import weights_digest
from ...envs.modules.ranks import first_decides, gather
from ...envs.problem.problem import check_prunable
from ...envs.recovery.training_check import check_training
from ...envs.surgery.constrained_trace import trace_constrained
from ...envs.surgery.constraints import Constraints
from ...envs.tasks import Task
from ...envs.tasks.user_task import check_answers, check_task
from ...envs.tracing import TracedNetwork
from ..run.progress import log_info
from .config import PruningConfig
from .goal import Goal
from .rounding import rounding_notes


@dataclass(frozen=True)
class Prepared:
    """A traced network and a goal that it can reach.

    Args:
        network: The traced network.
        goal: The goal of the run.
        notes: Sentences for the report about the network's outputs, and layers that are not rounded.
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
    trains: bool = True,
    teacher: nn.Module | None = None,
) -> Prepared:
    """Trace a network and check that it can reach the goal of a run.

    Args:
        model: The dense network.
        task: Data and metric.
        config: The options of the run.
        latency: Latency table of the network if it was timed before.
        name: Name of the network, for messages.
        trains: Whether the network is trained after the cut.
        teacher: The network to distil from; None is the dense network.

    Raises:
        ValueError: If the network does not run on the task's images or cannot be trained on them, the task's
            loss or metric does not accept its outputs, pinned filters or constraints make the target
            unreachable, a constraint matches no layer, or the agent cannot be loaded.
        TypeError: If the network or the task returns a value of the wrong type.
    """
    check_engine(config.engine)
    network, notes = prepare_network(model, task, config.constraints, name)
    if trains and config.recovery.epochs:
        notes += logged(check_training(model, task, config.recovery, teacher=teacher or model))
    if config.latency != LatencyConfig():  # the networks are timed at the end; the usual settings suit most
        first_decides(lambda: _check_timing(model, task.input_shape, config.latency))
    if config.drop_blocks:  # the target is for the network without them
        config = dataclasses.replace(config, target_macs=1.0, target_latency=None)
    if latency is not None:
        network = dataclasses.replace(network, latency=latency)
    elif config.target_latency is not None:
        network = first_decides(lambda: _timed(model, network, task.input_shape, config))
    return Prepared(network, Goal.resolve(config, network), notes)


def prepare_network(
    model: nn.Module, task: Task, constraints: Constraints, name: str
) -> tuple[TracedNetwork, tuple[str, ...]]:
    """Trace a network on inputs of a task, and check that filters of it can go.

    The arguments, what is returned and errors are those of :func:`trace_for_task`, and the network's name.
    """
    _check_same_on_ranks(model, name)
    network, notes = trace_for_task(model, task, constraints)
    check_prunable(network, name)
    return network, notes + logged(rounding_notes(network, model, constraints))


def _check_same_on_ranks(model: nn.Module, name: str) -> None:
    """Refuse a network of which the ranks have different weights.

    Raises:
        ValueError: If they have.
    """
    if len(set(gather(weights_digest(model)))) > 1:
        raise ValueError(
            f"the processes of torchrun have different weights of {name}; load the same weights in each, or "
            "seed them alike before the network is built"
        )


def _timed(
    model: nn.Module, network: TracedNetwork, shape: tuple[int, ...], config: PruningConfig
) -> TracedNetwork:
    """Add a latency table to a trace, if its network can reach the target latency."""
    assert config.target_latency is not None
    check_latency_target(model, network, shape, config.latency, config.target_latency)
    log_info("timing the network's layers")
    return with_latency(model, network, shape, config.latency)


def _check_timing(model: nn.Module, shape: tuple[int, ...], config: LatencyConfig) -> None:
    """Refuse settings with which a network does not run; see :func:`.timed_copy`."""
    timed_copy(model, shape, config)


def trace_for_task(
    model: nn.Module, task: Task, constraints: Constraints
) -> tuple[TracedNetwork, tuple[str, ...]]:
    """Trace a network on inputs of a task and check that the two are compatible.

    Args:
        model: The dense network.
        task: Data and metric.
        constraints: Constraints on the cut other than its size.

    Returns:
        The traced network, and notes for the user on its outputs and on what the trace does not reach, which
        are logged, too.

    Raises:
        ValueError: If the network does not run on the task's inputs, the task's loss or metric does not
            accept its outputs, or a constraint matches no layer.
        TypeError: If the network or the task returns a value of the wrong type.
    """
    check_task(task)
    require_memory_for(model, task.input_shape, 2, "give a smaller --image-size or network")
    network = trace_constrained(model, torch.zeros(2, *task.input_shape), constraints)
    return network, logged((*network.notes, *check_answers(model, task)))


def logged(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Say notes on the terminal, and return them."""
    for note in notes:
        log_info(note)
    return notes
