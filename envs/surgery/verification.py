"""Verify cuts: the cut network must compute the same as the masked dense one.

A trace cannot distinguish a literal integer in a forward pass from shape arithmetic. So every cut is tried on
a copy with random weights in float64.
"""

import functools
import math
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..io.memory import is_out_of_memory
from ..modules.calls import as_inputs
from ..modules.copying import replica
from ..tracing import Cause, Pin, TracedNetwork, trace
from .cutting import cut, mask_
from .deterministic_mode import DeterministicMode
from .plan import Mask, PruningPlan

TOLERANCE = 1e-9
"""Largest allowed relative difference between the masked and the cut network in float64."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

_DRAWS = 3
"""How often weights and inputs are drawn for a check, at most."""

_VISIBLE = 1e-6
"""Relative change of an output from which a mask counts as visible."""


class InexactCutError(ValueError):
    """A cut network does not compute the same as the masked dense one.

    Args:
        message: The problem.
        source: "file:line" of the model's code that failed, or "".
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source


def trace_exactly(
    model: nn.Module, example: Tensor | tuple[Any, ...], *, pins: Sequence[Pin] = ()
) -> TracedNetwork:
    """Trace a network and try cuts on it; layers whose cut is not exact are pinned with that cause.

    Args:
        model: Any CNN.
        example: A batch of at least two inputs; see :func:`trace`.
        pins: Channels to keep, each with its cause.

    Returns:
        A trace for which all tried cuts are exact.

    Raises:
        ValueError: If the model does not run on ``example``.
    """
    probe = Probe(model, example)
    pins = list(pins)
    while True:
        network = trace(model, example, pins=pins)
        culprits = _culprits(probe, network)
        if not culprits:
            return network
        for index, error in culprits.items():
            layer = network.layers[index]
            first = next((s for s in layer.slices if s.role == "producer"), layer.slices[0])
            cause = Cause(f"its cut was tried and refused: {error}", "verification", layer.name, error.source)
            pins.append(Pin(first.parameter, first.axis, first.index, cause))


def verify_cut(
    model: nn.Module, network: TracedNetwork, plan: PruningPlan, example: Tensor | tuple[Any, ...]
) -> float:
    """Compare the cut with the masked network in float64, in evaluation and in training mode.

    Args:
        model: The dense network.
        network: Its trace.
        plan: The cut to try.
        example: A batch of at least two inputs.

    Returns:
        The largest relative difference.

    Raises:
        InexactCutError: If the difference is above 1e-9 with most of the drawn weights and inputs, the cut
            network does not run, or masking changes no output, so that the check cannot fail.
    """
    return Probe(model, example).check(network, plan)


class Probe:
    """Try cuts on randomised float64 copies of a network.

    Args:
        model: The dense network; it is not changed.
        example: A batch of at least two inputs.
    """

    def __init__(self, model: nn.Module, example: Tensor | tuple[Any, ...]) -> None:
        self._draw = functools.cache(functools.partial(_Draw, model, example))

    def check(self, network: TracedNetwork, plan: PruningPlan) -> float:
        """Do what :func:`verify_cut` does.

        One draw is enough for an exact cut but for two mishaps. All that goes may be silent, as a dead filter
        is; then another draw decides. And where values are equal, rounding chooses what max-pooling takes;
        then most draws decide, as a wrong cut may be silent in one of them too.
        """
        differences: list[float] = []
        for number in range(_DRAWS):
            found = self._draw(number).difference(network, plan)
            differences += [] if found is None else [found]
            exact = [difference for difference in differences if difference <= TOLERANCE]
            if 2 * len(exact) > len(differences):
                return max(exact)
            if 2 * (len(differences) - len(exact)) > _DRAWS:
                break
        if not differences:
            raise InexactCutError("masking changed nothing, so the check of the cut is blind")
        raise InexactCutError(f"the cut network differs from the masked one by {differences[0]:.1e}")


class _Draw:
    """One randomised copy of a network, and inputs for it.

    Args:
        model: The dense network; it is left as it is.
        example: A batch of at least two inputs.
        number: Of the draw, from 0; see :func:`randomised`. From the second on inputs are shuffled too.
    """

    def __init__(self, model: nn.Module, example: Tensor | tuple[Any, ...], number: int) -> None:
        self.model = randomised(model, number)
        drawn = functools.partial(_drawn, number=number)
        self.inputs = tree_map_only(Tensor, drawn, as_inputs(example, torch.float64))

    @cached_property
    def dense(self) -> list[list[Tensor]]:
        """Outputs of the dense network in evaluation and in training mode."""
        own_statistics = replica(self.model, {p: p for p in self.model.parameters()})
        return self._outputs(own_statistics)

    def difference(self, network: TracedNetwork, plan: PruningPlan) -> float | None:
        """Return the largest relative difference between the cut and the masked network.

        Returns:
            The difference, or None if there is none but masking changes no output.

        Raises:
            InexactCutError: If the cut network does not run.
        """
        masked = replica(self.model)
        mask_(masked, network, plan)
        expected = self._outputs(masked)
        with _refusing_what_does_not_run():
            found = self._outputs(cut(self.model, network, plan))
        worst = max(_difference(e, f) for e, f in zip(expected, found, strict=True))
        pruned = any(len(kept) < plan.filters[name] for name, kept in plan.kept.items())
        seen = any(_difference(d, e) > _VISIBLE for d, e in zip(self.dense, expected, strict=True))
        return worst if seen or not pruned or worst > TOLERANCE else None

    def _outputs(self, model: nn.Module) -> list[list[Tensor]]:
        """Run a network in evaluation, then in training mode, which changes it."""
        outputs = []
        for training in (False, True):
            model.train(training)
            inputs = tree_map_only(Tensor, torch.clone, self.inputs)
            with torch.no_grad(), torch.random.fork_rng(devices=[]), DeterministicMode():
                outputs.append([x for x in tree_leaves(model(*inputs)) if isinstance(x, Tensor)])
        return outputs


