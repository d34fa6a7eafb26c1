"""Make a latency table: time the modules and some cuts of one network on this machine.

Every convolution, linear layer and batch-norm is timed alone at several sizes of its inputs and outputs. The
remaining costs (activations, additions, pooling, Python between the modules, cold caches) are estimated from
a few real cuts that are timed as a whole: a fit scales the sum of the table and adds a time per pass and a
time per activation.

Shapes: C calls of timed modules, L layers, K knots, P cuts; a call has two axes, those of its weight.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..modules.copying import replica
from ..modules.inputs import first_input
from ..modules.sizes import fit_attributes
from ..surgery.cutting import cut
from ..surgery.plan import PruningPlan
from ..tracing import TracedNetwork
from ..tracing.network import Floats, Ints
from .config import LatencyConfig
from .latency_table import LatencyTable
from .timer import latency_ms, timed_copy

_KNOTS = 4
"""Timed sizes along an axis, for each of the two kinds: multiples of the vector width, and others."""

_CUTS = 15
"""Random cuts that are timed in addition to the dense network."""

_SECONDS, _SECONDS_A_CUT = 0.01, 0.3
"""Timing duration of one size of a module, and of a whole network, seconds."""

TimingCache = dict[tuple[str, tuple[int, ...], int, int], float]
"""Milliseconds by module, shape of its input in the dense network, and sizes of its weight."""


def with_latency(
    model: nn.Module,
    network: TracedNetwork,
    shape: tuple[int, ...],
    config: LatencyConfig,
    *,
    cache: TimingCache | None = None,
) -> TracedNetwork:
    """Add a latency table to a trace; this takes from half a minute to a few minutes.

    Args:
        model: The dense network; it is not changed.
        network: Its trace, with at least one layer.
        shape: Shape of one example.
        config: Settings of the measurement.
        cache: Times of modules of similar networks on the same machine, which are not timed again; new ones
            are added.

    Raises:
        ValueError: If the network does not run on such examples, or none of its layers can be timed.
    """
    placed, batch = timed_copy(model, shape, config)
    calls = _calls(placed, _weight_names(model, placed), network, batch)
    if not calls:
        raise ValueError(
            "no layer can be timed: none is a convolution, linear layer or batch-norm of torch with a "
            "weight of its own; give a target of MACs, not of latency"
        )
    vector = _vector_width(batch.device)
    knots = [[_knots(axis, network.widths, vector) for axis in call.axes] for call in calls]
    cache = {} if cache is None else cache
    table = LatencyTable(
        fixed=np.array([[axis.fixed for axis in call.axes] for call in calls]),
        slope=np.array([[axis.slope for axis in call.axes] for call in calls]),
        vector=vector,
        knots=np.array(knots),
        values=np.array(
            [
                _times(call, axis_knots, batch, config.threads, cache)
                for call, axis_knots in zip(calls, knots, strict=True)
            ]
        ),
        activations=np.array([call.activations for call in calls]),
        coefficients=(0.0, 1.0, 0.0),
    )
    counts = np.concatenate([network.widths[None], random_counts(network, _CUTS, seed=0)])  # (P, L)
    whole = np.array(
        [
            latency_ms(each, batch, seconds=_SECONDS_A_CUT, threads=config.threads)
            for kept in counts
            for each, _ in (timed_copy(cut_to(model, network, kept), shape, config),)
        ]
    )
    # The fit is of relative errors, so that small cuts count as much as the dense network.
    fitted, _ = nnls(table.terms(counts) / whole[:, None], np.ones(len(whole)))
    return replace(network, latency=replace(table, coefficients=tuple(fitted.tolist())))


def random_counts(network: TracedNetwork, number: int, *, seed: int) -> Ints:
    """Draw the kept counts of ``number`` cuts, (P, L): a lower keep ratio per cut, and ratios above it."""
    rng = np.random.default_rng(seed)
    lower = rng.random((number, 1))
    keep_ratio = lower + (1 - lower) * rng.random((number, len(network.layers)))
    counts = np.ceil(keep_ratio * network.widths).astype(np.int64)
    return np.array([network.nearest_whole(row) for row in counts])


def cut_to(model: nn.Module, network: TracedNetwork, kept: Ints) -> nn.Module:
    """Cut a network to kept counts, shape (L,): the first filters of each layer stay."""
    masks = [np.arange(layer.filters) < count for layer, count in zip(network.layers, kept, strict=True)]
    return cut(model, network, PruningPlan.from_masks(network, masks))


@dataclass(frozen=True)
class _Axis:
    """The size of an axis: ``fixed + slope @ kept``, the slope of shape (L,)."""

    fixed: int
    slope: Ints


@dataclass(frozen=True)
class _Call:
    """A call of a timed module.

    Args:
        module: The module.
        axes: The two axes of its weight.
        shape: Shape of its input in the dense network.
        activations: Millions of outputs per unit of each axis.
    """

    module: nn.Module
    axes: tuple[_Axis, _Axis]
    shape: tuple[int, ...]
    activations: tuple[float, float]


def _times(call: _Call, knots: list[Ints], batch: Tensor, threads: int, cache: TimingCache) -> Floats:
    """Time a module with weights of all pairs of sizes, (2K, 2K); equal modules are timed once."""
    first, second = knots
    times = np.empty((first.size, second.size))
    for cell in np.ndindex(times.shape):
        sizes = int(first.flat[cell[0]]), int(second.flat[cell[1]])
        key = (repr(call.module), call.shape, *sizes)
        if key not in cache:
            module = _resized(call.module, *sizes)
            example = batch.new_zeros(_input_shape(module, call.shape))
            cache[key] = latency_ms(module, example, seconds=_SECONDS, threads=threads)
        times[cell] = cache[key]
    return times


def _weight_names(model: nn.Module, placed: nn.Module) -> dict[nn.Module, str]:
    """Return the names that the weights of the timed modules have in the trace.

    Args:
        model: The network that was traced, in which masks or norms may compute weights from parameters.
        placed: Its copy with plain weights.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {}
    for path, module in placed.named_modules():
        if _is_timed(module):
            own = dict(model.get_submodule(path).named_parameters())
            alike = [p for name, p in own.items() if "weight" in name and p.shape == module.weight.shape]
            weight = own.get("weight", alike[0] if alike else None)
            found[module] = "" if weight is None else names[weight]  # no cut changes a weight without name
    return found


