"""What every traced network promises, checked without the package's own verification."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from secateur.envs.cost.counts import cost
from secateur.envs.modules.copying import replica
from secateur.envs.surgery.cutting import cut, load_pruned, mask_, save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.tracing import TracedNetwork

Inputs = tuple[Tensor, ...]

_ON_GPUS_ALONE = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)
    )
}
"""What torch's counter counts on a GPU alone, by its shapes."""


def randomised(model: nn.Module) -> nn.Module:
    """Bring into float64 with random batch-norm parameters and statistics, and nothing zero or tiny."""
    model = model.double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in model.parameters():
            if not float(tensor.std(correction=0)) > 1e-3:
                tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=0.3)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    if tensor is not None:
                        tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.3)
    return model


def random_plan(network: TracedNetwork, sparsity: float, seed: int = 0) -> PruningPlan:
    """Drop a part of the filters at random, of some layers more than of others, but never all of one."""
    rng = np.random.default_rng(seed)
    masks = []
    for layer in network.layers:
        mask = np.ones(layer.filters, np.bool_)
        gone = min(layer.filters - 1, int(rng.binomial(layer.filters, sparsity)))
        kept = layer.nearest_allowed(layer.filters - gone)
        mask[rng.permutation(layer.filters)[: layer.filters - kept]] = False
        masks.append(mask)
    return PruningPlan.from_masks(network, masks)


def shifted(plan: PruningPlan) -> Iterator[PruningPlan]:
    """Keep a dropped neighbour instead of one kept filter, in one layer at a time, the widest first.

    Of equal ones the last comes first: thirty layers on, nothing may be left of a single filter.
    """
    pruned = [name for name, kept in plan.kept.items() if len(kept) < plan.filters[name]]
    for name in sorted(reversed(pruned), key=lambda n: -plan.filters[n]):
        kept = plan.kept[name]
        gone = next(i for i in range(plan.filters[name]) if i not in kept)
        nearest = min(kept, key=lambda i: abs(i - gone))
        moved = tuple(sorted({*kept, gone} - {nearest}))
        yield PruningPlan({**plan.kept, name: moved}, plan.filters, plan.attributes)


class Examples:
    """As much of a task as compensation needs: some inputs."""

    def __init__(self, inputs: Tensor) -> None:
        self._inputs = inputs
        self.input_shape = tuple(inputs.shape[1:])

    def size(self, split: str) -> int:
        return len(self._inputs)

    def batch(self, split: str, indices: Tensor, **augmentation: object) -> tuple[Tensor, Tensor]:
        return self._inputs[indices], indices


def is_grouped(module: nn.Module) -> bool:
    """Tell convolutions in groups from depthwise ones, whose groups have one channel each."""
    return isinstance(module, nn.modules.conv._ConvNd) and 1 < module.groups < module.in_channels


def give_twins(model: nn.Module, network: TracedNetwork) -> None:
    """Make every second filter of every layer compute the same as the one before it."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for layer in network.layers:
            for where in layer.slices:
                if where.role != "input_channel" and where.parameter in tensors:
                    rows = tensors[where.parameter].movedim(where.axis, 0)
                    pairs = len(where.index) // 2
                    rows[where.index[1::2]] = rows[where.index[: 2 * pairs : 2]].clone()


def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    with torch.no_grad():
        return [x for x in tree_leaves(model.eval()(*inputs)) if isinstance(x, Tensor)]


def difference(one: list[Tensor], other: list[Tensor]) -> float:
    assert [x.shape for x in one] == [x.shape for x in other]
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(one, other, strict=True))


def masked_difference(
    model: nn.Module, network: TracedNetwork, masked_by: PruningPlan, cut_by: PruningPlan, inputs: Inputs
) -> float:
    """Compare a network masked by one plan with the same network cut by one."""
    smaller = cut(model, network, cut_by)
    masked = cut(model, network, PruningPlan.dense(network))
    mask_(masked, network, masked_by)
    return difference(outputs(masked, inputs), outputs(smaller, inputs))


def macs_of(model: nn.Module, *inputs: Tensor) -> float:
    """Count the multiply-accumulate operations of one example with torch's counter.

    Without gradients torch runs attention as one operation, which it does not count.
    """
    with FlopCounterMode(display=False, custom_mapping=_ON_GPUS_ALONE) as counter, torch.enable_grad():
        model.eval()(*inputs)
    return counter.get_total_flops() / 2 / len(inputs[0])


def assert_counts_are_true(
    network: TracedNetwork, plan: PruningPlan, smaller: nn.Module, inputs: Inputs
) -> None:
    counted = cost(network, plan.counts(network))
    assert counted.macs == macs_of(smaller, *inputs)
    assert counted.params == sum(p.numel() for p in smaller.parameters())
    assert counted.filters == sum(len(kept) for kept in plan.kept.values())


def assert_trains(smaller: nn.Module, inputs: Inputs) -> None:
    """Take one step of an optimiser in training mode."""
    smaller = replica(smaller).requires_grad_(True).train()
    before = [p.detach().clone() for p in smaller.parameters()]
    optimiser = torch.optim.SGD(smaller.parameters(), lr=1e-3)
    leaves = [x for x in tree_leaves(smaller(*inputs)) if isinstance(x, Tensor) and x.requires_grad]
    loss = torch.stack([x.square().mean() for x in leaves]).sum()
    loss.backward()
    optimiser.step()
    assert math.isfinite(loss.item())
    assert any(not torch.equal(a, b) for a, b in zip(before, smaller.parameters(), strict=True))


def assert_survives_saving(
    build: Callable[[], nn.Module], smaller: nn.Module, plan: PruningPlan, inputs: Inputs, folder: Path
) -> None:
    assert PruningPlan.from_json(plan.to_json()) == plan
    save_pruned(smaller, plan, folder)
    rebuilt = load_pruned(build, folder)
    assert not rebuilt.training
    assert difference(outputs(smaller, inputs), outputs(rebuilt, inputs)) == 0.0
