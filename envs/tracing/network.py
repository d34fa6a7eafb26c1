"""What a trace comes to: layers of filters to decide about, what is pinned, and the cost of what is kept.

Shapes: L layers, N filters of a layer, T product terms, A axes of a term, S sizes in a list.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from .labels import Cause

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Role = Literal["producer", "input_channel", "per_channel"]


@dataclass(frozen=True)
class Slice:
    """Where the filters of a layer lie in one parameter.

    Args:
        parameter: Name of a parameter or buffer.
        axis: The axis along which a filter is removed.
        index: Positions along the axis, shape (N, m): m of them belong to each filter.
        role: ``producer`` computes the filter, ``consumer`` reads its channel, ``vector`` has one number a
            filter (bias, batch-norm).
    """

    parameter: str
    axis: int
    index: Ints
    role: Role


@dataclass(frozen=True)
class Layer:
    """Filters the agent decides about in one step: the producers whose channels are coupled.

    Args:
        name: Module name of the first producer, in forward order.
        filters: How many filters can go, N.
        producers: Module names of all producers, in forward order.
        slices: What has to go with a filter, everywhere.
        allowed: How many filters may stay, ascending, the last is N; all from 1 to N unless
            :func:`secateur.envs.surgery.constraints.constrain` allows fewer.
    """

    name: str
    filters: int
    producers: tuple[str, ...]
    slices: tuple[Slice, ...] = field(repr=False)
    allowed: Ints = field(repr=False)

    def __post_init__(self) -> None:
        assert self.allowed[-1] == self.filters, f"{self.name}: all filters may always stay"

    @property
    def consumers(self) -> tuple[str, ...]:
        """Module names of what reads the layer's channels."""
        names = (s.parameter.rpartition(".")[0] for s in self.slices if s.role == "input_channel")
        return tuple(dict.fromkeys(names))

    def nearest_allowed(self, count: int) -> int:
        """Give the allowed count of kept filters next to a wanted one, the smaller of two."""
        return int(self.allowed[np.abs(self.allowed - count).argmin()])


@dataclass(frozen=True)
class PinnedLayer:
    """A producer some or all of whose filters must stay, and why.

    Args:
        name: Module name of the producer.
        filters: All its filters.
        pinned: How many of them stay for good.
        outputs: How many of the pinned ones are the network's output.
        cause: Why; of several causes one that is not the output, if there is any.
    """

    name: str
    filters: int
    pinned: int
    outputs: int
    cause: Cause


@dataclass(frozen=True)
class Products:
    """A sum of products of kept counts: ``sum_t factor[t] * prod_a (fixed[t, a] + slope[t, a] @ kept)``."""

    factor: Floats  # (T,)
    fixed: Floats  # (T, A)
    slope: Floats  # (T, A, L)

    def terms(self, kept: npt.ArrayLike) -> Floats:
        """Evaluate each product.

        Args:
            kept: Kept filters of each layer, shape (..., L).

        Returns:
            Shape (..., T).
        """
        counts = np.tensordot(np.asarray(kept, np.float64), self.slope, axes=(-1, -1)) + self.fixed
        return np.asarray(self.factor * counts.prod(axis=-1))

    def of_one_filter(self, kept: npt.ArrayLike) -> Floats:
        """Give what goes with one more filter of each layer, shape (L,), for kept counts of shape (L,)."""
        counts = np.asarray(kept)
        return np.asarray(self(counts) - self(counts - np.eye(len(counts))))

    def __call__(self, kept: npt.ArrayLike) -> Floats:
        """Evaluate the sum for kept counts of shape (..., L); gives shape (...)."""
        return np.asarray(self.terms(kept).sum(axis=-1))


@dataclass(frozen=True)
class Size:
    """An integer, or a list of them, that a module's forward code reads and that shrinks with a cut.

    An example is ``Bottle2neck.width`` in ``torch.split(x, self.width, 1)``.

    Args:
        module: Dotted name of the module.
        attribute: Name of its attribute.
        fixed: What stays of each size, shape (S,).
        slope: What each kept filter adds to each size, shape (S, L).
        scalar: True for an integer, False for a list.
    """

    module: str
    attribute: str
    fixed: Ints
    slope: Ints
    scalar: bool

    @property
    def path(self) -> str:
        """The attribute's dotted name."""
        return f"{self.module}.{self.attribute}" if self.module else self.attribute

    def values(self, kept: npt.ArrayLike) -> tuple[int, ...]:
        """Give the sizes for kept filters of each layer, shape (L,)."""
        return tuple((self.fixed + self.slope @ np.asarray(kept, np.int64)).tolist())


@dataclass(frozen=True)
class TracedNetwork:
    """The result of a trace.

    Args:
        layers: What can be decided, in forward order.
        pinned: What must stay, and why.
        macs: Multiply-accumulate operations of one example in evaluation mode, by kept filters.
        params: Parameters, by kept filters.
        total_filters: Output channels of all producers, prunable or not.
        sizes: Attributes of modules that have to follow a cut.
        latency: Milliseconds a batch, shape (...), by kept filters, shape (..., L); None until somebody timed
            the network, see :func:`secateur.envs.cost.profiling.with_latency`.
    """

    layers: tuple[Layer, ...]
    pinned: tuple[PinnedLayer, ...]
    macs: Products = field(repr=False)
    params: Products = field(repr=False)
    total_filters: int
    sizes: tuple[Size, ...] = ()
    latency: Callable[[npt.ArrayLike], Floats] | None = field(default=None, repr=False, compare=False)

    @property
    def widths(self) -> Ints:
        """Filters of each layer in the dense network, shape (L,)."""
        return np.array([layer.filters for layer in self.layers], np.int64)

    @property
    def min_widths(self) -> Ints:
        """The fewest filters of each layer that may stay, shape (L,)."""
        return np.array([layer.allowed[0] for layer in self.layers], np.int64)

    def nearest_allowed(self, counts: npt.ArrayLike) -> Ints:
        """Give the allowed counts next to wanted ones, shape (L,)."""
        wanted = np.asarray(counts).tolist()
        pairs = zip(self.layers, wanted, strict=True)
        return np.array([layer.nearest_allowed(count) for layer, count in pairs], np.int64)

    @property
    def prunable_share(self) -> float:
        """Part of the producers' output channels that may go, in [0, 1].

        The network's own outputs are not counted: they can never go.
        """
        outputs = sum(layer.outputs for layer in self.pinned)
        stuck = sum(layer.pinned for layer in self.pinned) - outputs
        return 1.0 - stuck / max(1, self.total_filters - outputs)
