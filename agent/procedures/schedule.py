"""What the stages of a run will take: said before they begin, and kept free by the search's time limit."""

from dataclasses import dataclass, replace

from torch import nn

from ...envs.io.wording import counted
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.batching import Batching
from ...envs.recovery.step_time import training_seconds
from ...envs.recovery.stopwatch import Stopwatch
from ..deciders.baselines import Baseline
from ..deciders.finalists import ENTRIES
from ..deciders.names import PPO
from ..run.progress import estimated_duration, log_info
from .bound_search import CHECKS, FORECASTS, SHORT
from .candidate_time import CandidateTime
from .config import PruningConfig
from .expected_choice import candidates_of_search, seconds_of_choice, seconds_of_search
from .goal import Goal
from .halving import Rung, rungs, total_epochs

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
        candidates: Candidates of the search, at most.
    """

    search: float
    choice: float
    recovery: float
    finalists: float = 0.0
    finalists_epochs: float = 0.0
    candidates: int = 0

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
        time = CandidateTime.measured(problem, config.search_images, masks)
        recovery = _seconds_of_training(problem, config, teacher)
        has_bound = config.bound_after_recovery is not None
        planned: list[Rung] = []
        if config.method == PPO and config.procedure == "network" and not has_bound:
            steps = Batching.of(problem.task, config.recovery).steps
            planned = rungs(ENTRIES[config.effort].total, finalists_epochs, steps)
        return cls(
            search=seconds_of_search(problem, goal, config, time),
            choice=seconds_of_choice(problem, goal, config, time),
            recovery=recovery * (CHECKS + SHORT * FORECASTS if has_bound else 1),
            finalists=_seconds_of_finalists(problem, config, time, planned, recovery),
            finalists_epochs=total_epochs(planned),
            candidates=candidates_of_search(problem, goal, config),
        )

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
                f"search, at most {counted(self.candidates, 'candidate')}: {estimated_duration(seconds)}"
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


def _epochs(problem: PruningProblem, config: PruningConfig) -> int:
    """Return the epochs of one network's training, those after the cuts of single layers included."""
    layers = len(problem.network.layers) if config.procedure == "layerwise" else 0
    return config.recovery.recipe.epochs + config.layer_epochs * layers


def _seconds_of_training(problem: PruningProblem, config: PruningConfig, teacher: nn.Module | None) -> float:
    """Return the seconds of all epochs of one pruned network."""
    epochs = _epochs(problem, config)
    if not epochs:
        return 0.0
    training = replace(config.recovery, epochs=epochs, compile=False)  # which would take as long
    return _SMALLER * training_seconds(problem.model, problem.task, training, teacher=teacher)


def _seconds_of_finalists(
    problem: PruningProblem,
    config: PruningConfig,
    time: CandidateTime,
    planned: list[Rung],
    recovery: float,
) -> float:
    """Return the seconds of the finalists' short recoveries, their statistics and their comparison on val.

    Args:
        problem: The dense network and its data.
        config: The options of the run.
        time: What a candidate takes.
        planned: The rungs; none if there are no finalists.
        recovery: Seconds of the whole recovery.
    """
    statistics = 2 * min(config.batchnorm_images, problem.task.size("train"))
    compared = time.seconds(problem.task.size("val") + statistics)
    share = total_epochs(planned) / max(1, _epochs(problem, config))
    return sum(rung.plans for rung in planned) * compared + share * recovery
