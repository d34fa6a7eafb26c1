"""The table behind a predicted latency: modules and cuts of one network, timed on this machine.

Every convolution, linear layer and batch-norm is timed by itself at several sizes of its inputs and outputs.
What that cannot see (activations, additions, pooling, Python between the modules, cold caches) comes from a
few real cuts that are timed as a whole: the sum of the table is scaled, and a time for every pass and one for
every activation are added.

Shapes: C calls of timed modules, L layers, K knots, P cuts; a call has two axes, those of its weight.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..modules.sizes import fit_attributes
from ..surgery.cutting import cut
from ..surgery.plan import PruningPlan
from ..tracing import TracedNetwork
from ..tracing.network import Floats, Ints
from .config import LatencyConfig
from .latency_table import LatencyTable
from .timer import latency_ms, timed_copy

_KNOTS = 4
"""Sizes that are timed along an axis, of either kind: multiples of the vector width, and others."""

_CUTS = 15
"""Random cuts that are timed beside the dense network."""

_SECONDS, _SECONDS_A_CUT = 0.01, 0.3
"""How long one size of a module, and a whole network, is timed."""

Known = dict[tuple[str, tuple[int, ...], int, int], float]
"""Milliseconds by module, shape of its input in the dense network, and sizes of its weight."""


def with_latency(
    model: nn.Module,
    network: TracedNetwork,
    shape: tuple[int, ...],
    config: LatencyConfig,
) -> TracedNetwork:
    """Give a trace a latency; this takes from half a minute to a few minutes.

    Args:
        model: The dense network; it is left as it is.
        network: Its trace, with at least one layer.
        shape: Of one example.
        config: What is timed.

    Raises:
        ValueError: If the network does not run on such examples, or nothing of it can be timed.
    """
    placed, batch = timed_copy(model, shape, config)
    calls = _calls(placed, network, batch)
    if not calls:
        raise ValueError(
            "no layer can be timed: all weights are computed from others in the forward pass; call "
            "secateur.envs.modules.reparametrization.remove_reparametrizations on the network first"
        )
    vector = _vector_width(batch.device)
    knots = [[_knots(axis, network.widths, vector) for axis in call.axes] for call in calls]
    known: Known = {}
    table = LatencyTable(
        fixed=np.array([[axis.fixed for axis in call.axes] for call in calls]),
        slope=np.array([[axis.slope for axis in call.axes] for call in calls]),
        vector=vector,
        knots=np.array(knots),
        values=np.array(
            [_times(call, own, batch, config.threads, known) for call, own in zip(calls, knots, strict=True)]
        ),
        activations=np.array([call.activations for call in calls]),
        coefficients=(0.0, 1.0, 0.0),
    )
    counts = np.concatenate([network.widths[None], random_counts(network, _CUTS, seed=0)])  # (P, L)
    whole = np.array(
        [
            latency_ms(cut_to(placed, network, kept), batch, seconds=_SECONDS_A_CUT, threads=config.threads)
            for kept in counts
        ]
    )
    # Relative to what was measured, so that small cuts count as much as the dense network.
    fitted, _ = nnls(table.terms(counts) / whole[:, None], np.ones(len(whole)))
    return replace(network, latency=replace(table, coefficients=tuple(fitted.tolist())))


def random_counts(network: TracedNetwork, number: int, *, seed: int) -> Ints:
    """Draw kept counts, shape (P, L): for each cut a least share, for each of its layers that or more."""
    rng = np.random.default_rng(seed)
    least = rng.random((number, 1))
    share = least + (1 - least) * rng.random((number, len(network.layers)))
    return np.ceil(share * network.widths).astype(np.int64)


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
    """A timed module, what it was called with, and its part of the network's outputs, in millions a unit."""

    module: nn.Module
    axes: tuple[_Axis, _Axis]
    shape: tuple[int, ...]
    activations: tuple[float, float]


