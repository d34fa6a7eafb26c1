"""One episode: the decisions about all layers of one network, from the input to the output.

The single environment holds one episode, the vectorised one many; all logic is here.

Shapes: L layers, N filters of a layer, M slots of the action (the widest layer), F and G features.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ...rewards import Outcome, Reward, RewardFunction, TargetRange, is_met, sample_reward
from ..cost.counts import size_ratio, smallest_ratio
from ..problem.features import FILTER_FEATURES, LAYER_FEATURES, LIMIT
from ..problem.problem import PruningProblem
from ..surgery.plan import Mask, resize_mask

Observation = dict[str, npt.NDArray[Any]]

_NEAR_DENSE = 0.9
"""Keep ratio suggested to the agent if the reward has a drop bound but no target: there the bound holds."""


def reward_of_episode(
    reward: RewardFunction | TargetRange, problem: PruningProblem, random: Callable[[], float]
) -> Reward:
    """Return the reward of an episode with a network; a target that is drawn is one that it can reach."""
    if isinstance(reward, TargetRange):
        return sample_reward(reward, random, smallest_ratio(problem.network, reward.size))
    return sample_reward(reward, random)


class Episode:
    """Hold the decisions of an episode and make its observations.

    Args:
        problem: The problem with the network to prune.
        reward: Scores the candidate at the end; its target and bound are part of the observation.
        slots: M, at least the width of the widest layer.
        shown: Factors of the static layer features, one per feature or one for all; 0 hides a feature.
    """

    def __init__(
        self, problem: PruningProblem, reward: Reward, slots: int, shown: npt.ArrayLike = 1.0
    ) -> None:
        self.problem = problem
        self.reward = reward
        self.slots = slots
        self.masks: list[Mask] = []
        self._shown = np.asarray(shown, np.float32)
        self._widths = problem.network.widths

    @property
    def position(self) -> int:
        """Index of the current layer."""
        return len(self.masks)

    @property
    def done(self) -> bool:
        """Whether every layer has been decided about."""
        return self.position == len(self._widths)

    def observe(self) -> Observation:
        """Return the observation of the current layer; all zeros after the last layer.

        Returns:
            ``filters`` (M, F) and ``layer`` (G,) float32 in [-3, 3]; ``mask`` (M,) int8, 1 for slots with a
            filter; ``position`` (1,) int32, the index of the layer.
        """
        filters = np.zeros((self.slots, len(FILTER_FEATURES)), np.float32)
        layer = np.zeros(len(LAYER_FEATURES), np.float32)
        mask = np.zeros(self.slots, np.int8)
        position = np.zeros(1, np.int32)
        if not self.done:
            features = self.problem.features
            layer_filters = features.filters[self.position]
            filters[: len(layer_filters)] = layer_filters
            mask[: len(layer_filters)] = 1
            layer[:] = np.concatenate([features.layers[self.position] * self._shown, self._dynamic()])
            position[:] = self.position
        layer = np.clip(layer, -LIMIT, LIMIT)
        return {"filters": filters, "layer": layer, "mask": mask, "position": position}

    def decide(self, action: npt.ArrayLike) -> dict[str, Any]:
        """Apply the keep mask of the current layer.

        If the number of kept filters is not allowed, the mask is repaired by Taylor score: the best removed
        filters are kept, or the worst kept ones removed.

        Args:
            action: As for :meth:`requested`.

        Returns:
            ``info`` with ``layer``, ``keep_ratio``, ``repaired``, ``macs_ratio`` and ``params_ratio``
            (undecided layers counted dense), and ``accuracy_drop``, None until the candidate is measured.

        Raises:
            TypeError, ValueError: As :meth:`requested`.
        """
        requested, layer = self.requested(action), self.problem.network.layers[self.position]
        count = layer.nearest_allowed(int(requested.sum()))
        mask = resize_mask(requested, count, self.problem.scores["taylor"][self.position])
        self.masks.append(mask)
        network, counts = self.problem.network, self._counts()
        return {
            "network": self.problem.name,
            "layer": layer.name,
            "keep_ratio": float(mask.mean()),
            "repaired": bool(count != requested.sum()),
            "macs_ratio": float(network.macs(counts) / network.macs(self._widths)),
            "params_ratio": float(network.params(counts) / network.params(self._widths)),
            "accuracy_drop": None,
        }

    def requested(self, action: npt.ArrayLike) -> Mask:
        """Return the keep mask (N,) that an action asks for.

        Args:
            action: Keep mask (M,) or (N,), 0 to 1, above 0.5 stays; slots beyond the layer's width are
                ignored.

        Raises:
            TypeError: If the entries are no real numbers.
            ValueError: If there are fewer than the layer has filters, or they are not between 0 and 1.
        """
        assert not self.done, "the episode is over; reset it"
        width, layer = int(self._widths[self.position]), self.problem.network.layers[self.position]
        values = np.asarray(action).ravel()
        if len(values) < width:
            raise ValueError(
                f"the action has {len(values)} entries, the layer {layer.name} has {width} filters; "
                "give one entry per filter"
            )
        if values.dtype.kind not in "biuf":
            raise TypeError(f"the action holds {values.dtype}; give numbers from 0 to 1, or booleans")
        values = values[:width]
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                "the action has entries outside of 0 to 1; give 1 for each filter that stays, else 0"
            )
        return np.asarray(values > 0.5)

    def finish(self, outcome: Outcome, info: dict[str, Any]) -> float:
        """Add the outcome to the last step's ``info`` and return the reward.

        Raises:
            TypeError: If the reward is no number.
            FloatingPointError: If it is undefined, or infinite in float32, in which agents learn.
        """
        given = self.reward(outcome)
        if isinstance(given, str | bytes) or np.ndim(given) or given is None:
            raise TypeError(f"the reward is {type(given).__name__}; give a function that returns a number")
        reward = float(given)
        if not abs(reward) <= np.finfo(np.float32).max:
            raise FloatingPointError(
                f"the reward of a candidate of {self.problem.name} is {reward}: its accuracy is "
                f"{outcome.accuracy:.2f} % and its loss {outcome.loss:.4g}; check the reward function"
            )
        info.update(
            macs_ratio=outcome.macs_ratio,
            params_ratio=outcome.params_ratio,
            accuracy=outcome.accuracy,
            accuracy_drop=outcome.accuracy_drop,
            loss=outcome.loss,
            reward=reward,
            masks=[mask.copy() for mask in self.masks],
            meets_target=is_met(self.reward, outcome),
            layer_keep_ratios={
                layer.name: float(mask.mean())
                for layer, mask in zip(self.problem.network.layers, self.masks, strict=True)
            },
        )
        return reward

    def _counts(self) -> npt.NDArray[np.int64]:
        """Return the kept counts; undecided layers count as dense."""
        counts = self._widths.copy()
        counts[: self.position] = [mask.sum() for mask in self.masks]
        return counts

    def _dynamic(self) -> npt.NDArray[np.float64]:
        """Return the features of the decisions so far and of the goal, as ratios of the reward's size."""
        counts = self._counts()
        min_counts = counts.copy()
        min_counts[self.position :] = self.problem.network.min_widths[self.position :]
        spent = self._size_ratio(min_counts)
        undecided = self._size_ratio(counts) - spent
        target = self.reward.target
        # Keep ratio needed in the undecided layers: most sizes grow with about the square of kept counts.
        power = 1.0 if self.reward.size == "filters" else 0.5
        share = np.clip(((target or 1.0) - spent) / max(undecided, 1e-6), 0.0, 1.0)
        needed = _NEAR_DENSE if target is None else share**power
        keep_ratio = (
            counts[: self.position].sum() / max(1, self._widths[: self.position].sum()) if self.masks else 1.0
        )
        bound = self.reward.drop_bound
        return np.array([spent, undecided, needed, keep_ratio, target or 0.0, (bound or 0.0) / 10])

    def _size_ratio(self, counts: npt.NDArray[np.int64]) -> float:
        return float(size_ratio(self.problem.network, counts, self.reward.size))
