"""The smallest network whose accuracy after recovery is within a bound of the dense one's.

One decider gives every size; see :mod:`.bound_search` for how the size is found.
"""

from dataclasses import dataclass, replace
from typing import Any

from ...envs.io.wording import counted
from ...envs.modules.ranks import broadcast
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.callbacks import Callbacks
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.tasks.held_back import Halves
from ...rewards import TargetReward
from ..deciders.selection import SearchResult
from ..learning.frozen_agent import FrozenAgent
from ..run.folder import RunFolder
from .bound_search import BoundSearch, Checked
from .config import PruningConfig
from .goal import Goal
from .rounding import plan_without_rounding
from .search import described_heuristic
from .teacher import Teacher


@dataclass(frozen=True)
class WithinBound:
    """The result of a run with a bound.

    Args:
        result: The network, recovered, and how it was chosen.
        recovery: The report's entries on its recovery.
        notes: Notes for the report.
        check: What the report says of the bound on images of val.
    """

    result: SearchResult
    recovery: dict[str, Any]
    notes: tuple[str, ...]
    check: dict[str, Any]


def prune_within_bound(
    problem: PruningProblem,
    goal: Goal,
    config: PruningConfig,
    halves: Halves,
    folder: RunFolder | None,
    teacher: Teacher | None,
    callbacks: Callbacks,
) -> WithinBound:
    """Find the smallest network that is within the drop bound after its recovery.

    Args:
        problem: The dense network and its data, with the search's half of val.
        goal: The goal of the run, with a decider.
        config: The options of the run, with a drop bound.
        halves: The halves of val.
        folder: Folder of the run; None writes nothing.
        teacher: The network to distil from, or None.
        callbacks: The user's callbacks, for full recoveries.

    Raises:
        InexactCutError: If a cut network does not compute what the masked one does.
        FloatingPointError: If the loss or the gradient of a recovery is not finite.
    """
    assert goal.decider is not None
    clock = folder.journal.begin() if folder else Stopwatch()
    if folder is not None and isinstance(goal.decider, FrozenAgent):
        folder.write(goal.decider.save)
    decider = goal.decider
    if isinstance(decider, FrozenAgent):
        decider = replace(decider, samples=0)  # what it proposes by itself, as many sizes are tried
    search = BoundSearch(problem, decider, config, halves, folder, teacher, callbacks)
    found = search.run()
    choice = found.choice
    details = {
        "evaluations": search.evaluations,
        "seconds": round(clock.seconds, 1),
        "val_accuracy": choice.outcome.accuracy,
        "val_accuracy_drop": choice.outcome.accuracy_drop,
        "rewards": [],
        "candidates": {},
        **described_heuristic(choice),
        **({"agent": goal.decider.trained_on} if isinstance(goal.decider, FrozenAgent) else {}),
    }
    unrounded = (
        broadcast(plan_without_rounding(problem, choice, TargetReward(found.target), config.constraints))
        if config.constraints.rounding
        else None
    )
    notes = notes_on_bound(found, search.bound, halves)
    return WithinBound(
        SearchResult(found.model, found.plan, choice.decider.name, details, unrounded),
        found.recovery,
        (*found.notes, *notes),
        search.described(found),
    )


def notes_on_bound(chosen: Checked, bound: float, halves: Halves) -> tuple[str, ...]:
    """Say how sure the bound is, and what would make it surer."""
    images = halves.judge.size("val")
    if chosen.excess > 0:
        return (
            f"No smaller network was found whose drop is within {bound:g} points: this is the one that comes "
            f"nearest ({chosen.met}). Raise --drop-bound, or train longer (--epochs).",
        )
    if chosen.interval is None:
        return ("The metric has no confidence interval, so the bound was compared with the drop itself.",)
    margin = chosen.interval[1] - chosen.drop
    if not halves.are_apart:
        return (
            f"val has only {counted(images, 'image')}, so the bound was checked on those that the size was "
            "chosen by, and is undecided unless it is missed.",
        )
    if chosen.met != "yes":
        return (
            f"{counted(images, 'image')} of val cannot show that a drop is within {bound:g} points, as the "
            f"interval alone reaches {margin:.2f} points above it: a network without any drop on them was "
            "taken. With more images of val a smaller one may do.",
        )
    return (
        f"The bound holds for the upper end of the interval, {margin:.2f} points above the drop measured on "
        f"{counted(images, 'image')} of val: with more of them a smaller network may do.",
    )
