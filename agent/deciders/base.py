"""The interface of deciders.

Shapes: L layers, N filters of a layer.
"""

from typing import Protocol

from ...envs.problem.problem import PruningProblem
from ...envs.surgery.plan import Mask
from ...rewards import Size


class Decider(Protocol):
    """Choose which filters stay."""

    @property
    def name(self) -> str:
        """The method's name on the command line and in tables."""

    def decide(self, problem: PruningProblem, target: float, size: Size) -> list[list[Mask]]:
        """Propose candidates that meet a size.

        Args:
            problem: The network and its data.
            target: Largest size ratio, pruned / dense, in (0, 1].
            size: The cost that has to meet the target.

        Returns:
            At least one candidate, each with one keep mask (N,) per layer. The decider prefers the first.

        Raises:
            ValueError: If the network exceeds the target even with the fewest filters allowed.
        """
