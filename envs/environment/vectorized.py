"""Many episodes in lock-step as a ``VecEnv`` of Stable-Baselines3.

All run in one process with one copy of the network. Candidates complete after a step are measured together.

Shapes: K episodes, M action slots.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from ...rewards import Outcome, Reward, RewardFunction, TargetRange
from ..io.ranges import check_real, check_whole
from ..problem.features import STATIC_LAYER_FEATURES
from ..problem.problem import PruningProblem
from .episode import Episode, Observation, reward_of_episode
from .rendering import draw_layers
from .single import checked_problems, enough_slots, make_spaces

_LEAST_DEVIATION = 0.02
"""Added to the deviation of a group's rewards, so that differences by chance are not magnified: about the
deviation of equally good candidates."""


class LockstepVecEnv(VecEnv):
    """Run K episodes that equal those of K single environments, step by step.

    Args:
        problems: The problems; each episode draws one.
        reward: Scores candidates; from a range, each episode draws its target.
        num_envs: Number of episodes, K, at least 1.
        slots: Action slots, M; None is the width of the widest layer of all networks.
        hidden_features: Probability, in [0, 1], that an episode hides a static layer feature.
        group: Number of neighbouring episodes with the same network and target, a divisor of K. With more
            than one, an episode's reward is given relative to its group: minus their mean, divided by their
            deviation (Shao et al. 2024, arXiv 2402.03300, eq. 4). So networks and targets with high rewards
            do not outweigh the others. ``info`` has the reward itself.

    Raises:
        ValueError: If K is below 1, ``group`` is not a divisor of K, or ``hidden_features`` is out of its
            range.
        TypeError: If a problem is none.
    """

    def __init__(
        self,
        problems: Sequence[PruningProblem],
        reward: RewardFunction | TargetRange,
        num_envs: int,
        *,
        slots: int | None = None,
        hidden_features: float = 0.0,
        group: int = 1,
    ) -> None:
        check_whole("num_envs", num_envs, 1)
        check_real("hidden_features", hidden_features, 0, 1)
        if group < 1 or num_envs % group:
            raise ValueError(f"a group is {group} episodes; give a divisor of all {num_envs}")
        self._group = group
        self.problems = checked_problems(problems)
        self.reward = reward
        self.render_mode = "rgb_array"
        self._hidden_features = hidden_features
        self.slots = enough_slots(self.problems, slots)
        self._generators = [np.random.default_rng() for _ in range(num_envs)]
        self._actions: npt.NDArray[Any] = np.empty(0)
        self._episodes: list[Episode] = []
        super().__init__(num_envs, *make_spaces(self.slots))
        self._begin_all()

    def reset(self) -> Observation:
        """Begin K episodes, with the seeds set by :meth:`seed`."""
        for k, seed in enumerate(self._seeds):
            if seed is not None:
                # The same as Gymnasium does for np_random of a single environment.
                self._generators[k] = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        self._reset_seeds()
        self._begin_all()
        self.reset_infos = [{"network": episode.problem.name} for episode in self._episodes]
        return _stacked([episode.observe() for episode in self._episodes])

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Store the keep masks of the current layers, (K, M)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Apply the keep masks, measure the complete candidates, and restart finished episodes.

        Raises:
            TypeError, ValueError: If an action is wrong, as of :meth:`.Episode.requested`; no episode has
                gone on then.
        """
        if len(self._actions) != self.num_envs:
            raise ValueError(
                f"{len(self._actions)} actions were given for {self.num_envs} episodes; give one each"
            )
        for episode, action in zip(self._episodes, self._actions, strict=True):
            episode.requested(action)
        infos = [
            episode.decide(action) for episode, action in zip(self._episodes, self._actions, strict=True)
        ]
        rewards = np.zeros(self.num_envs, np.float32)
        dones = np.array([episode.done for episode in self._episodes])
        finished = np.flatnonzero(dones).tolist()
        for k, outcome in zip(finished, self._measure([self._episodes[k] for k in finished]), strict=True):
            rewards[k] = self._episodes[k].finish(outcome, infos[k])
            infos[k]["terminal_observation"] = self._episodes[k].observe()
            infos[k]["TimeLimit.truncated"] = False
            self._episodes[k] = self._begin(k)
        if self._group > 1:
            rewards = _relative(rewards.reshape(-1, self._group), dones.reshape(-1, self._group)).ravel()
        return _stacked([episode.observe() for episode in self._episodes]), rewards, dones, infos

    def _measure(self, episodes: list[Episode]) -> list[Outcome]:
        """Measure complete candidates, those of one network in one call."""
        outcomes: dict[int, Outcome] = {}
        for problem in self.problems:
            indices = [k for k, episode in enumerate(episodes) if episode.problem is problem]
            measured = problem.evaluator([episodes[k].masks for k in indices]) if indices else []
            outcomes.update(zip(indices, measured, strict=True))
        return [outcomes[k] for k in range(len(episodes))]

    def _begin_all(self) -> None:
        self._episodes = []
        for k in range(self.num_envs):
            self._episodes.append(self._begin(k))

    def _begin(self, k: int) -> Episode:
        """Begin an episode; the first of a group draws the network and the target for the others."""
        if k % self._group:
            first = self._episodes[k - k % self._group]
            return self._episode(k, first.problem, first.reward)
        problem = self.problems[int(self._generators[k].integers(len(self.problems)))]
        return self._episode(k, problem, reward_of_episode(self.reward, problem, self._generators[k].random))

    def _episode(self, k: int, problem: PruningProblem, reward: Reward) -> Episode:
        if not self._hidden_features:
            return Episode(problem, reward, self.slots)
        draw = self._generators[k].random
        shown = draw(len(STATIC_LAYER_FEATURES)) >= self._hidden_features
        return Episode(problem, reward, self.slots, shown)

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Draw each episode's layers."""
        return [draw_layers(episode.problem.network, episode.masks) for episode in self._episodes]

    def close(self) -> None:
        """Do nothing: there are no processes to stop."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute once per environment; all share the same."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute that all environments share."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method once per environment."""
        method = getattr(self, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return False for each environment: none is wrapped."""
        return [False for _ in self._get_indices(indices)]


def _relative(rewards: npt.NDArray[np.float32], dones: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Standardise the rewards of finished groups, (groups, episodes); the others are 0."""
    centred = rewards - rewards.mean(1, keepdims=True)
    scaled = centred / (rewards.std(1, keepdims=True) + _LEAST_DEVIATION)
    return np.where(dones, scaled, 0.0).astype(np.float32)


def _stacked(observations: list[Observation]) -> Observation:
    return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
