"""Labels: they say which indices of which tensors have to be removed together.

Every index of every parameter axis longer than one gets a label, an integer. While the network runs, the rule
of each operation records *ties* (these labels belong to the same channel) and *pins* (these labels must stay,
with the cause). Connected components join the ties once, at the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LabelVector = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Value:
    """The labels of a tensor: for each axis, the label of every index.

    Args:
        axes: One entry per axis: a label vector as long as the axis, or None if the axis is fixed (batch,
            pixels, colours of the input).
        shape: The tensor's shape.
        weight: True for a parameter and its rearrangements: masking a label makes its elements zero.
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
    """The reason why channels are pinned.

    Args:
        reason: A phrase for users, such as "the network's output".
        operation: The ATen operation that caused it, or "".
        module: Dotted name of the module that ran the operation, "" for the network itself.
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
    """Collect labels, ties and pins, and solve them."""

    def __init__(self) -> None:
        self.count = 0
        self._ties: list[tuple[LabelVector, LabelVector]] = []
        self._pins: list[tuple[LabelVector, Cause]] = []

    def fresh(self, size: int) -> LabelVector:
        """Return ``size`` new labels."""
        labels = np.arange(self.count, self.count + size)
        self.count += size
        return labels

    def tie(self, a: LabelVector, b: LabelVector) -> None:
        """Join two label vectors, element by element (they broadcast)."""
        a, b = np.broadcast_arrays(a, b)
        if not np.array_equal(a, b):
            self._ties.append((a.ravel(), b.ravel()))

    def pin(self, labels: LabelVector, cause: Cause) -> None:
        """Pin ``labels`` and everything that is or will be tied to them."""
        if labels.size:
            self._pins.append((labels.ravel(), cause))

    def solve(self, kept: Iterable[tuple[LabelVector, Cause]] = ()) -> tuple[LabelVector, dict[int, Cause]]:
        """Join all ties.

        Args:
            kept: More pins, which come first: labels and their cause.

        Returns:
            The class of every label, shape (count,), and the first cause of each pinned class.
        """
        rows = np.concatenate([np.empty(0, np.int64), *(a for a, _ in self._ties)])
        columns = np.concatenate([np.empty(0, np.int64), *(b for _, b in self._ties)])
        graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(self.count, self.count))
        _, classes = connected_components(graph, directed=False)
        pinned: dict[int, Cause] = {}
        for labels, cause in (*kept, *self._pins):
            for label_class in np.unique(classes[labels]).tolist():
                pinned.setdefault(label_class, cause)
        return classes.astype(np.int64), pinned
