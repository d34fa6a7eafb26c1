"""Labels on their way through a network: what is known of each tensor, and what rules may do to it.

A rule reads the labels of an operation's arguments with :meth:`Propagation.value`, ties or pins them, and
sets those of the result. It needs nothing else of the tracer.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .labels import Cause, Labels, LabelVector, Value
from .records import ALL_OR_NONE, ParameterAxis, Records, UseOfWeights
from .sizes import Measure


@dataclass(frozen=True)
class Pin:
    """Channels that a caller wants to keep.

    Args:
        parameter: Name of a parameter or buffer.
        axis: One of its axes.
        index: Positions along the axis; None for all.
        cause: Why.
    """

    parameter: str
    axis: int
    index: LabelVector | None
    cause: Cause


class Propagation:
    """Carry labels from parameters to the tensors that are computed from them.

    Args:
        model: The network that runs. Its parameters and buffers get their labels here.
        batch_size: Examples in a batch, at least 2.
        source: Gives "file:line" of the model's code that runs now, or "".
    """

    def __init__(self, model: nn.Module, batch_size: int, source: Callable[[], str] = lambda: "") -> None:
        self.records = Records()
        self.operation = ""
        """The ATen operation whose rule runs."""
        self.modules: list[str] = [""]
        """Dotted names of the modules that run, the innermost last; "" is the network itself."""
        self.training = False
        """Whether the network runs in training mode."""
        self._batch_size = batch_size
        self._source = source
        self._values: dict[int, Value] = {}
        self._alive: list[Tensor] = []  # ids are unique only among living tensors
        self._parameters: dict[str, Value] = {}
        self._register(model.named_parameters())
        self._parameter_labels = self.labels.count
        self._register(model.named_buffers())

    @property
    def labels(self) -> Labels:
        """The book of labels."""
        return self.records.labels

    def value(self, tensor: Tensor) -> Value:
        """Give what is known of ``tensor``; a tensor never seen before is fixed."""
        return self._values.get(id(tensor)) or Value.fixed(tensor.shape)

    def set(self, tensor: Tensor, axes: Sequence[LabelVector | None], *, weight: bool = False) -> None:
        """Set the labels of an operation's result."""
        lengths = [size if axis is None else len(axis) for axis, size in zip(axes, tensor.shape, strict=True)]
        assert lengths == list(tensor.shape), f"{self.operation}: {lengths} labels for {tuple(tensor.shape)}"
        self._values[id(tensor)] = Value(tuple(axes), tuple(tensor.shape), weight)
        self.keep_alive([tensor])

    def keep_alive(self, tensors: Iterable[Tensor]) -> None:
        """Hold tensors until the trace is over, so that no later tensor gets one of their ids."""
        self._alive += tensors

    def made_of_parameters(self, labels: LabelVector | None) -> bool:
        """Say whether labels are those of a parameter, and not of a buffer or of noise."""
        return labels is not None and bool(labels[0] < self._parameter_labels)

    def tie(self, one: LabelVector | None, other: LabelVector | None, reason: str) -> None:
        """Join two axes of equal length; an axis that meets a fixed one is pinned."""
        if one is not None and other is not None:
            self.labels.tie(one, other)
        else:
            self.pin(one, reason)
            self.pin(other, reason)

    def couple(self, one: LabelVector, other: LabelVector) -> None:
        """Join channels of one tensor, element by element, and remember which operation did it."""
        self.labels.tie(one, other)
        self.records.couplings.append((one.ravel(), self._cause(ALL_OR_NONE)))

    def pin(self, axis: LabelVector | None, reason: str) -> None:
        """Keep every index of an axis, because of the operation at hand."""
        if axis is not None:
            self.labels.pin(axis, self._cause(reason))

    def pin_all(self, values: Any, reason: str) -> None:
        """Keep every index of every axis of all tensors in a nested structure."""
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                for axis in self.value(tensor).axes:
                    self.pin(axis, reason)

    def keep(self, pin: Pin) -> None:
        """Keep the channels that a pin names.

        Raises:
            ValueError: If the network has no such parameter or axis.
        """
        value = self._parameters.get(pin.parameter)
        if value is None or pin.axis >= len(value.axes):
            raise ValueError(
                f"the network has no parameter {pin.parameter!r} with axis {pin.axis} to keep whole"
            )
        labels = value.axes[pin.axis]
        if labels is not None:
            self.labels.pin(labels if pin.index is None else labels[pin.index.ravel()], pin.cause)

    def measure(self, *sizes: LabelVector | int | None) -> None:
        """Record sizes that the running module may have read from its attributes; None is skipped."""
        known = tuple(size for size in sizes if size is not None)
        if any(not isinstance(size, int) and len(size) for size in known):
            self.records.measures.append(Measure(self.modules[-1], known))

    def use_weights(
        self, factor: float, axes: Sequence[LabelVector | int], produced: LabelVector | None
    ) -> None:
        """Record a product-sum: its MACs are ``factor`` times the kept counts of ``axes``.

        Args:
            factor: MACs of a whole batch per combination of indices of ``axes``.
            axes: Label vectors, or the length of a fixed axis.
            produced: Labels of the filters it computes, None where no parameter is involved.
        """
        factor *= math.prod(axis for axis in axes if isinstance(axis, int)) / self._batch_size
        labelled = tuple(axis for axis in axes if not isinstance(axis, int))
        use = UseOfWeights(factor, labelled, produced, self.modules[-1], self.training)
        self.records.uses.append(use)

    def _cause(self, reason: str) -> Cause:
        return Cause(reason, self.operation, self.modules[-1], self._source())

    def _register(self, state: Iterable[tuple[str, Tensor]]) -> None:
        """Label every axis of every parameter or buffer; buffers are not zero where a label is masked."""
        for name, tensor in state:
            axes: list[LabelVector | None] = []
            for axis, size in enumerate(tensor.shape):
                if size > 1:
                    first = self.labels.count
                    axes.append(self.labels.fresh(size))
                    self.records.axes.append(ParameterAxis(name, axis, first, size, tensor.ndim))
                else:
                    axes.append(None)
            self.set(tensor, axes, weight=isinstance(tensor, nn.Parameter))
            self._parameters[name] = self.value(tensor)
