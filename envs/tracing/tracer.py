"""Follow the labels of a network's parameters through every operation while it runs."""

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .labels import Cause, Labels, LabelVector, Value
from .rules import Call, rule_for
from .sizes import Measure
from .solving import ALL_OR_NONE, ParameterAxis, Records, UseOfWeights

# With a separator at the end: torchvision and timm lie beside torch, and their lines are the model's own.
_NOT_THE_MODEL = tuple(str(Path(file).parent) + os.sep for file in (torch.__file__, __file__))


@dataclass(frozen=True)
class Pin:
    """Something to keep by decree.

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


class Tracer(TorchDispatchMode):
    """Carry labels from parameters through each ATen operation of a running network.

    Args:
        model: A copy of the network, on the CPU.
        batch_size: Examples in a batch.
    """

    def __init__(self, model: nn.Module, batch_size: int) -> None:
        super().__init__()
        self.model = model
        self.batch_size = batch_size
        self.records = Records()
        self.training = False
        self._values: dict[int, Value] = {}
        self._alive: list[Tensor] = []  # ids are unique only among living tensors
        self._modules: list[str] = [""]
        self._operation = ""
        self._parameters: dict[str, Value] = {}
        self._register(model.named_parameters())
        self._parameter_labels = self.labels.count
        self._register(model.named_buffers())

    @property
    def labels(self) -> Labels:
        """The book of labels."""
        return self.records.labels

    @property
    def module(self) -> str:
        """Dotted name of the innermost module that runs."""
        return self._modules[-1]

    def value(self, tensor: Tensor) -> Value:
        """Give what is known of ``tensor``; a tensor never seen before is fixed."""
        return self._values.get(id(tensor)) or Value.fixed(tensor.shape)

    def set(self, tensor: Tensor, axes: Sequence[LabelVector | None], *, weight: bool = False) -> None:
        """Note the labels of an operation's result."""
        lengths = [size if axis is None else len(axis) for axis, size in zip(axes, tensor.shape, strict=True)]
        assert lengths == list(tensor.shape), f"{self._operation}: {lengths} labels for {tuple(tensor.shape)}"
        self._values[id(tensor)] = Value(tuple(axes), tuple(tensor.shape), weight)
        self._alive.append(tensor)

    def made_of_parameters(self, labels: LabelVector | None) -> bool:
        """Say whether labels are those of a parameter, and not of a buffer or of noise."""
        return labels is not None and bool(labels[0] < self._parameter_labels)

    def tie_axes(self, one: LabelVector | None, other: LabelVector | None, reason: str) -> None:
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

    def _cause(self, reason: str) -> Cause:
        return Cause(reason, self._operation, self.module, _source_line())

    def keep(self, pin: Pin) -> None:
        """Keep what a pin names.

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
        """Note sizes that the running module may have read from its attributes; None is skipped."""
        known = tuple(size for size in sizes if size is not None)
        if any(not isinstance(size, int) and len(size) for size in known):
            self.records.measures.append(Measure(self.module, known))

    def use_weights(
        self, factor: float, axes: Sequence[LabelVector | int], produced: LabelVector | None
    ) -> None:
        """Note a product-sum: its MACs are ``factor`` times the kept counts of ``axes``.

        Args:
            factor: MACs of a whole batch per combination of indices of ``axes``.
            axes: Label vectors, or the length of a fixed axis.
            produced: Labels of the filters it computes, None where no parameter is involved.
        """
        factor *= math.prod(axis for axis in axes if isinstance(axis, int)) / self.batch_size
        labelled = tuple(axis for axis in axes if not isinstance(axis, int))
        self.records.uses.append(UseOfWeights(factor, labelled, produced, self.module, self.training))

    def run(self, inputs: tuple[Any, ...], *, training: bool) -> None:
        """Trace one forward pass.

        Raises:
            ValueError: If the network does not run on ``inputs``.
        """
        self.training = training
        self.model.train(training)
        with self._where_we_are(), self:
            try:
                outputs = self.model(*inputs)
            except Exception as error:
                shapes = ", ".join(str(tuple(x.shape)) for x in tree_leaves(inputs) if isinstance(x, Tensor))
                mode = "training" if training else "evaluation"
                raise ValueError(
                    f"the network does not run on an input of {shapes} in {mode} mode: "
                    f"{str(error) or repr(error)}"
                ) from error
        self._operation = "output"
        self.pin_all(outputs, "the network's output")
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor):
                self.records.outputs += [axis for axis in self.value(tensor).axes if axis is not None]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, then let its rule carry the labels on."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        call = Call(func, args, kwargs, result)
        self._operation = call.name
        rule_for(func)(self, call)
        self._alive += call.outputs
        return result

    @contextmanager
    def _where_we_are(self) -> Iterator[None]:
        def enter(name: str) -> Callable[..., None]:
            return lambda *_: self._modules.append(name)

        def leave(*_: Any) -> None:
            self._modules.pop()

        handles = []
        for name, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

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


def _source_line() -> str:
    """Find the line of the model's own code that runs: the nearest frame outside torch and this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code is not Tracer.run.__code__:
        name = frame.f_code.co_filename
        if not name.startswith((*_NOT_THE_MODEL, "<")):
            path = Path(name)
            return f"{path.parent.name}/{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
