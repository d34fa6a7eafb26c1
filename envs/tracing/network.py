"""The result of a trace: prunable layers, pinned layers, and the cost as a function of kept counts.

Shapes: L layers, N filters of a layer, T product terms, A axes of a term, S sizes in a list.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..io.wording import counted
from ..modules.calls import Call
from ..modules.units import Units
from .naming import abbreviated
from .pinned import PinnedLayer, sum_up
from .reach import UNREACHED, advice

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Precision = Literal["float64", "float32"]
Role = Literal["producer", "input_channel", "per_channel"]


@dataclass(frozen=True)
class Slice:
    """The positions of a layer's filters in one parameter.

    Args:
        parameter: Name of a parameter or buffer.
        axis: The axis along which filters are removed.
        index: Positions on the axis, shape (N, m): m of them belong to each filter.
        role: ``producer`` computes the filter, ``input_channel`` consumes its channel, ``per_channel`` has
            one number per filter (bias, batch-norm).
    """

    parameter: str
    axis: int
    index: Ints
    role: Role


@dataclass(frozen=True)
class Layer:
    """The filters that the agent decides about in one step: those of producers with coupled channels.

    Args:
        name: Module name of the first producer, in forward order.
        filters: Number of prunable filters, N.
        producers: Module names of all producers, in forward order.
        slices: The parts of all parameters that are removed together with a filter.
        allowed: Allowed counts of kept filters, ascending, the last is N. All from 1 to N, unless
            :func:`secateur.envs.surgery.constraints.constrain` allows fewer.
        exact_from: Smallest count of kept filters at which trial cuts were exact.
    """

    name: str
    filters: int
    producers: tuple[str, ...]
    slices: tuple[Slice, ...] = field(repr=False)
    allowed: Ints = field(repr=False)
    exact_from: int = 1

    def __post_init__(self) -> None:
        assert self.allowed[-1] == self.filters, f"{self.name}: all filters may always stay"

    @cached_property
    def main_slice(self) -> Slice:
        """The positions of the filters in the weight of a producer, if there is one."""
        return next((s for s in self.slices if s.role == "producer"), self.slices[0])

    @cached_property
    def fingerprint(self) -> str:
        """A digest of where the filters lie; layers with equal ones have the same filters."""
        return self.fingerprint_at(self.main_slice.index)

    def fingerprint_at(self, index: Ints) -> str:
        """Return the layer's fingerprint for other positions on its main slice, (N, m)."""
        text = f"{self.producers} {self.main_slice.axis} {index.shape} "
        return hashlib.sha1(text.encode() + index.astype("<i4").tobytes()).hexdigest()[:8]

    @property
    def consumers(self) -> tuple[str, ...]:
        """Module names of the consumers of the layer's channels."""
        names = (s.parameter.rpartition(".")[0] for s in self.slices if s.role == "input_channel")
        return tuple(dict.fromkeys(names))

    def nearest_allowed(self, count: int) -> int:
        """Return the allowed count of kept filters nearest to ``count``, the smaller of two."""
        return _nearest(self.allowed, count)


def _nearest(counts: Ints, count: int) -> int:
    return int(counts[np.abs(counts - count).argmin()])


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

    def per_filter(self, kept: npt.ArrayLike) -> Floats:
        """Return the decrease for one more removed filter of each layer, (L,), at kept counts (L,)."""
        counts = np.asarray(kept)
        return np.asarray(self(counts) - self(counts - np.eye(len(counts))))

    def __call__(self, kept: npt.ArrayLike) -> Floats:
        """Evaluate the sum, shape (...), for kept counts of shape (..., L)."""
        return np.asarray(self.terms(kept).sum(axis=-1))


