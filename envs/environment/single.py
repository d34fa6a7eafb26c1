"""The Gymnasium environment ``secateur/FilterPruning-v0``."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from ...rewards import RewardFunction, TargetRange, TargetReward, sample_reward
from ..io.ranges import check_whole
from ..problem.features import FILTER_FEATURES, LAYER_FEATURES, LIMIT
from ..problem.problem import PruningProblem
from .episode import Episode, Observation, reward_of_episode
from .rendering import draw_layers


class FilterPruningEnv(gym.Env[Observation, npt.NDArray[np.int8]]):
    """Decide, layer by layer, which filters of a trained CNN stay.

    ## Description
    One episode decides about the layers of one network in forward order. After the last layer the candidate
    is measured on held-out data, with re-estimated batch-norm statistics. With several networks, each episode
    draws one of them at random.

    ## Action space
    ``MultiBinary(M)``: the keep mask of the current layer, 1 stays. M is the width of the widest layer; slots
    beyond the layer's width are ignored. A mask that keeps no filter, or a number that a constraint forbids,
    is repaired: to the nearest allowed number, by Taylor score.

    ## Observation space
    ``Dict``: ``filters`` (M, F), features of each filter, zero in empty slots; ``layer`` (G,), features of
    the layer, of the decisions so far and of the goal, all within [-3, 3]; ``mask`` (M,), 1 for slots with a
    filter; ``position`` (1,), the index of the layer, from 0. See :mod:`secateur.envs.problem.features` for
    the features by name.

    ## Rewards
    0 until the last layer, then the value of ``reward`` for the measured candidate (:mod:`secateur.rewards`).

    ## Termination
    After the last layer; episodes are never truncated. ``info`` has ``layer``, ``keep_ratio``, ``repaired``,
    ``macs_ratio``, ``params_ratio`` (undecided layers counted dense) and ``accuracy_drop`` in percentage
    points (None until measured). After the last layer it also has ``accuracy``, ``loss``, ``reward``,
    ``meets_target`` (whether the reward's target and drop bound are met), ``layer_keep_ratios``, and
    ``masks``, one keep mask (N,) per layer.

    ## Registered configurations
    ``gymnasium.make("secateur/FilterPruning-v0")`` prunes the demo CNN, trained for a few seconds on the
    bundled digits. ``gymnasium.make("secateur/FilterPruning-v0", problems=problem, reward=reward)`` prunes
    your network.

    Args:
        problems: One or several problems; None is the demo CNN.
        reward: Scores candidates; None is the default :class:`.TargetReward`.
        slots: Action slots, M; None is the width of the widest layer of all networks.
        render_mode: ``rgb_array`` or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 (as gymnasium declares it)

    def __init__(
        self,
        problems: PruningProblem | Sequence[PruningProblem] | None = None,
        reward: RewardFunction | TargetRange | None = None,
        *,
        slots: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if problems is None:
            from .demo import demo_problem  # trains a network, so only if needed

            problems = demo_problem()
        self.problems = checked_problems(problems)
        self.reward = TargetReward() if reward is None else reward
        sample_reward(self.reward, lambda: 0.0)  # refuses what is none before the first episode
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"there is no render mode {render_mode!r}; give rgb_array, or None")
        self.render_mode = render_mode
        self.slots = enough_slots(self.problems, slots)
        self.observation_space, self.action_space = make_spaces(self.slots)  # type: ignore[assignment]
        self._episode: Episode | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode at the first layer of a network drawn at random."""
        super().reset(seed=seed)
        problem = self.problems[int(self.np_random.integers(len(self.problems)))]
        reward = reward_of_episode(self.reward, problem, self.np_random.random)
        self._episode = Episode(problem, reward, self.slots)
        return self._episode.observe(), {"network": problem.name}

    def step(self, action: npt.ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply the keep mask of the current layer; measure the candidate after the last layer."""
        episode = self._running()
        if episode.done:
            raise RuntimeError("the episode is over; call reset() to begin the next one")
        info, reward = episode.decide(action), 0.0
        if episode.done:
            reward = episode.finish(episode.problem.evaluator([episode.masks])[0], info)
        return episode.observe(), reward, episode.done, False, info

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Draw the kept and removed filters of each layer as bars.

        Returns:
            (height, width, 3) uint8, or None without a render mode.
        """
        if self.render_mode is None:
            return None
        episode = self._running()
        return draw_layers(episode.problem.network, episode.masks)

    def _running(self) -> Episode:
        if self._episode is None:
            raise RuntimeError("no episode is running; call reset() first")
        return self._episode


def checked_problems(problems: PruningProblem | Sequence[PruningProblem]) -> list[PruningProblem]:
    """Return one or several problems as a list.

    Raises:
        TypeError: If something else is among them, such as a network.
    """
    given: Sequence[object] = problems if isinstance(problems, list | tuple) else [problems]
    found = [each for each in given if isinstance(each, PruningProblem)]
    if len(found) < len(given):
        other = next(type(each).__name__ for each in given if not isinstance(each, PruningProblem))
        raise TypeError(f"a problem is {other}; give PruningProblem.build(name, model, task), or several")
    return found


def enough_slots(problems: Sequence[PruningProblem], slots: int | None) -> int:
    """Return the number of action slots: ``slots``, or the width of the widest layer if None.

    Raises:
        ValueError: If ``slots`` is no whole number, or a layer has more filters.
    """
    widest = widest_layer(problems)
    if slots is not None:
        check_whole("slots", slots, 1)
    if slots is not None and slots < widest:
        raise ValueError(f"slots is {slots}; the widest layer has {widest} filters, so give at least that")
    return slots or widest


def widest_layer(problems: Sequence[PruningProblem]) -> int:
    """Return the width of the widest layer of several networks.

    Raises:
        ValueError: If there is no network.
    """
    if not problems:
        raise ValueError("no network to prune was given; give at least one PruningProblem")
    return max(int(problem.network.widths.max()) for problem in problems)


def make_spaces(slots: int) -> tuple[spaces.Dict, spaces.MultiBinary]:
    """Make the observation and the action space; of the networks they depend on ``slots`` only."""
    observation = spaces.Dict(
        {
            "filters": spaces.Box(-LIMIT, LIMIT, (slots, len(FILTER_FEATURES)), np.float32),
            "layer": spaces.Box(-LIMIT, LIMIT, (len(LAYER_FEATURES),), np.float32),
            "mask": spaces.MultiBinary(slots),
            "position": spaces.Box(0, np.iinfo(np.int32).max, (1,), np.int32),
        }
    )
    return observation, spaces.MultiBinary(slots)