def _drawn(x: Tensor, number: int) -> Tensor:
    """Shuffle an example; a constant one becomes random, as a network without biases is zero on zeros."""
    if not x.is_floating_point() or x.numel() < 2:
        return x
    generator = torch.Generator().manual_seed(number)
    if bool((x == x.flatten()[0]).all()):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x.flatten()[torch.randperm(x.numel(), generator=generator)].view(x.shape) if number else x


def randomised(model: nn.Module, number: int = 0) -> nn.Module:
    """Copy a network to float64 with random parameters and batch-norm state.

    No weight stays zero, as masking it would be invisible. Batch-norm's epsilon is raised, so that training
    mode is well conditioned on a few pixels.

    Args:
        model: Any network; it is not changed.
        number: Number of the draw, from 0. The first draw adds noise to the parameters; later ones keep their
            scale only, as a filter that is dead on all inputs stays dead with noise.
    """
    probe = replica(model).cpu().double()
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for name, tensor in [*probe.named_parameters(), *probe.named_buffers()]:
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype).mul_(2.0).sub_(1.0)
            if name.endswith("running_var"):
                tensor.copy_(1.5 + noise)
            elif name.endswith("running_mean"):
                tensor.copy_(noise * 0.1)
            elif isinstance(tensor, nn.Parameter):
                spread = 0.4 if tensor.ndim <= 1 else float(tensor.std(correction=0)) or 0.4
                if tensor.ndim == 1 and name.endswith("weight"):
                    tensor.fill_(1.0)
                elif number:
                    tensor.zero_()
                    # The standard deviation of the noise is 1/sqrt(3).
                    spread *= 1.0 if tensor.ndim <= 1 else math.sqrt(3.0)
                tensor.add_(noise, alpha=spread)
    for module in probe.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = 0.1
    return probe


def _culprits(probe: Probe, network: TracedNetwork) -> dict[int, InexactCutError]:
    """Find the layers whose cuts are not exact by bisection; return the error of each."""
    found: dict[int, InexactCutError] = {}
    for first in (True, False):
        masks = [_skewed(layer.filters, number, first) for number, layer in enumerate(network.layers)]
        found |= _search(probe, network, masks, [i for i in range(len(masks)) if i not in found])
    return found


def _search(
    probe: Probe, network: TracedNetwork, masks: Sequence[Mask], chosen: Sequence[int]
) -> dict[int, InexactCutError]:
    actual = [mask if i in chosen else np.ones_like(mask) for i, mask in enumerate(masks)]
    try:
        probe.check(network, PruningPlan.from_masks(network, actual))
    except InexactCutError as error:
        middle = len(chosen) // 2
        halves = (chosen[:middle], chosen[middle:]) if middle else ()
        found = {i: e for half in halves for i, e in _search(probe, network, masks, half).items()}
        return found or dict.fromkeys(chosen, error)  # one layer, or layers that fail only together
    return {}


def _skewed(filters: int, number: int, first: bool) -> Mask:
    """Remove the first or the last filters of a layer: symmetric cuts hide constants like ``channels // 2``.

    Between a quarter and three quarters are removed. The golden ratio gives each layer another share, because
    equal shares hide sizes that are mistaken for those of another layer.
    """
    share = 0.25 + 0.5 * (_GOLDEN * (number + 1) % 1.0)
    gone = min(filters - 1, max(1, round(share * filters)))
    mask = np.ones(filters, np.bool_)
    mask[slice(gone) if first else slice(filters - gone, None)] = False
    return mask


@contextmanager
def _refusing_what_does_not_run() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):  # else layers would be pinned for it
            raise
        message = f"the cut network does not run: {str(error) or repr(error)}"
        raise InexactCutError(message, _source_of(error)) from error


def _source_of(error: BaseException) -> str:
    """Find the innermost line of the model's code in an error's traceback, or ""."""
    folders = (Path(torch.__file__).parent, Path(__file__).parents[1])
    others = tuple(str(folder) + os.sep for folder in folders)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(others)]
    if not frames or frames[-1].name in ("<module>",):
        return ""
    path = Path(frames[-1].filename)
    return f"{path.parent.name}/{path.name}:{frames[-1].lineno}"


def _difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Return the largest difference relative to the largest entry; infinite if shapes differ, and for NaN."""
    if [x.shape for x in one] != [x.shape for x in other]:
        return math.inf
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        if a.numel():
            relative = float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))
            worst = math.inf if math.isnan(relative) else max(worst, relative)
    return worst
