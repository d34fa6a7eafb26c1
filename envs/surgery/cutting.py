"""What a plan does to a network: masking it in place, cutting it, saving and rebuilding it.

Shapes: L layers, N filters of a layer.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..io.atomic_write import write_atomically
from ..io.run_files import PLAN, WEIGHTS
from ..io.tensor_files import check_numbers, read_tensors, write_tensors
from ..io.untrusted import read_text, short
from ..modules.copying import copy_model, refresh_masked_weights
from ..modules.reparametrization import remove_reparametrizations
from ..modules.sizes import fit_attributes, set_attributes
from ..tracing import TracedNetwork
from .plan import Mask, PruningPlan


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
    smaller = copy_model(model, shrunk)
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
    write_atomically(folder / PLAN, lambda path: path.write_text(plan.to_json(), encoding="utf-8"))
    baked = {"baked": "true"} if getattr(model, "baked", False) else {}
    write_tensors(folder / WEIGHTS, _tensors(model), baked)


def load_pruned(factory: Callable[[], nn.Module], folder: str | Path) -> nn.Module:
    """Rebuild a pruned network from its dense factory and the two files that :func:`save_pruned` wrote.

    Args:
        factory: Builds the dense network; its weights do not matter.
        folder: Holds ``model.safetensors`` and ``plan.json``.

    Returns:
        The pruned network in evaluation mode.

    Raises:
        ValueError: If a file is missing or damaged, does not fit the factory's network or the other file, or
            holds infinite or undefined numbers.
    """
    folder = Path(folder)
    weights, plan_path = folder / WEIGHTS, folder / PLAN
    for path in (weights, plan_path):
        if not path.is_file():
            raise ValueError(f"{path} does not exist; a pruned network is rebuilt from it")
    text = read_text(plan_path)
    try:
        plan = PruningPlan.from_json(text)
    except ValueError as error:
        raise ValueError(f"{plan_path}: {error}") from error
    state, said = read_tensors(weights)
    model = remove_reparametrizations(factory()) if "baked" in said else factory()
    dense = {name: tensor.shape for name, tensor in _tensors(model).items()}
    set_attributes(model, plan.attributes)
    shrink_to(model, state)
    _check_kept(plan, model, dense)
    return model.eval()


def _check_kept(plan: PruningPlan, model: nn.Module, dense: Mapping[str, torch.Size]) -> None:
    """Compare a plan with the network that it is said to have led to.

    Args:
        plan: What is said to have been kept.
        model: The cut network.
        dense: Shapes of its tensors before the cut.

    Raises:
        ValueError: If the plan names other layers, or other numbers of filters.
    """
    modules = dict(model.named_modules())
    filters: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for name, kept in plan.kept.items():
        place = re.sub(r"#\d+$", "", name)  # several layers may begin with one module
        if place not in modules:
            raise ValueError(f"the plan names the layer {name!r}, which this network does not have")
        filters[place] += plan.filters[name]
        gone[place] += plan.filters[name] - len(kept)
    for place, count in filters.items():
        producer, shape = modules[place], dense.get(f"{place}.weight".lstrip("."))
        if not isinstance(producer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) or shape is None:
            continue
        before, missing = shape[0], shape[0] - len(producer.weight)
        # A filter may have several places, and some of the module's may belong to other layers.
        if count > before or missing < gone[place] or (count == before and missing != gone[place]):
            raise ValueError(
                f"the plan removes {gone[place]} of {count} filters of layer {place!r}, "
                f"the weights lack {missing} of {before}"
            )


def shrink_to(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a dense network the shapes and the values of a cut one's tensors, in place.

    Raises:
        ValueError: If names differ, a tensor is larger than the dense one, empty, or of another rank or type,
            or holds infinite or undefined numbers.
    """
    own = _tensors(model)
    if odd := sorted(set(own) ^ set(state)):
        raise ValueError(
            f"the weights do not fit this network: {short(odd[0])!r} is in only one of them "
            f"({len(odd)} keys differ)"
        )
    for name, tensor in state.items():
        dense = own[name].shape
        fits = tensor.ndim == len(dense) and all(
            min(1, large) <= small <= large for small, large in zip(tensor.shape, dense, strict=True)
        )
        if not fits:
            raise ValueError(
                f"the weights do not fit this network: {name!r} is {tuple(tensor.shape)}, "
                f"dense {tuple(dense)}"
            )
    check_numbers(state, own, "the weights")
    for name, tensor in state.items():
        own[name].data = tensor.to(own[name].device).clone()
    _settle(model)
