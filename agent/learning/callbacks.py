"""Callbacks of the training: evaluation limit, search history, TensorBoard, progress bar."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure

from ...envs.environment.rendering import figure_of_layers
from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask
from ...envs.tasks.optional_members import metric_name
from ..reporting.figures import figure_of_candidates, figure_of_keep_ratios
from ..run.folder import NOT_TEXT
from ..run.progress import Stage, log_verbose
from ..run.search_history import Candidate, SearchHistory

FIGURES = 10
"""Approximate number of times that figures are drawn in a search."""


class SearchRecorder(BaseCallback):
    """Record the history of a search, and stop it at its limit, or when it no longer improves.

    Args:
        problems: The problems whose evaluations are counted.
        evaluations: Limit of evaluations; the update that reaches it is completed.
        history: The history to append to.
        patience: Updates after which the search stops if none of their candidates has a higher reward than
            all before; None never does.
        is_over: Called after each update with the number of updates; whether to stop, such as for lack of
            time. None never stops.
    """

    def __init__(
        self,
        problems: Sequence[PruningProblem],
        evaluations: int,
        history: SearchHistory,
        *,
        patience: int | None = None,
        is_over: Callable[[int], bool] | None = None,
    ) -> None:
        super().__init__()
        self._problems = problems
        self._limit, self._patience, self._is_over = evaluations, patience, is_over
        self._history = history
        self._is_spent = False
        self._best: list[float] = []  # highest reward of each update
        self._current: list[float] = []
        self._kept: dict[str, list[float]] = defaultdict(list)
        self._before = sum(problem.evaluator.evaluations for problem in problems)

    @property
    def used(self) -> int:
        """Number of candidates measured since this callback was created."""
        return sum(problem.evaluator.evaluations for problem in self._problems) - self._before

    def _on_rollout_start(self) -> None:
        # Stop only between rollouts, as PPO learns from a rollout at its end.
        is_over = self._is_over is not None and self._is_over(len(self._best))
        self._is_spent = is_over or self.used >= self._limit or self._stagnates()

    def _stagnates(self) -> bool:
        """Return whether the last updates have found no better candidate than those before."""
        if self._patience is None or len(self._best) <= self._patience:
            return False
        return max(self._best[-self._patience :]) <= max(self._best[: -self._patience])

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "reward" in info:
                self._record(info)
        return not self._is_spent

    def _record(self, info: dict[str, Any]) -> None:
        quantities = (field.name for field in fields(Candidate))
        self._history.candidates.append(Candidate(**{name: info[name] for name in quantities}))
        self._current.append(float(info["reward"]))
        network = f"{info['network']}/" if len(self._problems) > 1 else ""
        for layer, ratio in info["layer_keep_ratios"].items():
            self._kept[f"{network}{layer}"].append(ratio)

    def _on_rollout_end(self) -> None:
        self.logger.record("search/evaluations", self.used)
        if self._current:
            self._best.append(max(self._current))
            self._history.rewards.append(float(np.mean(self._current)))
            self._history.keep_ratios.append(
                {layer: float(np.mean(ratios)) for layer, ratios in self._kept.items()}
            )
            self._current, self._kept = [], defaultdict(list)


class NextValSubset(BaseCallback):
    """Switch to the next subset of val after each update.

    The candidates of an update are compared with each other, so they are measured on the same images.

    Args:
        problems: The problems whose evaluators switch.
    """

    def __init__(self, problems: Sequence[PruningProblem]) -> None:
        super().__init__()
        self._problems = problems

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        for problem in self._problems:
            problem.evaluator.next_val_subset()


class SearchMonitor(BaseCallback):
    """Log the progress of a search to SB3's logger, once per update.

    Scalars ``search/*`` (reward, accuracy, accuracy_drop, loss, macs_ratio, params_ratio, meets_target,
    repaired, candidates_per_second) and ``layer/<name>/keep_ratio`` (with several networks
    ``layer/<network>/<name>/keep_ratio``) are means over the update's candidates. Figures: ``search/layers``
    shows the best candidate so far, ``search/candidates`` the size and accuracy of all candidates,
    ``search/keep_probabilities`` the mean keep ratio of each layer in each update.

    Args:
        history: History of this search.
        updates: Number of updates of this search.
        figures: Approximate number of times that figures are drawn.
    """

    def __init__(self, history: SearchHistory, updates: int, figures: int = FIGURES) -> None:
        super().__init__()
        self._history = history
        self._updates, self._every = updates, max(1, updates // figures)
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._started = time.perf_counter()
        self._best: tuple[float, str, list[Mask]] | None = None

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            self._seen["repaired"].append(float(info["repaired"]))
            if "reward" in info:
                self._record(info)
        return True

    def _record(self, info: dict[str, Any]) -> None:
        for key in (
            "reward", "accuracy", "accuracy_drop", "loss", "macs_ratio", "params_ratio", "meets_target"
        ):  # fmt: skip
            self._seen[key].append(float(info[key]))
        if self._best is None or info["reward"] > self._best[0]:
            self._best = (info["reward"], info["network"], info["masks"])

    def _on_rollout_end(self) -> None:
        if not self._seen["reward"]:  # a rollout may be shorter than an episode
            return
        means = {key: float(np.mean(values)) for key, values in self._seen.items()}
        now, candidates = time.perf_counter(), len(self._seen["reward"])
        means["candidates_per_second"] = candidates / max(now - self._started, 1e-9)
        self._started = now
        self._seen.clear()
        for key, mean in means.items():
            self.logger.record(f"search/{key}", mean)
        for layer, ratio in self._history.keep_ratios[-1].items():
            self.logger.record(f"layer/{layer}/keep_ratio", ratio)
        update = len(self._history.rewards)
        log_verbose(
            f"update {update} of {self._updates}: reward {means['reward']:.4f}, loss {means['loss']:.4f}, "
            f"MACs {means['macs_ratio']:.1%}, {means['meets_target']:.0%} meet the target, "
            f"{means['candidates_per_second']:.1f} candidates/s"
        )
        if update % self._every == 0 or update == self._updates:
            self._draw()

    def _draw(self) -> None:
        problems: list[PruningProblem] = self.training_env.get_attr("problems")[0]
        assert self._best is not None
        reward, name, masks = self._best
        network = next(problem.network for problem in problems if problem.name == name)
        title = f"{name}: best candidate so far, reward {reward:.3f}"
        figures = {
            "layers": figure_of_layers(network, masks, title),
            "candidates": figure_of_candidates(
                self._history.columns_by_network(), metric_name(problems[0].task)
            ),
            "keep_probabilities": figure_of_keep_ratios(self._history.keep_ratios),
        }
        for kind, figure in figures.items():
            self.logger.record(f"search/{kind}", Figure(figure, close=True), exclude=NOT_TEXT)


class ProgressBar(BaseCallback):
    """Show the number of measured candidates and the mean reward of the latest 64.

    Args:
        history: History of this search.
        evaluations: Total number of evaluations of this search.
        label: Label of the progress bar.
        leave: Whether the progress bar stays visible after the search.
    """

    def __init__(
        self, history: SearchHistory, evaluations: int, *, label: str = "search", leave: bool = True
    ) -> None:
        super().__init__()
        self._history = history
        self._total, self._label, self._leave = evaluations, label, leave
        self._stage: Stage | None = None

    def _on_training_start(self) -> None:
        self._stage = Stage(self._label, self._total, "candidates", leave=self._leave)

    def _on_step(self) -> bool:
        assert self._stage is not None
        candidates = self._history.candidates
        if candidates:
            reward = np.mean([candidate.reward for candidate in candidates[-64:]])
            self._stage.advance(len(candidates), f"reward {reward:.3f}")
        return True

    def _on_training_end(self) -> None:
        assert self._stage is not None
        self._stage.close()
