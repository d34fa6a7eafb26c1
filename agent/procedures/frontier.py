"""The trade-off of an agent and of baselines: accuracy over size, without fine-tuning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
        method: The decider's name.
        target: What was asked for, share of the MACs in (0, 1].
        macs_ratio: What it came to, pruned / dense.
        params_ratio: Likewise.
        val_accuracy: What the choice was made on, percent.
        accuracy: On test, with batch-norm statistics taken anew and nothing else, percent.
        evaluations: Candidates that were measured for it.
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
    seed: int = 0,
) -> Iterator[Point]:
    """Let each decider prune to each target, and measure on test without fine-tuning.

    Args:
        problem: The network; its evaluator chooses among proposals.
        deciders: Who decides.
        targets: Shares of the MACs, in (0, 1].
        seed: Of the images for batch-norm statistics.

    Raises:
        ValueError: If pinned filters make a target unreachable.
        InexactCutError: If a cut would not compute what the masked network does.
    """
    for decider in deciders:
        for target in targets:
            choice = choose(problem, decider, TargetReward(target))
            plan = PruningPlan.from_masks(problem.network, choice.masks)
            smaller = problem.cut(plan)
            reestimate_batchnorm(smaller, problem.task, seed=seed)
            yield Point(
                method=decider.name,
                target=target,
                macs_ratio=choice.outcome.macs_ratio,
                params_ratio=choice.outcome.params_ratio,
                val_accuracy=choice.outcome.accuracy,
                accuracy=measure(smaller, problem.task, "test").accuracy,
                evaluations=choice.evaluations,
            )
