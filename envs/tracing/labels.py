"""Labels: who must live and die together.

Every index of every parameter axis longer than one gets a label, an integer. While a network runs, rules by
operation record *ties* (these labels name the same channel) and *pins* (these labels must stay, and why).
Union-find joins the ties once, at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LabelVector = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Value:
    """What is known of a tensor: its shape and, per axis, the label of every index.

    Args:
        axes: One entry an axis: a label vector as long as the axis, or None where the axis is fixed (batch,
            pixels, the colours of the input).
        shape: The tensor's shape.
        weight: True for a parameter and its mere rearrangements: where a label is masked, it is zero.
    """

    axes: tuple[LabelVector | None, ...]
    shape: tuple[int, ...]
    weight: bool = False

    @staticmethod
    def fixed(shape: Sequence[int]) -> "Value":
        """Describe a tensor without labels."""
        return Value((None,) * len(shape), tuple(shape))


@dataclass(frozen=True)
class Cause:
    """Why something is pinned.

    Args:
        reason: A sentence fragment for people, such as "the network's output".
        operation: The ATen operation at fault, or "" where there is none.
        module: Dotted name of the module that ran it, "" for the network itself.
        source: "file:line" in the model's own code, or "".
    """

    reason: str
    operation: str = ""
    module: str = ""
    source: str = ""

    def __str__(self) -> str:
        where = f" in {self.module}" if self.module else ""
        return f"{self.reason}{where}" + (f" ({self.source})" if self.source else "")


class Labels:
    """A book of labels, ties and pins, and its solution."""

    def __init__(self) -> None:
        self.count = 0
        self._ties: list[tuple[LabelVector, LabelVector]] = []
        self._pins: list[tuple[LabelVector, Cause]] = []

    def fresh(self, size: int) -> LabelVector:
        """Hand out ``size`` labels that nobody has."""
        labels = np.arange(self.count, self.count + size)
        self.count += size
        return labels

    def tie(self, one: LabelVector, other: LabelVector) -> None:
        """Join two label vectors, element by element (they broadcast)."""
        one, other = np.broadcast_arrays(one, other)
        if not np.array_equal(one, other):
            self._ties.append((one.ravel(), other.ravel()))

    def pin(self, labels: LabelVector, cause: Cause) -> None:
        """Keep ``labels`` for good, and everything that is or will be tied to them."""
        if labels.size:
            self._pins.append((labels.ravel(), cause))

    def solve(self) -> tuple[LabelVector, dict[int, Cause]]:
        """Join all ties.

        Returns:
            The class of every label, shape (count,), and the first cause by pinned class.
        """
        ones = np.concatenate([np.empty(0, np.int64), *(one for one, _ in self._ties)])
        others = np.concatenate([np.empty(0, np.int64), *(other for _, other in self._ties)])
        graph = coo_array((np.ones(len(ones), np.int8), (ones, others)), shape=(self.count, self.count))
        _, classes = connected_components(graph, directed=False)
        pinned: dict[int, Cause] = {}
        for labels, cause in self._pins:
            for label_class in np.unique(classes[labels]).tolist():
                pinned.setdefault(label_class, cause)
        return classes.astype(np.int64), pinned
