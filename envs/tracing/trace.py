"""Trace a network: one forward pass per mode on a copy of it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..io.suggestions import unknown_name
from ..modules.calls import AlsoTrace, Call, as_calls
from ..modules.copying import replica, without_numbers
from ..modules.inexact import INEXACT
from ..modules.precision import converted
from ..modules.prunable_kind import check_prunable_kind
from ..modules.randomness import fixed_randomness
from .network import TracedNetwork
from .propagation import Pin, Propagation
from .reach import modules_of, shared, widths_of
from .sizes import declare
from .solving import solve
from .tracer import NotRunningError, NotTrainingError, Tracer
from .tracked_int import track


def trace(
    model: nn.Module,
    example: Tensor | tuple[Any, ...],
    *,
    also_trace: AlsoTrace | Iterable[AlsoTrace] = (),
    pins: Iterable[Pin] = (),
    allow_inexact: Collection[str] = (),
) -> TracedNetwork:
    """Find the filters of ``model`` that can be removed, and what has to be removed with each.

    The model is not changed. A float32 copy of it runs on the CPU, once in evaluation mode and once in
    training mode, which also runs auxiliary heads. A network that does not run on the example in training
    mode, as a detector, which then needs targets, is traced in evaluation mode alone.

    Args:
        model: Any CNN.
        example: One input batch, or the tuple of the forward's positional arguments. At least two examples,
            as batch-norm cannot train on a single value per channel. Values do not matter.
        also_trace: More calls whose channels belong together with those of the example's: inputs of other
            sizes, or methods, as ``"embed"`` or ``("embed", images)``. MACs are those of the example.
        pins: Channels to keep, each with its cause.
        allow_inexact: What a cut may change beyond removing channels, of :data:`INEXACT`.

    Returns:
        The prunable layers, the pinned ones with causes, and the cost as a function of kept counts.

    Raises:
        ValueError: If the model does not run on ``example`` or in another call, or a pin names no parameter
            or axis of it.
    """
    return record(model, as_calls(example, also_trace), allow_inexact).solve(pins)


@dataclass(frozen=True)
class Recording:
    """What the passes of a network recorded; it can be solved again, with other pins, without a pass.

    Args:
        model: The copy of the network that ran, without its numbers.
        numbers: The whole numbers that it holds, by path.
        propagation: Its labels.
        calls: The calls that ran.
        unreached: Modules with parameters that no call reached.
    """

    model: nn.Module
    numbers: Mapping[str, int]
    propagation: Propagation
    calls: tuple[Call, ...]
    unreached: tuple[str, ...]

    def solve(self, pins: Iterable[Pin] = (), sizes: Iterable[tuple[str, str]] = ()) -> TracedNetwork:
        """Group the channels that are not pinned into layers.

        Args:
            pins: Channels to keep, each with its cause.
            sizes: Attributes that count filters and were not seen to, each with the name of the layer.

        Raises:
            ValueError: If a pin names no parameter or axis of the network, or a size does not fit it.
        """
        kept = [(self.propagation.labels_of(pin), pin.cause) for pin in pins]
        records = declare(self.propagation.records, self.numbers, sizes)
        network = solve(records, self.model, self.numbers, kept)
        shape = shape_of_example(self.calls)
        inexact = tuple(self.propagation.records.inexact)
        return replace(
            network, input_shape=shape, calls=self.calls, unreached=self.unreached, inexact=inexact
        )


def record(model: nn.Module, calls: Sequence[Call], allow_inexact: Collection[str] = ()) -> Recording:
    """Run a copy of a network in both modes and record which channels meet; see :func:`trace`."""
    allow_inexact = [allow_inexact] if isinstance(allow_inexact, str) else allow_inexact
    for name in allow_inexact:
        if name not in INEXACT:
            raise ValueError(unknown_name("allow_inexact", name, INEXACT))
    check_prunable_kind(model)
    try:
        return _record_in_types(model, calls, allow_inexact)
    except NotTrainingError:
        evaluating = [replace(call, trains=False) for call in calls]
        return _record_in_types(model, evaluating, allow_inexact)


def _record_in_types(model: nn.Module, calls: Sequence[Call], allow_inexact: Collection[str]) -> Recording:
    """Run a copy of a network in float32; in its own types if it is of mixed precision and runs so only."""
    try:
        return _record(converted(replica(model).cpu(), torch.float32), model, calls, allow_inexact)
    except NotRunningError:
        types = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
        if len(types) < 2:
            raise
        return _record(replica(model).cpu(), model, calls, allow_inexact, convert=False)  # of mixed precision


def _record(
    copied: nn.Module,
    model: nn.Module,
    calls: Sequence[Call],
    allow_inexact: Collection[str],
    *,
    convert: bool = True,
) -> Recording:
    numbers = track(copied, model)
    tracer = Tracer(copied, _batch_size(calls[0].inputs), allow_inexact)
    with torch.no_grad():
        for training in (False, True):
            for call in calls:
                if training and not call.trains:
                    continue
                given = call.to(torch.float32) if convert else call
                with fixed_randomness():
                    tracer.run(given, training=training, counted=call is calls[0])
    unreached = _pin_what_unreached_may_share(tracer.propagation, copied)
    return Recording(without_numbers(copied), numbers, tracer.propagation, tuple(calls), unreached)


def _pin_what_unreached_may_share(propagation: Propagation, model: nn.Module) -> tuple[str, ...]:
    """Pin the channels that parameters may share which no call reached, and return their modules."""
    records = propagation.records
    unreached = {name: n for name, n in widths_of(model).items() if name not in records.reached}
    vectors = {width: list(by_bytes.values()) for width, by_bytes in records.by_width.items()}
    for labels, cause in shared(unreached, vectors):
        records.labels.pin(labels, cause)
    return modules_of(unreached)


def shape_of_example(calls: Sequence[Call]) -> tuple[int, ...] | None:
    """Return the shape of one example of the first call, None if its input is not a single tensor."""
    inputs = calls[0].inputs
    return tuple(inputs[0].shape[1:]) if len(inputs) == 1 and isinstance(inputs[0], Tensor) else None


def _batch_size(inputs: tuple[Any, ...]) -> int:
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.ndim]
    if not tensors or tensors[0].shape[0] < 2:
        given = f"of shape {tuple(tensors[0].shape)}" if tensors else "without a tensor"
        raise ValueError(f"the example is {given}; tracing needs a batch of at least two examples")
    return tensors[0].shape[0]
