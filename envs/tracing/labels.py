"""Labels: they say which indices of which tensors have to be removed together.

Every index of every parameter axis longer than one gets a label, an integer. While the network runs, the rule
of each operation records *ties* (these labels belong to the same channel) and *pins* (these labels must stay,
with the cause). Connected components join the ties once, at the end.

A constant, such as ``torch.zeros(b, c, h, w)``, is the same along each axis, so it has the size of whatever
it meets. Its labels are *free* until they are tied or pinned; from then on they are read as what they met.
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
        weight: True for parameters, buffers and what is made of these and of numbers alone: a product with it
            produces filters.
        vanishes: True if masking any label of any axis makes the elements at its indices zero, exactly and in
            both modes. So a sum over such an axis does not change when the channels are removed.
    """

    axes: tuple[LabelVector | None, ...]
    shape: tuple[int, ...]
    weight: bool = False
    vanishes: bool = False

    @staticmethod
    def fixed(shape: Sequence[int]) -> "Value":
        """Describe a tensor without labels."""
        return Value((None,) * len(shape), tuple(shape))

    def labels_axis(self, axis: int) -> bool:
        """Return whether there are labels on an axis, which is counted from the last one, -1."""
        return -axis <= len(self.axes) and self.axes[axis] is not None


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


_FIXED = -1
"""What a free label has met if it was pinned."""


class Labels:
    """Collect labels, ties and pins, and solve them."""

    def __init__(self) -> None:
        self.count = 0
        self._ties: list[tuple[LabelVector, LabelVector]] = []
        self._pins: list[tuple[LabelVector, Cause]] = []
        self._met = np.empty(0, np.int64)  # of each label: a free one that has met nothing, has itself
        self._free = np.empty(0, np.bool_)  # whether each label was made free
        self._first_free: int | None = None

    def fresh(self, size: int, *, free: bool = False) -> LabelVector:
        """Return ``size`` new labels."""
        labels = np.arange(self.count, self.count + size)
        self.count += size
        if self.count > len(self._met):
            more = max(self.count, 2 * len(self._met)) - len(self._met)
            self._met = np.concatenate([self._met, len(self._met) + np.arange(more)])
            self._free = np.concatenate([self._free, np.zeros(more, np.bool_)])
        if free and size:
            self._free[labels] = True
            self._first_free = labels[0] if self._first_free is None else self._first_free
        return labels

    def resolve(self, labels: LabelVector) -> LabelVector | None:
        """Replace free labels by what they met; None if all of them were pinned."""
        if self._first_free is None or not labels.size or labels.max() < self._first_free:
            return labels
        found = self._followed(labels)
        return None if (found == _FIXED).all() else np.where(found == _FIXED, labels, found)

    def are_free(self, labels: LabelVector) -> bool:
        """Return whether none of the labels has met a channel; some may be pinned."""
        found = self._followed(labels)
        return bool((self._free[found] | (found == _FIXED)).all())

    def _followed(self, labels: LabelVector) -> LabelVector:
        """Follow free labels to what they met in the end."""
        while True:
            met = np.where(labels == _FIXED, _FIXED, self._met[labels])
            if np.array_equal(met, labels):
                return labels
            labels = met

    def tie(self, a: LabelVector, b: LabelVector) -> None:
        """Join two label vectors, element by element (they broadcast)."""
        a, b = (x.ravel() for x in np.broadcast_arrays(a, b))
        if not np.array_equal(a, b):
            self._ties.append((a, b))
            if self._first_free is not None:
                self._meet(a, b)
                self._meet(b, a)

    def pin(self, labels: LabelVector, cause: Cause) -> None:
        """Pin ``labels`` and everything that is or will be tied to them."""
        if labels.size:
            self._pins.append((labels.ravel(), cause))
            if self._first_free is not None:
                self._meet(labels.ravel(), np.full(labels.size, _FIXED))

    def _meet(self, labels: LabelVector, others: LabelVector) -> None:
        """Note what the free ones of ``labels`` met: of two free labels the later one meets the earlier."""
        free = self._free[labels] & (self._met[labels] == labels)
        free &= (others < labels) | ~self._free[others]
        self._met[labels[free]] = others[free]

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
