"""Networks of several sizes, measured after short recoveries and checked after full ones.

One decider gives every size. Short recoveries on the search's half of val foretell which sizes hold; the
smallest of them is recovered in full and checked on the other half, which nothing was chosen by. What that
gained is measured, and used for the next size. A network holds if the upper end of the confidence interval of
its drop is within the bound, or if it has no drop at all on images that are too few to show the bound.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ...envs.cost.counts import size_ratio, smallest_ratio
from ...envs.io.wording import counted
from ...envs.modules.ranks import broadcast
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.callbacks import Callbacks
from ...envs.recovery.checkpoint import Checkpoint
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import Measurement, Task, measure
from ...envs.tasks.held_back import Halves
from ...envs.tasks.intervals import LEVEL, drop_interval, meets
from ...envs.tasks.optional_members import metric_name
from ...rewards import TargetReward
from ..deciders.base import Decider
from ..deciders.baselines import Baseline
from ..deciders.finalists import NAMED
from ..deciders.names import PPO
from ..deciders.selection import Choice, choose, looks_at
from ..run.folder import RunFolder
from ..run.progress import log_info
from ..run.recovery_monitor import RecoveryMonitor
from ..run.results import Results
from .config import PruningConfig
from .recovery import recover_pruned
from .short_recovery import recover_briefly
from .size_search import Drop, smallest_within
from .teacher import Teacher

SIZES = 32
"""Sizes below the dense one. Their square roots are evenly spaced, as MACs grow with the square of widths:
the least cut keeps 94 % of the MACs, and the fourth smallest network 1 %."""

SHORT = 0.2
"""Length of a short recovery, as a share of the whole."""

CHECKS = 3
"""Sizes that are recovered in full, at most: one tells how much more a full recovery gives back than a short
one, the next is aimed with that, and one is for stepping back."""

FORECASTS = 8
"""Short recoveries that are expected: five of a bisection, and some between sizes that were checked."""


@dataclass(frozen=True)
class Checked:
    """A network that was recovered in full.

    Args:
        model: The network.
        plan: The filters that it keeps.
        choice: How they were chosen.
        recovery: The report's entries on the recovery.
        notes: Notes on the recovery for the report.
        target: The MACs ratio that it was chosen for.
        macs_ratio: Its MACs, pruned / dense.
        drop: Accuracy drop on the unseen images, percentage points.
        interval: Confidence interval of that drop; None if there is none.
        excess: Points by which it misses the bound.
        met: Whether it keeps the bound: yes, no or undecided.
    """

    model: nn.Module
    plan: PruningPlan
    choice: Choice
    recovery: dict[str, Any]
    notes: tuple[str, ...]
    target: float
    macs_ratio: float
    drop: float
    interval: tuple[float, float] | None
    excess: float
    met: str

    @property
    def described(self) -> dict[str, Any]:
        """The check for the report."""
        interval = None if self.interval is None else list(self.interval)
        return {"macs_ratio": self.macs_ratio, "drop": self.drop, "interval": interval, "met": self.met}


class BoundSearch:
    """Choose, recover and check networks of several sizes.

    Args:
        problem: The dense network and its data, with the search's half of val.
        decider: The decider that chooses the filters at each size.
        config: The options of the run, with a drop bound.
        halves: The halves of val.
        folder: Folder of the run; None writes nothing.
        teacher: The network to distil from, or None.
        callbacks: The user's callbacks for full recoveries.
    """

    def __init__(
        self,
        problem: PruningProblem,
        decider: Decider,
        config: PruningConfig,
        halves: Halves,
        folder: RunFolder | None,
        teacher: Teacher | None,
        callbacks: Callbacks,
    ) -> None:
        assert config.drop_bound is not None
        self.bound: float = config.drop_bound
        self._problem, self._decider, self._config, self._halves = problem, decider, config, halves
        self._folder, self._teacher, self._callbacks = folder, teacher, callbacks
        self._targets = targets_of(problem)
        journal = folder.journal if folder else None
        seed = config.seed + 1
        self._on_val = problem.choice_problem(config.choice_images, seed=seed, journal=journal)
        self._looks = (
            looks_at(problem, config.look_images, seed=seed, journal=journal) if config.method == PPO else []
        )
        self._dense_search, self._dense_judge = (
            measure(problem.model, task, "val", by_example=True) for task in (halves.search, halves.judge)
        )
        self._results = Results(folder.checkpoint("forecasts") if folder else None)
        self._forecasts: dict[int, dict[str, float]] = {}
        self._choices: dict[int, tuple[Choice, PruningPlan]] = {}
        self.checked: dict[int, Checked] = {}

    def run(self) -> Checked:
        """Return the smallest network that holds; the one with the least excess if none does."""
        smallest_within(len(self._targets), self._forecast, self._check, self.bound, CHECKS)
        held = [size for size, found in self.checked.items() if found.excess <= 0]
        size = min(held) if held else min(self.checked, key=lambda size: self.checked[size].excess)
        return self.checked[size]

    @property
    def evaluations(self) -> int:
        """Number of candidates that were measured for the choice."""
        return sum(int(found["evaluations"]) for found in self._forecasts.values())

    def _chosen(self, size: int) -> tuple[Choice, PruningPlan]:
        """Choose the filters of a size, once."""
        if size not in self._choices:
            self._choices[size] = self._choose(size)
        return self._choices[size]

    def _choose(self, size: int) -> tuple[Choice, PruningPlan]:
        heuristics = [*map(Baseline.from_name, NAMED)] if self._config.method == PPO else []
        target = TargetReward(self._targets[size])
        choice = choose(self._on_val, self._decider, target, heuristics=heuristics, looks=self._looks)
        return choice, broadcast(PruningPlan.from_masks(self._problem.network, choice.masks))

    def _forecast(self, size: int) -> Drop:
        """Measure the drop of a size after a short recovery, on the search's half."""
        if size not in self._forecasts:
            checkpoint = self._folder.checkpoint(f"short-{size:02d}") if self._folder else None
            name = f"size {size}"
            self._forecasts[size] = self._results.once(name, lambda: self._measure_briefly(size, checkpoint))
            if checkpoint is not None:
                checkpoint.discard()
        found = self._forecasts[size]
        return Drop(found["drop"], found["excess"])

    def _measure_briefly(self, size: int, checkpoint: Checkpoint | None) -> dict[str, float]:
        choice, plan = self._chosen(size)
        recovery, task = self._config.recovery, self._halves.search
        epochs = SHORT * recovery.recipe.epochs
        label = f"short recovery at {choice.outcome.macs_ratio:.1%} of the MACs"
        with RecoveryMonitor(None, self._folder, label, leave=False) as monitor:
            found = recover_briefly(
                self._problem,
                plan,
                task,
                recovery,
                epochs,
                teacher=self._teacher.model if self._teacher else None,
                seed=self._config.seed,
                checkpoint=checkpoint,
                on_step=monitor.on_step,
            )
        drop, interval = _drop(task, self._dense_search, found.measured)
        what = "after a short recovery" if epochs else "as cut"
        log_info(
            f"MACs {choice.outcome.macs_ratio:.1%} ({choice.decider.name}): {metric_name(task)} drops by "
            f"{drop:.2f} points {what}"
        )
        return {
            "drop": drop,
            "excess": self._excess(drop, interval),
            "evaluations": float(choice.evaluations),
            "macs_ratio": float(choice.outcome.macs_ratio),
        }

    def _check(self, size: int) -> Drop:
        """Recover a size in full, and measure it on the half that nothing was chosen by."""
        _, plan = self._chosen(size)
        same = next((found for found in self.checked.values() if found.plan == plan), None)
        found = self.checked[size] = same or self._recover(size)  # sizes of a small network may be alike
        return Drop(found.drop, found.excess)

    def _recover(self, size: int) -> Checked:
        choice, plan = self._chosen(size)
        macs = float(size_ratio(self._problem.network, plan.counts(self._problem.network), "macs"))
        model = self._problem.cut(plan)
        recovery, notes = recover_pruned(
            model,
            self._teacher,
            self._halves.search,
            self._config,
            self._folder,
            self._callbacks,
            name=f"recovery-{size:02d}",
        )
        judge, epochs = self._halves.judge, self._config.recovery.epochs
        drop, interval = _drop(judge, self._dense_judge, measure(model, judge, "val", by_example=True))
        excess, met = self._excess(drop, interval), meets(interval, self.bound)
        if met == "yes" and not self._halves.are_apart:
            met = "undecided"
        shown = "" if interval is None else f", 95 % interval {interval[0]:.2f} to {interval[1]:.2f}"
        log_info(
            f"MACs {macs:.1%}{', recovered' if epochs else ''}: {metric_name(judge)} drops by {drop:.2f} "
            f"points on {counted(judge.size('val'), 'image')} of val{shown}; within {self.bound:g} "
            f"points: {met}"
        )
        target = self._targets[size]
        return Checked(model, plan, choice, recovery, notes, target, macs, drop, interval, excess, met)

    def _excess(self, drop: float, interval: tuple[float, float] | None) -> float:
        """Return by how many points a drop misses the bound, or misses zero if that is less."""
        return drop - self.bound if interval is None else min(interval[1] - self.bound, drop)

    def described(self, chosen: Checked) -> dict[str, Any]:
        """Return what the report says of the bound besides the measurement on test."""
        return {
            "images": self._halves.judge.size("val"),
            "unseen": self._halves.are_apart,
            "level": LEVEL,
            **chosen.described,
            "checked": [found.described for found in self.checked.values()],
            "forecasts": sorted(
                (
                    {"macs_ratio": found["macs_ratio"], "drop": found["drop"]}
                    for found in self._forecasts.values()
                ),
                key=lambda found: found["macs_ratio"],
            ),
        }


def _drop(task: Task, dense: Measurement, pruned: Measurement) -> tuple[float, tuple[float, float] | None]:
    """Return the accuracy drop and its confidence interval, percentage points."""
    interval = drop_interval(task, dense, pruned)
    plain = None if interval is None else (float(interval[0]), float(interval[1]))  # as checkpoints hold
    return float(dense.accuracy - pruned.accuracy), plain


def targets_of(problem: PruningProblem) -> list[float]:
    """Return the MACs ratios below 1 that are tried, in ascending order."""
    smallest = smallest_ratio(problem.network, "macs")
    return [smallest + (1 - smallest) * (step / SIZES) ** 2 for step in range(SIZES)]
