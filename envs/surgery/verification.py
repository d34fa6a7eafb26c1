"""Verify cuts: the cut network must compute the same as the masked dense one.

A trace cannot distinguish a literal integer in a forward pass from shape arithmetic. So every cut is tried on
a copy with random weights.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.calls import AlsoTrace, as_calls
from ..modules.copying import replica
from ..modules.faithful import check_faithful
from ..tracing import Cause, Layer, Pin, TracedNetwork
from ..tracing.network import Precision
from ..tracing.trace import Recording, record, shape_of_example
from .cutting import cut
from .hidden_sizes import find_hidden_sizes
from .low_rank_layers import check_ranks
from .plan import PruningPlan
from .probe import TOLERANCE, InexactCutError, Probe
from .probe_size import cropped_to, smaller_calls
from .trials import try_cuts, try_extremes

__all__ = ["TOLERANCE", "InexactCutError", "trace_exactly", "verify_cut"]

_HEAVY = {"macs": 1e9, "params": 2e7}
"""Size of a network from which cuts are first tried in float32; float64 takes several times as long, and
twice the memory."""


def trace_exactly(
    model: nn.Module,
    example: Tensor | tuple[Any, ...],
    *,
    also_trace: AlsoTrace | Iterable[AlsoTrace] = (),
    pins: Sequence[Pin] = (),
    size: Mapping[str, str] | None = None,
    allow_inexact: Collection[str] = (),
) -> TracedNetwork:
    """Trace a network and try cuts on it; layers whose cut is not exact are pinned with that cause.

    The example is run once in each mode. Trial cuts run on the smallest crop of it that is traced alike.

    Args:
        model: Any CNN.
        example: A batch of at least two inputs; see :func:`trace`.
        also_trace: More calls to trace and to check: a batch of another size, the name of a method that takes
            the example, such as ``"embed"``, or ``("embed", images)``. What may share channels with modules
            that no call reaches is pinned.
        pins: Channels to keep, each with its cause.
        size: Attributes that forward code reads in a way that no trace can see, each with the name of the
            layer whose filters it counts: ``{"cfg.dim": "conv1"}``.
        allow_inexact: What a cut may change beyond removing channels: ``"layernorm"`` removes channels over
            which a normalisation averages. All else is checked, with the averages held.

    Returns:
        A trace for which all tried cuts are exact.

    Raises:
        ValueError: If the model does not run on ``example`` or another call, or has no such attribute or
            layer, or a copy of it does not compute what it does.
    """
    calls = as_calls(example, also_trace)
    recording = record(model, calls, allow_inexact)
    calls = recording.calls
    declared = list((size or {}).items())
    network = recording.solve(sizes=declared)
    tried = smaller_calls(model, calls, recording, allow_inexact)
    check_faithful(model, replica(model), tried[0].inputs)
    uncropped = tried is calls
    heavy = float(network.params(network.widths)) > _HEAVY["params"] or (
        uncropped and float(network.macs(network.widths)) > _HEAVY["macs"]
    )
    probe = Probe(model, tried, torch.float32 if heavy else torch.float64)
    pins = list(pins)
    while True:
        network = recording.solve(pins, declared)
        culprits = try_cuts(probe, network)
        if not culprits:
            network, culprits = try_extremes(probe, network)
        if not culprits:
            precision: Precision = "float64" if probe.precision is torch.float64 else "float32"
            return replace(network, precision=precision, probe_shape=shape_of_example(tried))
        if not probe.is_repeatable():
            raise ValueError(
                "the network answers differently each time, though all random numbers are fixed, so no cut "
                "can be checked; take out what reads the time or the system's randomness"
            )
        if heavy:  # rounding may have been the cause
            heavy, probe = False, Probe(model, tried)
            continue
        for index, error in culprits.items():
            layer = network.layers[index]
            if error.source and (hidden := _hidden_sizes(probe, recording, pins, declared, layer)):
                declared += hidden
                continue
            first = next((s for s in layer.slices if s.role == "producer"), layer.slices[0])
            cause = Cause(f"its cut was tried and refused: {error}", "verification", layer.name, error.source)
            pins.append(Pin(first.parameter, first.axis, first.index, cause))


def verify_cut(
    model: nn.Module, network: TracedNetwork, plan: PruningPlan, example: Tensor | tuple[Any, ...]
) -> float:
    """Compare the cut with the masked network in float64, in evaluation and in training mode.

    Args:
        model: The dense network.
        network: Its trace; the other calls that were traced are checked, too.
        plan: The cut to try.
        example: A batch of at least two inputs. If it has the shape of the trace's, it is cropped to the
            shape on which the trace tried its cuts.

    Returns:
        The largest relative difference.

    Raises:
        InexactCutError: If the difference is above 1e-9 (1e-4 for a network that only runs in float32) with
            most of the drawn weights and inputs, the cut network does not run, or masking changes no output,
            so that the check cannot fail; or if a layer with a rank has to stay whole.
    """
    first = replace(as_calls(example)[0], trains=all(call.trains for call in network.calls))
    calls = (first, *network.calls[1:])
    shape = network.probe_shape
    if shape is not None and shape_of_example(calls) == network.input_shape != shape:
        calls = cropped_to(calls, shape)
    filters_alone = plan.with_ranks({})
    if plan.ranks:
        check_ranks(cut(model, network, filters_alone), plan.ranks, calls)
    return Probe(model, calls).check(network, filters_alone, agreeing=2)


def _hidden_sizes(
    probe: Probe,
    recording: Recording,
    pins: Sequence[Pin],
    declared: Sequence[tuple[str, str]],
    layer: Layer,
) -> list[tuple[str, str]]:
    """Find attributes that count the filters of a layer whose cut does not run."""

    def is_exact(network: TracedNetwork, producer: str) -> bool:
        alone = [number for number, other in enumerate(network.layers) if producer in other.producers]
        return bool(alone) and not try_cuts(probe, network, alone)

    def solve(sizes: Sequence[tuple[str, str]]) -> TracedNetwork:
        return recording.solve(pins, [*declared, *sizes])

    return find_hidden_sizes(probe, solve, is_exact, layer, recording.numbers)
