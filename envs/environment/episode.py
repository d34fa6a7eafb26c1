"""One walk over the layers of one network, from the input to the output.

The single environment holds one episode, the vectorised one holds many; neither has logic of its own.

Shapes: L layers, N filters of a layer, M slots of the action (the widest layer), F and G features.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ...rewards import Outcome, Reward, is_met
from ..cost.counts import size_ratio
from ..problem.features import FILTER_FEATURES, LAYER_FEATURES, LIMIT
from ..problem.problem import PruningProblem
from ..surgery.cutting import Mask
from ..surgery.plan import resize_mask

Observation = dict[str, npt.NDArray[Any]]

_NEAR_DENSE = 0.9
"""The keep ratio to begin with where an accuracy bound is wanted and no size: there the bound holds."""


class Episode:
    """What has been decided so far, and what is seen next.

    Args:
        problem: The network at hand.
        reward: Judges the candidate at the end; its wish is part of what is seen.
        slots: M, at least the width of the widest layer.
        shown: What static layer features are multiplied by, (number of them,) or one for all: 0 hides.
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
        """Index of the layer to decide about."""
        return len(self.masks)

    @property
    def done(self) -> bool:
        """Whether every layer has been decided about."""
        return self.position == len(self._widths)

    def observe(self) -> Observation:
        """Give what is seen of the layer at hand; all zeros after the last one.

        Returns:
            ``filters`` (M, F) and ``layer`` (G,) float32 in [-3, 3]; ``mask`` (M,) int8, 1 for real slots;
            ``position`` (1,) int32, the number of the layer.
        """
        filters = np.zeros((self.slots, len(FILTER_FEATURES)), np.float32)
        layer = np.zeros(len(LAYER_FEATURES), np.float32)
        mask = np.zeros(self.slots, np.int8)
        position = np.zeros(1, np.int32)
        if not self.done:
            features = self.problem.features
            own = features.filters[self.position]
            filters[: len(own)] = own
            mask[: len(own)] = 1
            layer[:] = np.concatenate([features.layers[self.position] * self._shown, self._dynamic()])
            position[:] = self.position
        layer = np.clip(layer, -LIMIT, LIMIT)
        return {"filters": filters, "layer": layer, "mask": mask, "position": position}

    def decide(self, action: npt.ArrayLike) -> dict[str, Any]:
        """Take the keep mask of the layer at hand.

        Args:
            action: (M,) or (N,), above 0.5 stays; slots beyond the layer's width are ignored.

        Returns:
            ``info`` with ``layer``, ``keep_ratio``, ``repaired`` (as many filters may not stay, none for
            instance, so those with the highest Taylor scores came back, or those with the lowest went),
            ``macs_ratio`` and ``params_ratio`` with the undecided layers dense, and ``accuracy_drop``, None
            until the candidate is measured.

        Raises:
            ValueError: If the action has fewer entries than the layer has filters.
        """
        assert not self.done, "the episode is over; reset it"
        width = int(self._widths[self.position])
        layer = self.problem.network.layers[self.position]
        given = np.asarray(action).ravel()
        if len(given) < width:
            raise ValueError(
                f"the action has {len(given)} entries, the layer {layer.name} has {width} filters; "
                "give one a filter"
            )
        wanted = given[:width] > 0.5
        count = layer.nearest_allowed(int(wanted.sum()))
        mask = resize_mask(wanted, count, self.problem.scores["taylor"][self.position])
        self.masks.append(mask)
        network, counts = self.problem.network, self._counts()
        return {
            "network": self.problem.name,
            "layer": layer.name,
            "keep_ratio": float(mask.mean()),
            "repaired": count != wanted.sum(),
            "macs_ratio": float(network.macs(counts) / network.macs(self._widths)),
            "params_ratio": float(network.params(counts) / network.params(self._widths)),
            "accuracy_drop": None,
        }

    def finish(self, outcome: Outcome, info: dict[str, Any]) -> float:
        """Complete the last step's ``info`` with what was measured, and give the reward.

        Raises:
            FloatingPointError: If the reward is infinite or undefined.
        """
        reward = float(self.reward(outcome))
        if not math.isfinite(reward):
            raise FloatingPointError(
                f"the reward of a candidate of {self.problem.name} is {reward}: its accuracy is "
                f"{outcome.accuracy:.2f} % and its loss {outcome.loss:.4g}, so look at the reward"
            )
        info.update(
            macs_ratio=outcome.macs_ratio,
            params_ratio=outcome.params_ratio,
            accuracy=outcome.accuracy,
            accuracy_drop=outcome.accuracy_drop,
            loss=outcome.loss,
            reward=reward,
            masks=self.masks,
            meets_target=is_met(self.reward, outcome),
            layer_keep_ratios={
                layer.name: float(mask.mean())
                for layer, mask in zip(self.problem.network.layers, self.masks, strict=True)
            },
        )
        return reward

    def _counts(self) -> npt.NDArray[np.int64]:
        """Count kept filters, undecided layers dense."""
        counts = self._widths.copy()
        counts[: self.position] = [mask.sum() for mask in self.masks]
        return counts

    def _dynamic(self) -> npt.NDArray[np.float64]:
        """See what has been spent and what is wanted; ratios of the size that the reward counts."""
        counts = self._counts()
        least = counts.copy()
        least[self.position :] = self.problem.network.min_widths[self.position :]
        spent = self._size_ratio(least)
        undecided = self._size_ratio(counts) - spent
        target = self.reward.target
        # The keep ratio of what is undecided: most sizes grow with about the square of the kept counts.
        power = 1.0 if self.reward.size == "filters" else 0.5
        share = np.clip(((target or 1.0) - spent) / max(undecided, 1e-6), 0.0, 1.0)
        needed = _NEAR_DENSE if target is None else share**power
        kept = (
            counts[: self.position].sum() / max(1, self._widths[: self.position].sum()) if self.masks else 1.0
        )
        bound = self.reward.drop_bound
        return np.array([spent, undecided, needed, kept, target or 0.0, (bound or 0.0) / 10])

    def _size_ratio(self, counts: npt.NDArray[np.int64]) -> float:
        return float(size_ratio(self.problem.network, counts, self.reward.size))
