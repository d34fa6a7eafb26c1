"""Propagation of labels through a network: the labels of each tensor, and the interface for rules.

A rule reads the labels of an operation's arguments with :meth:`Propagation.value`, ties or pins them, and
sets those of the result. Rules use nothing else of the tracer.
"""

import bisect
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ..modules.units import unit_of
from .aliases import Aliases
from .labels import Cause, Labels, LabelVector, Value
from .reach import widths_of
from .records import ALL_OR_NONE, ParameterAxis, ProductSum, Records, SizeReading
from .size_arguments import SizeArgument
from .tracked_int import TrackedInt, polynomial_of


@dataclass(frozen=True)
class Pin:
    """Channels that a caller keeps.

    Args:
        parameter: Name of a parameter or buffer.
        axis: One of its axes, from 0.
        index: Positions on the axis; None for all.
        cause: Why they are kept.
    """

    parameter: str
    axis: int
    index: LabelVector | None
    cause: Cause


class Propagation:
    """Propagate labels from parameters to the tensors that are computed from them.

    Args:
        model: The network to run. Its parameters and buffers get their labels here.
        batch_size: Number of examples in a batch, at least 2.
        source: Returns "file:line" of the model's code that is running, or "".
        allow_inexact: Kinds of operations to treat as if each channel were alone, of :data:`INEXACT`.
    """

    def __init__(
        self,
        model: nn.Module,
        batch_size: int,
        source: Callable[[], str] = lambda: "",
        allow_inexact: Collection[str] = (),
    ) -> None:
        self.records = Records()
        self.operation = ""
        """The current ATen operation."""
        self.modules: list[str] = [""]
        """Dotted names of the running modules, the innermost last; "" is the network itself."""
        self.training = False
        """Whether the network runs in training mode."""
        self.counted = True
        """Whether the MACs of the current call count."""
        self.given: Sequence[SizeArgument] = ()
        """The sizes that forward code gave to the running function of torch."""
        self._allow_inexact = frozenset(allow_inexact)
        self._batch_size = batch_size
        self._source = source
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._widths: Set[int] = frozenset()  # the lengths of vectors that are recorded
        self._values = WeakTensorKeyDictionary()  # by identity, and only as long as the network holds them
        self._vanishing = Aliases()
        self._parameters: dict[str, Value] = {}
        self._names = WeakTensorKeyDictionary()
        self._kernels = set(_kernels(model))
        self._register(model.named_parameters())
        self._parameter_labels = self.labels.count
        self._register(model.named_buffers())
        self._widths = frozenset[int]().union(*widths_of(model).values())
        for name, module in model.named_modules():
            if isinstance(module, nn.LSTM) and module.proj_size:
                cause = Cause(
                    "torch tells the units of an LSTM from its projection by their number", module=name
                )
                units = Pin(f"{name}.weight_ih_l0".lstrip("."), 0, None, cause)
                self.labels.pin(self.labels_of(units), cause)

    @property
    def labels(self) -> Labels:
        """The labels, ties and pins."""
        return self.records.labels

    def value(self, tensor: Tensor) -> Value:
        """Return the labels of ``tensor``; all axes of an unknown tensor are fixed."""
        value: Value | None = self._values.get(tensor)
        if value is None:
            return Value.fixed(tensor.shape)
        axes = tuple(None if axis is None else self.labels.resolve(axis) for axis in value.axes)
        return replace(value, axes=axes)

    def set(
        self,
        tensor: Tensor,
        axes: Sequence[LabelVector | None],
        *,
        like: Value | None = None,
        weight: bool = False,
        vanishes: bool = False,
    ) -> None:
        """Set the labels of an operation's result.

        Args:
            tensor: The result.
            axes: For each axis its labels, or None if it is fixed.
            like: What it is a rearrangement of, for ``weight`` and ``vanishes``.
            weight: Whether it is made of parameters, buffers and numbers alone.
            vanishes: Whether masking a label makes its elements zero; see :class:`.labels.Value`. Without
                labels nothing vanishes.
        """
        lengths = [size if axis is None else len(axis) for axis, size in zip(axes, tensor.shape, strict=True)]
        assert lengths == list(tensor.shape), f"{self.operation}: {lengths} labels for {tuple(tensor.shape)}"
        if like is not None:
            weight, vanishes = like.weight, like.vanishes
        vanishes = vanishes and any(axis is not None for axis in axes)
        self._values[tensor] = Value(tuple(axes), tuple(tensor.shape), weight, vanishes)
        if vanishes:
            self._vanishing.add(tensor)
        if not weight:
            for axis in axes:
                if axis is not None and len(axis) in self._widths and not self.labels.are_free(axis):
                    self.records.by_width.setdefault(len(axis), {})[axis.tobytes()] = axis

    def reach(self, operands: Iterable[Tensor]) -> None:
        """Record that an operation has read its operands."""
        self.records.reached.update(name for x in operands if (name := self._names.get(x)) is not None)

    def constant(self, size: int) -> LabelVector | None:
        """Label an axis along which all elements are equal: it has the size of what it will meet."""
        return self.labels.fresh(size, free=True) if size > 1 else None

    @contextmanager
    def writing(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Apply a rule of an operation that writes into ``tensors``.

        A view shares its labels with what it is a view of, so these need no care. But unless it is known that
        what is written vanishes, nothing that has a part in it does so any longer.
        """
        before = [self._values.get(tensor) for tensor in tensors]
        yield
        for tensor, old in zip(tensors, before, strict=True):
            new = self._values.get(tensor)
            if new is None or new is old or not new.vanishes:
                for other in self._vanishing.overlapping(tensor):
                    self._values[other] = replace(self._values[other], vanishes=False)

    def has_channels(self, value: Value) -> bool:
        """Return whether there are labels that are not free."""
        return any(axis is not None and not self.labels.are_free(axis) for axis in value.axes)

    def from_parameter(self, labels: LabelVector | None) -> bool:
        """Return whether labels are those of a parameter, and not of a buffer or of noise."""
        return labels is not None and len(labels) > 0 and bool(labels[0] < self._parameter_labels)

    def tie(self, a: LabelVector | None, b: LabelVector | None, reason: str) -> None:
        """Join two axes of equal length; if one of them is fixed, the other is pinned."""
        if a is not None and b is not None:
            self.labels.tie(a, b)
        else:
            self.pin(a, reason)
            self.pin(b, reason)

    def allows(self, kind: str) -> bool:
        """Return whether the running operation may tie channels though it is inexact; record it."""
        if kind in self._allow_inexact:
            self.records.inexact[self.modules[-1]] = None
        return kind in self._allow_inexact

    def couple(self, a: LabelVector, b: LabelVector) -> None:
        """Join channels of one tensor, element by element, and record the operation."""
        self.labels.tie(a, b)
        self.records.couplings.append((a.ravel(), self._cause(ALL_OR_NONE)))

    def unit(self, default: str | None, *, weight: Value | None = None, detail: str = "") -> str | None:
        """Return the unit by which the current operation joins channels, and record it.

        Args:
            default: The unit if the module remembers none from a cut; None if nothing has to be joined.
            weight: The weight of a convolution.
            detail: Distinguishes operations of one line of code.
        """
        labels = next((axis for axis in weight.axes if axis is not None), None) if weight else None
        if labels is not None and self.from_parameter(labels):
            axes = self.records.axes
            position = bisect.bisect_right(axes, labels[0], key=lambda axis: axis.first) - 1
            module, _, operation = axes[position].name.rpartition(".")
        else:
            module, operation = self.modules[-1], f"{self.operation}{detail} at {self._source()}"
        unit = unit_of(self._modules[module], operation) or default
        if unit is not None:
            one = self.records.units.setdefault((module, operation), unit) == unit
            self.records.units[module, operation] = unit if one else None
        return unit

    def pin(self, axis: LabelVector | None, reason: str) -> None:
        """Pin every index of an axis, because of the current operation."""
        if axis is not None:
            self.labels.pin(axis, self._cause(reason))

    def pin_all(self, values: Any, reason: str) -> None:
        """Pin every index of every axis of all tensors in a nested structure."""
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                for axis in self.value(tensor).axes:
                    self.pin(axis, reason)

    def labels_of(self, pin: Pin) -> LabelVector:
        """Return the labels that a caller pins.

        Raises:
            ValueError: If the network has no such parameter or axis.
        """
        value = self._parameters.get(pin.parameter)
        if value is None or pin.axis >= len(value.axes):
            raise ValueError(
                f"the network has no parameter {pin.parameter!r} with axis {pin.axis} to keep whole"
            )
        labels = value.axes[pin.axis]
        if labels is None:
            return np.empty(0, np.int64)
        return labels if pin.index is None else labels[pin.index.ravel()]

    def measure(self, *sizes: LabelVector | int | None) -> None:
        """Record the sizes that an operation was given, in their order: of a tensor's axes, or of parts.

        Where the numbers given to the running function fit a stretch of them, they belong together one by
        one; else equal numbers do, as far as channels are concerned. None is skipped.
        """
        present = [size for size in sizes if size is not None]
        self.records.runs += [size for size in present if not isinstance(size, int) and len(size)]
        numbers = [argument.number for argument in self.given if argument.dim is None]
        if not any(isinstance(number, TrackedInt) for number in numbers):
            return
        lengths = [size if isinstance(size, int) else len(size) for size in present]
        starts = [i for i in range(len(lengths) - len(numbers) + 1) if _fits(numbers, lengths[i:])]
        for start in starts:
            for number, size in zip(numbers, present[start:], strict=False):
                self._read(number, size)
        if not starts:
            for size in present:
                for number in numbers:
                    if not isinstance(size, int) and len(size) == number:
                        self._read(number, size)

    def measure_shape(self, axes: Sequence[LabelVector | None], shape: Sequence[int]) -> None:
        """Record the shape that an operation was given for a tensor with these labels."""
        self.measure(*(size if axis is None else axis for axis, size in zip(axes, shape, strict=True)))

    def measure_slices(self, labels: LabelVector, dim: int) -> None:
        """Record the positions that the running function was given to slice an axis."""
        for number, axis in self.given:
            if axis == dim and abs(number) <= len(labels):
                self._read(abs(number), labels[:number] if number >= 0 else labels[number:])

    def _read(self, number: int, size: LabelVector | int) -> None:
        if isinstance(number, TrackedInt):
            reading = SizeReading(polynomial_of(number), size, self._cause("a size that forward code reads"))
            self.records.size_readings.append(reading)

    def use_weights(
        self, factor: float, axes: Sequence[LabelVector | int], produced: LabelVector | None
    ) -> None:
        """Record a convolution or matrix product: its MACs are ``factor`` times the kept counts of ``axes``.

        Args:
            factor: MACs of a whole batch per combination of indices of ``axes``.
            axes: Label vectors, or the length of a fixed axis.
            produced: Labels of the filters that it computes, None if no parameter is involved.
        """
        factor *= math.prod(axis for axis in axes if isinstance(axis, int)) / self._batch_size
        labelled = tuple(axis for axis in axes if not isinstance(axis, int))
        product_sum = ProductSum(factor, labelled, produced, self.modules[-1], self.training, self.counted)
        self.records.product_sums.append(product_sum)

    def _cause(self, reason: str) -> Cause:
        return Cause(reason, self.operation, self.modules[-1], self._source())

    def _register(self, state: Iterable[tuple[str, Tensor]]) -> None:
        """Label every axis of every parameter or buffer; masking a label makes no buffer zero."""
        for name, tensor in state:
            axes: list[LabelVector | None] = []
            for axis, size in enumerate(tensor.shape):
                labels = None
                if size > 1:
                    labels = self.labels.fresh(size)
                    self.records.axes.append(ParameterAxis(name, axis, int(labels[0]), size, tensor.ndim))
                axes.append(None if axis > 1 and id(tensor) in self._kernels else labels)
            self.set(tensor, axes, weight=True, vanishes=isinstance(tensor, nn.Parameter))
            self._parameters[name] = self.value(tensor)
            self._names[tensor] = name


def _fits(numbers: Sequence[int], lengths: Sequence[int]) -> bool:
    """Return whether given sizes, of which -1 stands for any, are the first lengths."""
    return all(number in (-1, length) for number, length in zip(numbers, lengths, strict=False))


def _kernels(model: nn.Module) -> Iterator[int]:
    """Yield the ids of all tensors with a convolution's kernel, whose axes from the third on are pixels."""
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            rank = 2 + len(module.kernel_size)
            yield from (id(x) for x in (*module.parameters(), *module.buffers()) if x.ndim == rank)
