"""What the stages of a run will take: said before they begin, and kept free by the search's time limit."""

from dataclasses import dataclass, replace

from torch import nn

from ...envs.io.wording import counted
from ...envs.problem.features import ALLOCATIONS
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batching import Batching
from ...envs.recovery.step_time import training_seconds
from ...envs.recovery.stopwatch import Stopwatch
from ..deciders.averaging import AVERAGES
from ..deciders.baselines import Baseline, heuristics
from ..deciders.finalists import ENTRIES, NAMED
from ..deciders.names import PPO
from ..deciders.selection import FINALISTS
from ..learning.frozen_agent import FrozenAgent
from ..run.progress import estimated_duration, log_info
from .bound_search import CHECKS, FORECASTS, SHORT
from .config import PruningConfig
from .goal import Goal
from .halving import rungs, total_epochs

_DECISION = 3.5e-3
"""Seconds that the policy takes for one layer of one candidate, its updates included. On one core of an Intel
Xeon the demo's search takes 37 ms a candidate, 15 of them for measuring; it has six layers."""

_SMALLER = 0.8
"""Time of a training step of the pruned network with its teacher, as a share of the dense network's."""

_LEAST_SEARCH = 1.0
"""Seconds that a search gets at least."""


@dataclass(frozen=True)
class Schedule:
    """Estimated seconds of the stages.

    Args:
        search: The agent's training, at most; 0 if nothing is trained.
        choice: The choice among proposals, at all sizes that a drop bound tries.
        recovery: The fine-tuning, of all sizes.
        finalists: The short recoveries of the finalists, and their comparison; 0 if there are none.
        finalists_epochs: Passes of these recoveries over the training images.
    """

    search: float
    choice: float
    recovery: float
    finalists: float = 0.0
    finalists_epochs: float = 0.0

    @classmethod
    def estimate(
        cls,
        problem: PruningProblem,
        goal: Goal,
        config: PruningConfig,
        teacher: nn.Module | None,
        finalists_epochs: float,
    ) -> "Schedule":
        """Time a candidate and some training steps of the dense network.

        Args:
            problem: The dense network and its data.
            goal: The goal of the run.
            config: The options of the run.
            teacher: The network to distil from, or None.
            finalists_epochs: Epochs of all finalists together.
        """
        reward = goal.reward
        target = 0.5 if reward.target is None else reward.target
        masks = Baseline("l2", "uniform").decide(problem, target, reward.size)[0]
        candidate = problem.evaluator.seconds_per_candidate(masks)
        policy = _DECISION * len(problem.network.layers)
        search = (candidate + policy) * config.learning.candidates if goal.decider is None else 0
        image = candidate / config.search_images
        size = problem.task.size("val")
        looked_at, chosen_from = (min(images, 2 * size) for images in config.look_images)
        on_val = min(config.choice_images, size)
        is_agent = config.method == PPO
        deterministic = 2 + len(ALLOCATIONS)
        proposals = deterministic + FrozenAgent.samples + AVERAGES + len(heuristics())
        has_bound = config.bound_after_recovery is not None
        has_finalists = is_agent and config.procedure == "network" and not has_bound
        if has_bound:
            look = (deterministic + len(NAMED)) * looked_at + (FINALISTS + 1) * chosen_from
            images = FORECASTS * ((look if is_agent else 0) + on_val)
        elif has_finalists:
            images = (proposals + ENTRIES[config.effort].total) * looked_at
        elif is_agent:
            images = proposals * looked_at + (FINALISTS + 1) * chosen_from + on_val
        else:
            images = on_val
        epochs = config.recovery.recipe.epochs
        if config.procedure == "layerwise":
            epochs += config.layer_epochs * len(problem.network.layers)
        training = replace(config.recovery, epochs=epochs, compile=False)  # which would take as long
        recovery = training_seconds(problem.model, problem.task, training, teacher=teacher) if epochs else 0.0
        recovery *= _SMALLER
        finalists, planned = 0.0, []
        if has_finalists:
            entries = ENTRIES[config.effort]
            steps = Batching.of(problem.task, config.recovery).steps
            planned = rungs(entries.total, finalists_epochs, steps)
            compared = sum(rung.plans for rung in planned)
            statistics = 2 * min(config.batchnorm_images, problem.task.size("train"))
            finalists = compared * image * (size + statistics)
            finalists += total_epochs(planned) / max(1, epochs) * recovery
        if has_bound:
            recovery *= CHECKS + SHORT * FORECASTS
        return cls(search, image * images, recovery, finalists, total_epochs(planned))

    def search_limit(self, minutes: float | None, clock: Stopwatch) -> float | None:
        """Return the seconds that a time limit of the whole run leaves for the search; None for no limit.

        Args:
            minutes: The time limit, minutes; None if there is none.
            clock: The time that the run has taken so far.
        """
        if minutes is None:
            return None
        rest = self.choice + self.finalists + self.recovery
        left = 60 * minutes - clock.seconds - rest
        if left < _LEAST_SEARCH:
            log_info(
                f"warning: the choice and the fine-tuning are expected to take {estimated_duration(rest)}, "
                f"more than --minutes {minutes:g} leaves, so the search ends after one update, and the "
                "finalists get less; give fewer --epochs, or more minutes"
            )
        return max(_LEAST_SEARCH, left)

    def affordable(self, minutes: float | None, clock: Stopwatch) -> float:
        """Return the share of the finalists' time, in [0, 1], that the time limit and the recovery leave.

        Args:
            minutes: The time limit, minutes; None if there is none.
            clock: The time that the run has taken so far.
        """
        if minutes is None or not self.finalists:
            return 1.0
        left = 60 * minutes - clock.seconds - self.recovery
        return min(1.0, max(0.0, left / self.finalists))

    def announce(self, config: PruningConfig, limit: float | None) -> None:
        """Say what the stages will take.

        Args:
            config: The options of the run.
            limit: Time limit of the search, seconds; None if there is none.
        """
        stages = []
        if self.search:
            seconds = self.search if limit is None else min(limit, self.search)
            stages.append(
                f"search, at most {counted(config.learning.candidates, 'candidate')}: "
                f"{estimated_duration(seconds)}"
            )
        at_sizes, trainings = "", ""
        if config.bound_after_recovery is not None:
            at_sizes = f" at about {FORECASTS} sizes"
            trainings = f", about {FORECASTS} short ones and at most {CHECKS} in full"
        stages.append(f"choice{at_sizes}: {estimated_duration(self.choice)}")
        if self.finalists:
            entries = ENTRIES[config.effort]
            how = (
                f", {counted(float(f'{self.finalists_epochs:.2g}'), 'epoch')} in all"
                if self.finalists_epochs
                else ""
            )
            stages.append(f"{counted(entries.total, 'finalist')}{how}: {estimated_duration(self.finalists)}")
        if self.recovery:
            stages.append(f"fine-tuning{trainings}: {estimated_duration(self.recovery)}")
        log_info("expected time: " + "; ".join(stages))