@dataclass(frozen=True)
class Size:
    """An attribute, a number or a sequence, that forward code reads and that a cut makes smaller.

    An example is ``Bottle2neck.width`` in ``torch.split(x, self.width, 1)``.

    Args:
        path: Where it is: names of modules, then of attributes, keys and positions, such as ``cfg.dim``.
        fixed: ``divisor`` times each size without any kept filter, shape (S,).
        slope: ``divisor`` times the size that each kept filter adds to each size, shape (S, L).
        scalar: True for a number, False for a sequence.
        divisor: 2 for an attribute of which forward code uses the double, and so on.
    """

    path: str
    fixed: Ints
    slope: Ints
    scalar: bool
    divisor: int = 1

    def values(self, kept: npt.ArrayLike) -> tuple[int, ...]:
        """Return the sizes for kept filters of each layer, shape (L,).

        Raises:
            ValueError: If one would not be whole, or 0.
        """
        products = self.fixed + self.slope @ np.asarray(kept, np.int64)
        if (products % self.divisor).any() or not products.all():
            raise ValueError(
                f"with these numbers of kept filters the attribute {self.path!r}, which forward code reads, "
                "would be 0 or not whole; keep a number of filters that `allowed` of each layer lists"
            )
        return tuple((products // self.divisor).tolist())


@dataclass(frozen=True)
class TracedNetwork:
    """The result of a trace.

    Args:
        layers: The prunable layers, in forward order.
        pinned: The producers with pinned filters.
        macs: Multiply-accumulate operations of one example in evaluation mode, as a function of kept counts.
        params: Number of parameters, as a function of kept counts.
        total_filters: Number of filters of all producers, prunable or not.
        sizes: Attributes of modules that a cut has to change.
        units: By module and operation, how the channels of groups go together; a cut network remembers them.
        input_shape: Shape of one example of the trace, (C, H, W) for images; None if it was not a single
            tensor.
        inexact: Names of normalisations whose statistics a cut may change, because the user allows it.
        precision: Precision in which its cuts are compared with the masked network: ``float64``, or
            ``float32`` if the network does not run in float64.
        probe_shape: Shape of one example on which its cuts are tried: ``input_shape``, or smaller to save
            time where a trace on it is the same; None if it was not a single tensor.
        unreached: Modules with parameters that no call reached. What may share channels with them is pinned.
        calls: The traced calls; the first is that of the example.
        latency: Milliseconds per batch, shape (...), as a function of kept counts, shape (..., L); None until
            :func:`secateur.envs.cost.profiling.with_latency` has timed the network.
    """

    layers: tuple[Layer, ...]
    pinned: tuple[PinnedLayer, ...]
    macs: Products = field(repr=False)
    params: Products = field(repr=False)
    total_filters: int
    sizes: tuple[Size, ...] = ()
    units: Units = field(default_factory=dict, repr=False)
    input_shape: tuple[int, ...] | None = None
    inexact: tuple[str, ...] = ()
    precision: Precision = "float64"
    probe_shape: tuple[int, ...] | None = None
    unreached: tuple[str, ...] = ()
    calls: tuple[Call, ...] = field(default=(), repr=False, compare=False)
    latency: Callable[[npt.ArrayLike], Floats] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """Say what can go, what goes with it and who reads it, and what stays and why; a line each."""
        lines = [f"{self.prunable_share:.1%} of the filters can go"]
        for layer in self.layers:
            coupled = ", ".join(name for name in layer.producers if name != layer.name)
            lines.append(
                f"{layer.name}: {counted(layer.filters, 'filter')}"
                + (f", together with those of {coupled}" if coupled else "")
                + (f"; read by {', '.join(layer.consumers)}" if layer.consumers else "")
            )
        lines += map(str, sum_up(self.pinned))
        if self.sizes:
            lines.append(f"attributes that a cut rewrites: {', '.join(size.path for size in self.sizes)}")
        return "\n".join([*lines, *self.notes])

    @property
    def advice(self) -> str:
        """What the traced calls do not reach, and what to do; "" if they reach everything."""
        stay = sum(layer.pinned for layer in self.pinned if layer.cause.operation == UNREACHED)
        return advice(self.unreached, stay) if self.unreached else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user has to know beside the layers: what no call reaches, and what is less than exact."""
        notes = [f"{self.advice[0].upper()}{self.advice[1:]}."] if self.advice else []
        if not all(call.trains for call in self.calls):
            notes.append(
                "In training mode the network does not run on inputs alone, so it is traced and checked in "
                "evaluation mode; what it runs only in training is not known."
            )
        if self.inexact:
            notes.append(
                f"A cut may change the averages of {abbreviated(self.inexact, 6)}, as --allow-inexact "
                "layernorm allows; all else is exact."
            )
        if self.precision != "float64":
            notes.append("The network does not run in float64, so its cuts are compared in float32.")
        return tuple(notes)

    @property
    def widths(self) -> Ints:
        """Filters of each layer in the dense network, shape (L,)."""
        return np.array([layer.filters for layer in self.layers], np.int64)

    @property
    def min_widths(self) -> Ints:
        """Smallest allowed count of kept filters of each layer, shape (L,)."""
        return np.array([layer.allowed[0] for layer in self.layers], np.int64)

    def nearest_allowed(self, counts: npt.ArrayLike) -> Ints:
        """Return the allowed counts nearest to ``counts``, shape (L,)."""
        pairs = zip(self.layers, np.asarray(counts).tolist(), strict=True)
        return np.array([layer.nearest_allowed(count) for layer, count in pairs], np.int64)

    def whole_counts(self, index: int) -> Ints:
        """Return the counts of kept filters of a layer for which all sizes are whole and positive."""
        filters = self.layers[index].filters
        kept = np.arange(1, filters + 1)
        fits = np.ones(filters, np.bool_)
        for size in self.sizes:
            slope = size.slope[:, index]
            smallest = size.fixed + size.slope.sum(axis=1) + np.outer(kept - 1, slope)  # (N, S)
            # All filters give whole sizes, so what is removed has to.
            whole = np.outer(filters - kept, slope) % size.divisor == 0
            fits &= (whole & ((smallest > 0) | (slope == 0))).all(axis=1)
        return kept[fits]

    def nearest_whole(self, counts: npt.ArrayLike) -> Ints:
        """Return the counts nearest to ``counts``, shape (L,), for which all sizes are whole."""
        pairs = enumerate(np.asarray(counts).tolist())
        return np.array([_nearest(self.whole_counts(i), count) for i, count in pairs], np.int64)

    @property
    def prunable_share(self) -> float:
        """Share of the producers' filters that can be removed, in [0, 1].

        Filters that are the network's output are not counted, as they can never be removed.
        """
        if not self.layers:
            return 0.0
        outputs = sum(layer.outputs for layer in self.pinned)
        pinned = sum(layer.pinned for layer in self.pinned) - outputs
        return 1.0 - pinned / max(1, self.total_filters - outputs)