def _calls(
    model: nn.Module, names: dict[nn.Module, str], network: TracedNetwork, batch: Tensor
) -> list[_Call]:
    """Run a network once and record the calls of all timed modules, whose weights have these names."""
    calls: list[_Call] = []

    def record(module: nn.Module, given: Any, named: Any, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, nn.Parameter)
        first, second = (_axis(network, names[module], weight, axis) for axis in (0, 1))
        transposed = isinstance(module, _ConvNd) and module.transposed
        share = (
            0.0 if isinstance(module, _BatchNorm) else output.numel() / 1e6 / weight.shape[int(transposed)]
        )
        activations = (0.0, share) if transposed else (share, 0.0)
        calls.append(_Call(module, (first, second), tuple(first_input(given, named).shape), activations))

    hooks = [m.register_forward_hook(record, with_kwargs=True) for m in names]
    try:
        with torch.inference_mode():
            model(batch.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _is_timed(module: nn.Module) -> bool:
    has_table = isinstance(module, (_ConvNd, nn.Linear, _BatchNorm))
    return has_table and isinstance(module._parameters.get("weight"), nn.Parameter)


def _axis(network: TracedNetwork, name: str, weight: Tensor, axis: int) -> _Axis:
    """Express the size of a weight's axis by the kept counts of the layers."""
    slope = np.zeros(len(network.layers), np.int64)
    for number, layer in enumerate(network.layers):
        for slice_ in layer.slices:
            if (slice_.parameter, slice_.axis) == (name, axis):
                slope[number] += slice_.index.shape[1]
    size = weight.shape[axis] if axis < weight.ndim else 1
    return _Axis(size - int(slope @ network.widths), slope)


def _vector_width(device: torch.device) -> int:
    """Return the SIMD width in channels; torch's kernels are optimised for multiples of it."""
    is_wide = device.type == "cpu" and "AVX512" in torch.backends.cpu.get_cpu_capability()
    return 16 if is_wide else 8


def _knots(axis: _Axis, widths: Ints, vector: int) -> Ints:
    """Choose the sizes of an axis to time, (2, K): first those that are no multiples, then multiples."""
    step = int(np.gcd.reduce(axis.slope)) or 1
    sizes = np.arange(int(axis.fixed + axis.slope.sum()), int(axis.fixed + axis.slope @ widths) + 1, step)
    kinds = (sizes[sizes % vector != 0], sizes[sizes % vector == 0])
    return np.stack([_evenly_spaced(kind if len(kind) else sizes[-1:]) for kind in kinds])


def _evenly_spaced(sizes: Ints) -> Ints:
    return np.asarray(sizes[np.linspace(0, len(sizes) - 1, _KNOTS).round().astype(int)])


def _resized(module: nn.Module, first: int, second: int) -> nn.Module:
    """Copy a module with a smaller weight."""
    small = replica(module)
    weight = small.weight
    assert isinstance(weight, nn.Parameter)
    smaller = weight.detach()[:first] if weight.ndim == 1 else weight.detach()[:first, :second]
    small.weight = nn.Parameter(smaller.clone())
    fit_attributes(small)
    outputs = _channels(small)[1]
    for name, tensor in [*small.named_parameters(), *small.named_buffers()]:
        if name != "weight" and tensor.ndim == 1:
            tensor.data = tensor.detach()[:outputs].clone()
    return small


def _input_shape(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a module's input with the number of channels that its weight needs."""
    sizes = list(shape)
    sizes[-1 if isinstance(module, nn.Linear) else 1] = _channels(module)[0]
    return tuple(sizes)


def _channels(module: nn.Module) -> tuple[int, int]:
    """Return the numbers of input and output channels."""
    match module:
        case _ConvNd():
            return module.in_channels, module.out_channels
        case nn.Linear():
            return module.in_features, module.out_features
        case _:
            assert isinstance(module, _BatchNorm)
            return module.num_features, module.num_features
