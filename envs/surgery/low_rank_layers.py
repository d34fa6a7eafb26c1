"""Which layers of a network can become two of low rank, and what each rank costs.

Shapes: N filters of a layer, M weights of a filter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from ..modules.calls import Call
from ..modules.copying import replica, with_own_state
from ..modules.randomness import fixed_randomness
from ..modules.structures import comparable_in
from .low_rank import layer_at, put_pair
from .paired_runs import ChangedNetworkFailedError, Run, compare_runs, run_in_both_modes
from .probe import InexactCutError
from .randomisation import drawn, randomised

_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class RankLayer:
    """A layer that can become two of low rank.

    Args:
        name: Name of its module.
        filters: Number of filters, N.
        inputs: Weights of a filter, M.
        positions: How often each filter is computed for one example.
    """

    name: str
    filters: int
    inputs: int
    positions: int

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of the whole layer for one example."""
        return self.positions * self.filters * self.inputs

    def macs_at(self, rank: int) -> int:
        """Return the multiply-accumulate operations of both layers of a rank."""
        return self.positions * rank * (self.filters + self.inputs)

    @property
    def largest(self) -> int:
        """The largest rank at which the two layers have fewer operations than the one; 0 if there is none."""
        return (self.filters * self.inputs - 1) // (self.filters + self.inputs)


@dataclass(frozen=True)
class RankLayers:
    """The layers of a network by what low rank does with them.

    Args:
        layers: Those that can become two, in the order of the modules.
        refused: Why others stay whole, by module name.
    """

    layers: tuple[RankLayer, ...]
    refused: Mapping[str, str]


def check_ranks(model: nn.Module, ranks: Mapping[str, int], calls: Sequence[Call]) -> None:
    """Check that layers of a network can become two.

    Args:
        model: A network; it is not changed.
        ranks: The ranks of the layers, by module name.
        calls: What it runs on, the first with a batch of at least two inputs.

    Raises:
        InexactCutError: If one of them cannot; the message says why.
        ValueError: If the network has no such layer, or a rank is out of its range.
    """
    refused = _refused_by_kind(model)
    for name, rank in ranks.items():
        layer_at(model, name, rank)
        if reason := refused.get(name):
            raise InexactCutError(f"the layer {name!r} has to stay whole: {reason}")
    if ranks and (reason := trial(model, ranks, calls)):
        raise InexactCutError(f"layers of the plan have to stay whole: {reason}")


def find_rank_layers(model: nn.Module, calls: Sequence[Call]) -> RankLayers:
    """Find the layers that can become two of low rank.

    Each is tried: with random weights of a low rank, the network has to compute the same with two layers as
    with one. So a layer stays whole whose weight or size the forward code reads.

    Args:
        model: A network; it is not changed.
        calls: Calls that it runs on, the first with a batch of at least two inputs.
    """
    refused = _refused_by_kind(model)
    candidates = {n: m for n, m in model.named_modules() if isinstance(m, _KINDS) and n not in refused}
    positions = _positions(model, candidates, calls[0])
    layers = []
    for name, module in candidates.items():
        weight: Any = module.weight
        layer = RankLayer(name, len(weight), weight[0].numel(), positions[name])
        if not layer.positions:
            refused[name] = "no pass runs it as a module"
        elif not layer.largest:
            refused[name] = "two layers would save nothing"
        else:
            layers.append(layer)
    refused |= _refused_by_trial(model, layers, calls)
    return RankLayers(tuple(layer for layer in layers if layer.name not in refused), refused)


def _refused_by_kind(model: nn.Module) -> dict[str, str]:
    """Say which convolutions and linear layers are not computed by one plain weight of their own."""
    modules = dict(model.named_modules(remove_duplicate=False))
    names = Counter(id(module) for module in modules.values())
    owners = Counter(id(parameter) for module in model.modules() for parameter in module._parameters.values())
    refused = {}
    for name, module in modules.items():
        if not isinstance(module, _ConvNd | nn.Linear):
            continue
        if reason := _reason(module):
            refused[name] = reason
        elif names[id(module)] > 1:
            refused[name] = "the network has it under several names"
        elif any(owners[id(p)] > 1 for p in module._parameters.values() if p is not None):
            refused[name] = "another module has the same weight"
        elif not name:
            refused[name] = "it is the whole network"
    return refused