def _times(call: _Call, knots: list[Ints], batch: Tensor, threads: int, known: Known) -> Floats:
    """Time a module with weights of all pairs of sizes, (2K, 2K), unless a twin of it was."""
    first, second = knots
    times = np.empty((first.size, second.size))
    for place in np.ndindex(times.shape):
        sizes = int(first.flat[place[0]]), int(second.flat[place[1]])
        key = (repr(call.module), call.shape, *sizes)
        if key not in known:
            module = _resized(call.module, *sizes)
            example = batch.new_zeros(_input_shape(module, call.shape))
            known[key] = latency_ms(module, example, seconds=_SECONDS, threads=threads)
        times[place] = known[key]
    return times


def _calls(model: nn.Module, network: TracedNetwork, batch: Tensor) -> list[_Call]:
    """Run a network once and note the calls of all modules that are timed."""
    calls: list[_Call] = []
    names = {parameter: name for name, parameter in model.named_parameters()}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, nn.Parameter)
        first, second = (_axis(network, names[weight], weight, axis) for axis in (0, 1))
        transposed = isinstance(module, _ConvNd) and module.transposed
        share = (
            0.0 if isinstance(module, _BatchNorm) else output.numel() / 1e6 / weight.shape[int(transposed)]
        )
        activations = (0.0, share) if transposed else (share, 0.0)
        calls.append(_Call(module, (first, second), tuple(inputs[0].shape), activations))

    hooks = [m.register_forward_hook(note) for m in model.modules() if _is_timed(m)]
    try:
        with torch.inference_mode():
            model(batch.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _is_timed(module: nn.Module) -> bool:
    known = isinstance(module, (_ConvNd, nn.Linear, _BatchNorm))
    return known and isinstance(module._parameters.get("weight"), nn.Parameter)


def _axis(network: TracedNetwork, name: str, weight: Tensor, axis: int) -> _Axis:
    """Find which layers' filters lie on an axis of a weight."""
    slope = np.zeros(len(network.layers), np.int64)
    for number, layer in enumerate(network.layers):
        for where in layer.slices:
            if (where.parameter, where.axis) == (name, axis):
                slope[number] += where.index.shape[1]
    size = weight.shape[axis] if axis < weight.ndim else 1
    return _Axis(size - int(slope @ network.widths), slope)


def _vector_width(device: torch.device) -> int:
    """Give the channels that one instruction handles; torch's kernels are made for multiples of it."""
    is_wide = device.type == "cpu" and "AVX512" in torch.backends.cpu.get_cpu_capability()
    return 16 if is_wide else 8


def _knots(axis: _Axis, widths: Ints, vector: int) -> Ints:
    """Spread sizes to be timed over those that an axis can have, (2, K): no multiples, then multiples."""
    step = int(np.gcd.reduce(axis.slope)) or 1
    sizes = np.arange(int(axis.fixed + axis.slope.sum()), int(axis.fixed + axis.slope @ widths) + 1, step)
    kinds = (sizes[sizes % vector != 0], sizes[sizes % vector == 0])
    return np.stack([_spread(kind if len(kind) else sizes[-1:]) for kind in kinds])


def _spread(sizes: Ints) -> Ints:
    return np.asarray(sizes[np.linspace(0, len(sizes) - 1, _KNOTS).round().astype(int)])


def _resized(module: nn.Module, first: int, second: int) -> nn.Module:
    """Copy a module with a smaller weight."""
    small = copy.deepcopy(module)
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
    """Give a module's input the channels that its weight wants."""
    sizes = list(shape)
    sizes[-1 if isinstance(module, nn.Linear) else 1] = _channels(module)[0]
    return tuple(sizes)


def _channels(module: nn.Module) -> tuple[int, int]:
    """Say how many channels go in and come out."""
    match module:
        case _ConvNd():
            return module.in_channels, module.out_channels
        case nn.Linear():
            return module.in_features, module.out_features
        case _:
            assert isinstance(module, _BatchNorm)
            return module.num_features, module.num_features
