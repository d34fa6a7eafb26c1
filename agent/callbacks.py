"""What happens while the agent learns: the budget, TensorBoard, the progress bar."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure
from tqdm import tqdm

from ..envs.problem import PruningProblem
from ..envs.rendering import figure_of_layers
from ..envs.surgery import Mask
from .run_folder import NOT_TEXT

FIGURES = 10
"""How often a search draws its layers."""


class SearchRecord(BaseCallback):
    """Remember the mean reward of each update, and stop when enough candidates were measured.

    Args:
        problems: Whose evaluators count.
        evaluations: How many may be measured; the update that reaches it is finished.
    """

    def __init__(self, problems: Sequence[PruningProblem], evaluations: int) -> None:
        super().__init__()
        self._problems = problems
        self._limit = evaluations
        self._is_spent = False
        self._current: list[float] = []
        self.rewards: list[float] = []
        self._before = sum(problem.evaluator.evaluations for problem in problems)

    @property
    def used(self) -> int:
        """Candidates measured since this callback was made."""
        return sum(problem.evaluator.evaluations for problem in self._problems) - self._before

    def _on_rollout_start(self) -> None:
        # Not in the middle: what a rollout has gathered is learned from only at its end.
        self._is_spent = self.used >= self._limit

    def _on_step(self) -> bool:
        self._current += [info["reward"] for info in self.locals["infos"] if "reward" in info]
        return not self._is_spent

    def _on_rollout_end(self) -> None:
        self.logger.record("search/evaluations", self.used)
        if self._current:
            self.rewards.append(float(np.mean(self._current)))
            self._current = []


class SearchMonitor(BaseCallback):
    """Write what the search finds to SB3's logger, once an update.

    Scalars ``search/*`` (reward, accuracy, accuracy_drop, macs_ratio, params_ratio, repaired,
    candidates_per_second) and ``layer/<name>/keep_ratio`` (of several networks
    ``layer/<network>/<name>/keep_ratio``) are means over the update's candidates; ``search/layers`` shows the
    best candidate so far.

    Args:
        updates: How many there will be.
        figures: How often the layers are drawn, about.
    """

    def __init__(self, updates: int, figures: int = FIGURES) -> None:
        super().__init__()
        self._every = max(1, updates // figures)
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._update = 0
        self._started = time.perf_counter()
        self._best: tuple[float, str, list[Mask]] | None = None

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            self._seen["search/repaired"].append(float(info["repaired"]))
            if "reward" in info:
                self._note(info)
        return True

    def _note(self, info: dict[str, Any]) -> None:
        for key in ("reward", "accuracy", "accuracy_drop", "loss", "macs_ratio", "params_ratio"):
            self._seen[f"search/{key}"].append(info[key])
        several = len(self.training_env.get_attr("problems")[0]) > 1
        network = f"{info['network']}/" if several else ""
        for layer, ratio in info["layer_keep_ratios"].items():
            self._seen[f"layer/{network}{layer}/keep_ratio"].append(ratio)
        if self._best is None or info["reward"] > self._best[0]:
            self._best = (info["reward"], info["network"], info["masks"])

    def _on_rollout_end(self) -> None:
        for key, values in self._seen.items():
            self.logger.record(key, float(np.mean(values)))
        candidates = len(self._seen["search/reward"])
        now = time.perf_counter()
        self.logger.record("search/candidates_per_second", candidates / max(now - self._started, 1e-9))
        self._started = now
        self._seen.clear()
        self._update += 1
        if self._best is not None and self._update % self._every == 0:
            reward, name, masks = self._best
            problems: list[PruningProblem] = self.training_env.get_attr("problems")[0]
            network = next(problem.network for problem in problems if problem.name == name)
            figure = figure_of_layers(network, masks, f"{name}: best candidate so far, reward {reward:.3f}")
            self.logger.record("search/layers", Figure(figure, close=True), exclude=NOT_TEXT)


class ProgressBar(BaseCallback):
    """Show how many candidates were measured, and the latest mean reward.

    Args:
        evaluations: All that will be.
        label: What the bar is called.
        leave: Whether it stays when the search is over.
        disable: Show nothing.
    """

    def __init__(
        self, evaluations: int, *, label: str = "search", leave: bool = True, disable: bool = False
    ) -> None:
        super().__init__()
        self._total = evaluations
        self._shown: dict[str, Any] = {"desc": label, "leave": leave, "disable": disable}
        self._bar: tqdm | None = None
        self._rewards: list[float] = []

    def _on_training_start(self) -> None:
        self._bar = tqdm(total=self._total, unit="candidate", **self._shown)

    def _on_step(self) -> bool:
        finished = [info["reward"] for info in self.locals["infos"] if "reward" in info]
        if self._bar is not None and finished:
            self._rewards = (self._rewards + finished)[-64:]
            self._bar.update(min(len(finished), self._total - self._bar.n))
            self._bar.set_postfix(reward=f"{np.mean(self._rewards):.3f}")
        return True

    def _on_training_end(self) -> None:
        if self._bar is not None:
            self._bar.close()
