"""The trade-off between accuracy and size of an agent and of baselines, without fine-tuning."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...envs.evaluation.base import Evaluator
from ...envs.evaluation.engine import ThisProcess
from ...envs.evaluation.local_pool import LocalPool
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import measure
from ...rewards import TargetReward
from ..deciders.base import Decider
from ..deciders.selection import choose


@dataclass(frozen=True)
class Point:
    """One network on the curve of a decider.

    Args:
        method: Name of the decider.
        target: Target MACs ratio, pruned / dense, in (0, 1].
        macs_ratio: MACs ratio of the network, pruned / dense.
        params_ratio: Parameters ratio of the network, pruned / dense.
        val_accuracy: Accuracy on the validation images of the choice, percent.
        accuracy: Accuracy on test with re-estimated batch-norm statistics, percent.
        evaluations: Number of candidates measured for it.
    """

    method: str
    target: float
    macs_ratio: float
    params_ratio: float
    val_accuracy: float
    accuracy: float
    evaluations: int


def frontier(
    problem: PruningProblem,
    deciders: Sequence[Decider],
    targets: Sequence[float],
    *,
    looks: Sequence[Evaluator] = (),
    seed: int = 0,
    jobs: int = 1,
) -> Iterator[Point]:
    """Prune to each target with each decider, and measure on test without fine-tuning.

    Args:
        problem: The network; its evaluator measures what is chosen.
        deciders: The deciders to compare.
        targets: Target MACs ratios, in (0, 1].
        looks: Evaluators that rank a decider's proposals, as for :func:`.choose`.
        seed: Seed for the choice of images for batch-norm statistics.
        jobs: Networks that are pruned at the same time, each in a process of its own on one core or GPU; 1
            prunes them in this process.

    Raises:
        ValueError: If pinned filters make a target unreachable, or the problem cannot be sent to processes.
        InexactCutError: If a cut network does not compute what the masked one does.
    """
    wanted = [(decider, target, seed) for decider in deciders for target in targets]
    if jobs == 1:
        yield from itertools.starmap(functools.partial(_point, problem, looks), wanted)
        return
    with LocalPool(min(jobs, len(wanted)), next(problem.model.parameters()).device) as pool:
        alone = replace(problem, engine=ThisProcess())
        yield from pool.map(_point, [pool.put(alone), pool.put(looks)], wanted)


def _point(
    problem: PruningProblem, looks: Sequence[Evaluator], decider: Decider, target: float, seed: int
) -> Point:
    """Prune to a target with a decider, and measure on test."""
    choice = choose(problem, decider, TargetReward(target), looks=looks)
    plan = PruningPlan.from_masks(problem.network, choice.masks)
    smaller = problem.cut(plan)
    reestimate_batchnorm(smaller, problem.task, seed=seed)
    return Point(
        method=decider.name,
        target=target,
        macs_ratio=choice.outcome.macs_ratio,
        params_ratio=choice.outcome.params_ratio,
        val_accuracy=choice.outcome.accuracy,
        accuracy=measure(smaller, problem.task, "test").accuracy,
        evaluations=choice.evaluations,
    )