def _reason(module: nn.Module) -> str:
    kind = next((kind for kind in _KINDS if isinstance(module, kind)), None)
    if kind is None:
        return "it is transposed, or of no known kind"
    if getattr(module, "groups", 1) > 1:
        return "it has groups"
    if is_parametrized(module) or "weight" not in module._parameters:
        return "its weight is masked, or computed from other tensors"
    own = type(module).forward is kind.forward
    if not own or getattr(type(module), "_conv_forward", None) is not getattr(kind, "_conv_forward", None):
        return f"{type(module).__name__} has a forward of its own"
    if set(module._parameters) != {"weight", "bias"} or module._buffers or module._modules:
        return "it has more than a weight and a bias"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "it has hooks"
    return ""


def _positions(model: nn.Module, modules: Mapping[str, nn.Module], call: Call) -> Counter[str]:
    """Count for one example how often each filter of the modules is computed."""
    copied, counted = replica(model).cpu().eval(), Counter[str]()
    examples = next(x.shape[0] for x in comparable_in(call.inputs))

    def count(name: str) -> Any:
        def add(module: Any, _: Any, output: Tensor) -> None:
            counted[name] += output.numel() // (len(module.weight) * examples)

        return add

    for name in modules:
        copied.get_submodule(name).register_forward_hook(count(name))
    with torch.no_grad(), fixed_randomness():
        call.on(copied)
    return counted


def _refused_by_trial(model: nn.Module, layers: Sequence[RankLayer], calls: Sequence[Call]) -> dict[str, str]:
    """Try all layers together and, if that is wrong, each alone."""
    ranks = {layer.name: max(1, layer.largest // 2) for layer in layers}
    if not ranks or not trial(model, ranks, calls):
        return {}
    reasons = {name: trial(model, {name: rank}, calls) for name, rank in ranks.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def trial(model: nn.Module, ranks: Mapping[str, int], calls: Sequence[Call]) -> str:
    """Compare a network whose layers have random weights of low rank with the same one of two layers each.

    Args:
        model: A network; it is not changed.
        ranks: The ranks of the layers, by module name.
        calls: What to run, in evaluation and in training mode.

    Returns:
        What is wrong, "" if nothing is.
    """

    def pair(precision: torch.dtype) -> tuple[Run, Run]:
        whole = randomised(model, 1, precision)
        pairs = replica(whole)
        given = [drawn(call.to(precision), 1) for call in calls]
        generator = torch.Generator().manual_seed(0)
        for name, rank in ranks.items():
            _set_random(whole, pairs, name, rank, generator)
        return (
            lambda: run_in_both_modes(with_own_state(whole), given, precision),
            lambda: run_in_both_modes(with_own_state(pairs), given, precision),
        )

    try:
        difference, is_exact = compare_runs(pair)
    except ChangedNetworkFailedError as error:
        return f"with two layers in its place the network does not run: {error}"
    if not is_exact:
        return f"with two layers in its place the network computes something else, by {difference:.1e}"
    return ""


def _set_random(whole: nn.Module, pairs: nn.Module, name: str, rank: int, generator: torch.Generator) -> None:
    """Give a layer a random weight of low rank, as one matrix and as two."""
    module: Any = whole.get_submodule(name)
    first, second = (
        torch.randn(size, generator=generator, dtype=torch.float64)
        for size in ((rank, module.weight[0].numel()), (len(module.weight), rank))
    )
    first = first * float(module.weight.detach().std()) / rank**0.5
    bias = None if module.bias is None else module.bias.detach()
    with torch.no_grad():
        module.weight.copy_((second @ first).view_as(module.weight))
    put_pair(pairs, name, first, second, bias)
