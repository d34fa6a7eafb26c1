"""What a plan does to a network: masking it in place, cutting it, saving and rebuilding it.

Shapes: L layers, N filters of a layer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .attributes import fit_attributes, set_attributes
from .baking import bake
from .files import write_aside
from .plan import Mask, PruningPlan
from .replicas import refresh_masked_weights, replica
from .tracing import TracedNetwork

__all__ = ["Mask", "PruningPlan", "cut", "load_pruned", "mask_", "save_pruned", "shrink_to", "unshared"]


def mask_(model: nn.Module, network: TracedNetwork, plan: PruningPlan) -> None:
    """Zero, in place, every parameter entry of the filters that ``plan`` drops."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for layer, mask in zip(network.layers, plan.masks(network), strict=True):
            for where in layer.slices:
                if where.parameter in parameters:
                    gone = torch.from_numpy(where.index[~mask].ravel())
                    tensor = parameters[where.parameter]
                    tensor.index_fill_(where.axis, gone.to(tensor.device), 0.0)
    refresh_masked_weights(model)


def cut(model: nn.Module, network: TracedNetwork, plan: PruningPlan) -> nn.Module:
    """Remove filters physically.

    Args:
        model: The dense network; it is left as it is.
        network: Its trace.
        plan: What stays.

    Returns:
        A smaller copy that computes what ``model`` computes with the dropped filters masked. Parameters keep
        their identity inside the copy, so that shared ones stay shared.
    """
    masks = plan.masks(network)
    state = _tensors(model)
    stays: dict[tuple[str, int], Mask] = {}
    for layer, mask in zip(network.layers, masks, strict=True):
        for where in layer.slices if not mask.all() else ():
            full = np.ones(state[where.parameter].shape[where.axis], np.bool_)
            stays.setdefault((where.parameter, where.axis), full)[where.index[~mask].ravel()] = False
    shrunk: dict[Tensor, Tensor] = {}
    for (name, axis), positions in stays.items():
        old = state[name]
        index = torch.from_numpy(np.flatnonzero(positions)).to(old.device)
        shrunk[old] = shrunk.get(old, old.detach()).index_select(axis, index)
    for old, new in shrunk.items():
        if isinstance(old, nn.Parameter):
            shrunk[old] = nn.Parameter(new, old.requires_grad)
    smaller = replica(model, shrunk)
    # From the masks and not from plan.attributes: a plan written by hand has none.
    set_attributes(smaller, PruningPlan.from_masks(network, masks).attributes)
    _settle(smaller)
    return smaller


def _settle(model: nn.Module) -> None:
    """Let everything that is derived from parameters follow them."""
    refresh_masked_weights(model)
    fit_attributes(model)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Name all parameters and buffers, also the buffers that a state dict leaves out."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def save_pruned(model: nn.Module, plan: PruningPlan, folder: Path) -> None:
    """Write ``plan.json`` and ``model.safetensors``, each aside first and then renamed.

    Args:
        model: The cut network.
        plan: The plan that it was cut by.
        folder: An existing folder.
    """
    state = unshared(_tensors(model))
    write_aside(folder / "plan.json", lambda path: path.write_text(plan.to_json(), encoding="utf-8"))
    baked = {"baked": "true"} if getattr(model, "baked", False) else {}
    write_aside(folder / "model.safetensors", lambda path: save_file(state, path, metadata=baked))


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors to the CPU, each in memory of its own: safetensors refuses to write shared memory."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        copied = tensor.detach().cpu().contiguous()
        if copied.data_ptr() in seen:
            copied = copied.clone()
        seen.add(copied.data_ptr())
        state[name] = copied
    return state


def load_pruned(factory: Callable[[], nn.Module], folder: str | Path) -> nn.Module:
    """Rebuild a pruned network from its dense factory and the two files that :func:`save_pruned` wrote.

    Args:
        factory: Builds the dense network; its weights do not matter.
        folder: Holds ``model.safetensors`` and ``plan.json``.

    Returns:
        The pruned network in evaluation mode.

    Raises:
        ValueError: If a file is missing or damaged, or does not fit the factory's network.
    """
    folder = Path(folder)
    weights, plan = folder / "model.safetensors", folder / "plan.json"
    for path in (weights, plan):
        if not path.is_file():
            raise ValueError(f"{path} does not exist; a pruned network is rebuilt from it")
    try:
        state = load_file(weights)
        with safe_open(weights, framework="pt") as file:
            baked = "baked" in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights} is not a readable safetensors file: {error}") from error
    try:
        attributes = PruningPlan.from_json(plan.read_text(encoding="utf-8")).attributes
    except ValueError as error:
        raise ValueError(f"{plan}: {error}") from error
    model = bake(factory()) if baked else factory()
    set_attributes(model, attributes)
    shrink_to(model, state)
    return model.eval()


def shrink_to(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a dense network the shapes and the values of a cut one's tensors, in place.

    Raises:
        ValueError: If names differ, or a tensor is larger than the dense one or of another rank.
    """
    own = _tensors(model)
    if odd := sorted(set(own) ^ set(state)):
        raise ValueError(
            f"the weights do not fit this network: {odd[0]!r} is in only one of them ({len(odd)} keys differ)"
        )
    for name, tensor in state.items():
        dense = own[name].shape
        fits = tensor.ndim == len(dense) and all(
            small <= large for small, large in zip(tensor.shape, dense, strict=True)
        )
        if not fits:
            raise ValueError(
                f"the weights do not fit this network: {name!r} is {tuple(tensor.shape)}, "
                f"dense {tuple(dense)}"
            )
    for name, tensor in state.items():
        own[name].data = tensor.to(own[name].device).clone()
    _settle(model)
