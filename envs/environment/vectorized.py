"""Many episodes in lock-step behind Stable-Baselines3's ``VecEnv``.

One process, no copies of the network: the candidates that are complete after a step are measured together.

Shapes: K episodes, M action slots.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from ...rewards import Outcome, RewardFunction, TargetRange, sample_reward
from ..problem.features import STATIC_LAYER_FEATURES
from ..problem.problem import PruningProblem
from .episode import Episode, Observation
from .rendering import draw_layers
from .single import enough_slots, make_spaces


class LockstepVecEnv(VecEnv):
    """K environments that equal K single ones, step by step.

    Args:
        problems: The networks to prune; each episode draws one.
        reward: Judges candidates, any function of an outcome; of a range each episode draws its target.
        num_envs: K.
        slots: M; None takes the widest layer of all networks.
        hidden_features: Probability that an episode does not show one of the static layer features, in
            [0, 1].
    """

    def __init__(
        self,
        problems: Sequence[PruningProblem],
        reward: RewardFunction | TargetRange,
        num_envs: int,
        *,
        slots: int | None = None,
        hidden_features: float = 0.0,
    ) -> None:
        self.problems = list(problems)
        self.reward = reward
        self.render_mode = "rgb_array"
        self._hidden_features = hidden_features
        self.slots = enough_slots(self.problems, slots)
        self._generators = [np.random.default_rng() for _ in range(num_envs)]
        self._actions: npt.NDArray[Any] = np.empty(0)
        super().__init__(num_envs, *make_spaces(self.slots))
        self._episodes = [self._begin(k) for k in range(num_envs)]

    def reset(self) -> Observation:
        """Begin K episodes, with the seeds given to :meth:`seed` before."""
        for k, seed in enumerate(self._seeds):
            if seed is not None:
                # As gymnasium seeds a single environment's np_random.
                self._generators[k] = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        self._reset_seeds()
        self._episodes = [self._begin(k) for k in range(self.num_envs)]
        self.reset_infos = [{"network": episode.problem.name} for episode in self._episodes]
        return _stacked([episode.observe() for episode in self._episodes])

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take K keep masks, (K, M)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Decide in all episodes, measure the complete candidates, begin anew where one is over."""
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
        return _stacked([episode.observe() for episode in self._episodes]), rewards, dones, infos

    def _measure(self, episodes: list[Episode]) -> list[Outcome]:
        """Measure complete candidates, those of one network in one call."""
        outcomes: dict[int, Outcome] = {}
        for problem in self.problems:
            own = [k for k, episode in enumerate(episodes) if episode.problem is problem]
            measured = problem.evaluator([episodes[k].masks for k in own]) if own else []
            outcomes.update(zip(own, measured, strict=True))
        return [outcomes[k] for k in range(len(episodes))]

    def _begin(self, k: int) -> Episode:
        problem = self.problems[int(self._generators[k].integers(len(self.problems)))]
        draw = self._generators[k].random
        reward = sample_reward(self.reward, draw)
        if not self._hidden_features:
            return Episode(problem, reward, self.slots)
        shown = draw(len(STATIC_LAYER_FEATURES)) >= self._hidden_features
        return Episode(problem, reward, self.slots, shown)

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Draw each episode's layers."""
        return [draw_layers(episode.problem.network, episode.masks) for episode in self._episodes]

    def close(self) -> None:
        """Release nothing: there are no processes."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Give an attribute once an environment; all share the same."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute that all environments share."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method once an environment."""
        method = getattr(self, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Say that no environment in here is wrapped."""
        return [False for _ in self._get_indices(indices)]


def _stacked(observations: list[Observation]) -> Observation:
    return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
