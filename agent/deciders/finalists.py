"""Who is compared at the size that is wanted: an agent's best proposals, and heuristics.

Shapes: N filters of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ...envs.evaluation.base import Evaluator
from ...envs.modules.ranks import broadcast
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask, PruningPlan
from ...rewards import Outcome, Size
from .averaging import averages
from .base import Decider
from .baselines import Baseline, heuristics

NAMED = ("fpgm-global", "l2-uniform", "l2-global", "l1-uniform", "taylor-global-per-mac")
"""Heuristics that are good after recovery, whatever they are before it: after 15 epochs ResNet-20 has 90.98 %
with ``fpgm-global``, 90.94 with ``l2-uniform``, 91.06 with ``l2-global``, and 90.44 with the best by
gradients, ``taylor-global-per-mac`` (``benchmarks/proxy-15.json``). ``l1-uniform`` is the usual one to
compare with."""


@dataclass(frozen=True)
class Entries:
    """How many finalists there are, and how long they are trained.

    Args:
        own: Proposals of the agent, at least 1.
        named: Heuristics of :data:`NAMED`, the first ones, at least 1.
        others: Other heuristics, the best before fine-tuning.
        share: Epochs of all finalists together as a share of the recovery's, in [0, 1].
    """

    own: int
    named: int
    others: int
    share: float

    @property
    def total(self) -> int:
        """Finalists, at most."""
        return self.own + self.named + self.others


ENTRIES: Mapping[str, Entries] = {
    "quick": Entries(1, 2, 1, 0.2),
    "normal": Entries(2, 5, 1, 0.5),
    "thorough": Entries(6, 5, 5, 0.5),
}
"""The finalists of each effort."""


_Proposal: TypeAlias = tuple[str, list[Mask], Decider, bool]
"""Name, masks, decider, and whether the agent proposed it, as in :class:`Finalist`."""


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class Finalist:
    """A proposal that is compared after a short recovery.

    Args:
        name: Its name in the report: that of the decider, with a number if it is one of several.
        masks: One keep mask (N,) per layer.
        decider: The decider that proposed it.
        is_own: Whether the agent proposed it; else a heuristic did.
        outcome: Its outcome before fine-tuning, on val.
    """

    name: str
    masks: list[Mask]
    decider: Decider
    is_own: bool
    outcome: Outcome

    def plan(self, problem: PruningProblem) -> PruningPlan:
        """Return the filters that it keeps."""
        return PruningPlan.from_masks(problem.network, self.masks)


def find_finalists(
    problem: PruningProblem,
    agent: Decider | None,
    target: float,
    size: Size,
    entries: Entries,
    look: Evaluator | None = None,
) -> list[Finalist]:
    """Measure all proposals for a size, and choose those that are compared further.

    Equal proposals are one; what a heuristic proposes, too, counts as the heuristic's. Averages of the
    agent's best proposals take part.

    Args:
        problem: The network, with the evaluator that measures the finalists' outcomes.
        agent: The agent; None leaves the heuristics alone.
        target: Largest size ratio, pruned / dense, in (0, 1].
        size: The cost that has to meet the target.
        entries: How many there are.
        look: The evaluator that ranks the proposals; see :func:`.looks_at`. None takes the problem's.

    Returns:
        Heuristics first, then the agent's: its deterministic proposal if there is room for two, and the best
        before fine-tuning.

    Raises:
        ValueError: If the network exceeds the target even with the fewest filters allowed.
    """
    ranks = look or problem.evaluator
    found = _measured(ranks, _proposals(problem, agent, target, size))
    if agent is not None:
        found += _measured(ranks, _averages(problem, agent, target, size, found))
    ranked = sorted(found, key=lambda one: (one.outcome.accuracy, -one.outcome.loss), reverse=True)
    heuristic = [one for one in found if not one.is_own]
    named = [one for one in heuristic if one.name in NAMED[: entries.named]]
    others = [one for one in ranked if not one.is_own and one not in named][: entries.others]
    own = [one for one in ranked if one.is_own]
    if entries.own > 1:
        own.sort(key=lambda one: agent is None or one.name != agent.name)  # stable: the first, then the best
    chosen = [*named, *others, *own[: entries.own]]
    if look is None:
        return chosen
    outcomes = problem.evaluator([one.masks for one in chosen])
    return [replace(one, outcome=outcome) for one, outcome in zip(chosen, outcomes, strict=True)]


def _measured(evaluator: Evaluator, proposals: Sequence[_Proposal]) -> list[Finalist]:
    outcomes = evaluator([masks for _, masks, _, _ in proposals]) if proposals else []
    return [Finalist(*proposal, outcome) for proposal, outcome in zip(proposals, outcomes, strict=True)]


def _averages(
    problem: PruningProblem, agent: Decider, target: float, size: Size, found: Sequence[Finalist]
) -> list[_Proposal]:
    """Return the averages of an agent's proposals that were not found before."""
    own = [(one.masks, one.outcome) for one in found if one.is_own]
    means = {_key(masks): masks for masks in broadcast(averages(problem, target, size, own))}
    known = {_key(one.masks) for one in found}
    new = [masks for key, masks in means.items() if key not in known]  # in their order
    return [(f"{agent.name} average {number}", masks, agent, True) for number, masks in enumerate(new, 1)]


def _proposals(problem: PruningProblem, agent: Decider | None, target: float, size: Size) -> list[_Proposal]:
    """Return each distinct proposal."""
    ordered: list[Decider] = [*map(Baseline.from_name, NAMED)]
    ordered += [each for each in heuristics() if each.name not in NAMED]
    wanted = [(each, False) for each in ordered] + ([(agent, True)] if agent is not None else [])
    found, seen = [], set()
    for decider, is_own in wanted:
        for number, masks in enumerate(broadcast(decider.decide(problem, target, size))):
            name = f"{decider.name} {number + 1}" if number else decider.name
            if (key := _key(masks)) not in seen:
                seen.add(key)
                found.append((name, masks, decider, is_own))
    return found


def _key(masks: Sequence[Mask]) -> bytes:
    return np.packbits(np.concatenate(masks)).tobytes()
