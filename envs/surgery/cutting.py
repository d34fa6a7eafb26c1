"""Apply a plan to a network: mask it, cut it, save and rebuild it."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from ..io.atomic_write import write_atomically
from ..io.run_files import PLAN, WEIGHTS
from ..io.tensor_files import check_numbers, packed_bytes, read_tensors, write_tensors
from ..io.untrusted import first_line, read_text, short
from ..io.wording import counted
from ..modules.calls import as_calls
from ..modules.copying import refresh_masked_weights, replica
from ..modules.numbers import set_numbers
from ..modules.reparametrization import remove_reparametrizations
from ..modules.sizes import fit_attributes, sizes_from_weights
from ..modules.units import remember_units
from ..modules.weight_masks import masked_weights
from ..tracing import TracedNetwork
from .block_removal import remove_blocks
from .low_rank import low_rank, put_empty_pairs
from .plan import PruningPlan
from .slicing import TensorSlicer


def mask_(model: nn.Module, network: TracedNetwork, plan: PruningPlan) -> None:
    """Zero, in place, every parameter entry of the filters that ``plan`` removes."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for layer, mask in zip(network.layers, plan.masks(network), strict=True):
            for slice_ in layer.slices:
                if slice_.parameter in parameters:
                    removed = torch.from_numpy(slice_.index[~mask].ravel())
                    tensor = parameters[slice_.parameter]
                    tensor.index_fill_(slice_.axis, removed.to(tensor.device), 0.0)
    refresh_masked_weights(model)


def cut(model: nn.Module, network: TracedNetwork, plan: PruningPlan) -> nn.Module:
    """Remove filters from a copy of a network.

    Args:
        model: The dense network; it is not changed.
        network: Its trace.
        plan: The filters to keep.

    Returns:
        A smaller copy that computes the same as ``model`` with the removed filters masked. Parameters that
        are shared between modules stay shared. Layers to which the plan gives a rank are then two, by the
        singular vectors of their weights.
    """
    masks = plan.masks(network)
    state = _tensors(model)
    shrunk: dict[Tensor, Tensor] = {}
    slicer = TensorSlicer(network, {name: tensor.shape for name, tensor in state.items()})
    for name, axis, positions in slicer.kept(masks):
        old = state[name]
        shrunk[old] = shrunk.get(old, old.detach()).index_select(axis, positions.to(old.device))
    for old, new in shrunk.items():
        if isinstance(old, nn.Parameter):
            shrunk[old] = nn.Parameter(new, old.requires_grad)
    smaller = replica(model, shrunk)
    remember_units(smaller, network.units)
    # Computed from the masks, as a plan written by hand has no attributes.
    set_numbers(smaller, PruningPlan.from_masks(network, masks).attributes)
    _update_derived_state(smaller)
    return low_rank(smaller, plan.ranks) if plan.ranks else smaller


def _update_derived_state(model: nn.Module) -> None:
    """Update weights computed by hooks, and size attributes, after the parameters have changed."""
    refresh_masked_weights(model)
    fit_attributes(model)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, including buffers that are not in the state dict."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def save_pruned(model: nn.Module, plan: PruningPlan, folder: Path) -> None:
    """Write ``plan.json`` and ``model.safetensors``, each atomically.

    The attributes in the file are those of the plan and all sizes of torch's modules, so that code without
    Secateur needs no rules to set them.

    Masked weights are written as plain ones, with zeros; tensors with many zeros are packed.

    Args:
        model: The cut network.
        plan: The plan that it was cut by.
        folder: An existing folder.
    """
    text = replace(plan, attributes={**plan.attributes, **sizes_from_weights(model)}).to_json()
    write_atomically(folder / PLAN, lambda path: path.write_text(text, encoding="utf-8"))
    write_tensors(folder / WEIGHTS, _plain_tensors(model), _metadata(model), packed=True)


def file_bytes(model: nn.Module) -> int:
    """Return the size of the ``model.safetensors`` that :func:`save_pruned` writes, bytes."""
    return packed_bytes(_plain_tensors(model), _metadata(model))


def _metadata(model: nn.Module) -> dict[str, str]:
    return {"baked": "true"} if getattr(model, "baked", False) else {}


def _plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, masked weights as the plain ones that they act as."""
    tensors = {name: tensor.detach() for name, tensor in _tensors(model).items()}
    for name, _, _ in masked_weights(model, remove_duplicate=False):
        original, mask = tensors.pop(f"{name}_orig"), tensors.pop(f"{name}_mask")
        tensors[name] = torch.where(mask.bool(), original, torch.zeros_like(original))
    return tensors


def read_plan(path: Path) -> PruningPlan:
    """Read a file with a plan; a ValueError names it."""
    text = read_text(path)
    try:
        return PruningPlan.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_pruned(factory: Callable[[], nn.Module], folder: str | Path) -> nn.Module:
    """Rebuild a pruned network from its dense factory and the two files that :func:`save_pruned` wrote.

    Args:
        factory: Builds the dense network; its weights do not matter.
        folder: Folder with ``model.safetensors`` and ``plan.json``.

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
            raise ValueError(f"{path} does not exist; give a folder with {WEIGHTS} and {PLAN}")
    plan = read_plan(plan_path)
    state, metadata = read_tensors(weights)
    model = remove_reparametrizations(factory()) if "baked" in metadata else factory()
    for name, module, own in list(masked_weights(model)):
        if name in state:  # older files have the parts of a masked weight
            prune.remove(module, own)
    model = _without_blocks(model, plan)
    dense = {name: tensor.shape for name, tensor in _tensors(model).items()}
    remember_units(model, plan.units)
    put_empty_pairs(model, plan.ranks)
    _check_ranks(plan, state)
    shrink_to(model, state)
    _set_sizes(model, plan.attributes)
    _check_kept(plan, model, dense)
    return model.eval()


def _check_ranks(plan: PruningPlan, state: Mapping[str, Tensor]) -> None:
    for name, rank in plan.ranks.items():
        weight = state.get(f"{name}.0.weight")
        if weight is not None and (weight.ndim < 2 or len(weight) != rank):
            shape = tuple(weight.shape)
            raise ValueError(f"the plan gives {name!r} the rank {rank}, its weights are {shape}")


def _without_blocks(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """Remove the blocks of a plan from a dense network."""
    if not plan.blocks:
        return model
    if plan.input_shape is None:
        raise ValueError("the plan names blocks, so it has to say the shape of an input, input_shape")
    try:
        return remove_blocks(model, plan.blocks, as_calls(torch.zeros(2, *plan.input_shape))[0])
    except RuntimeError as error:
        raise ValueError(
            f"the network does not run on the plan's input_shape {plan.input_shape}: {first_line(error)}"
        ) from error


def _set_sizes(model: nn.Module, attributes: Mapping[str, tuple[int, ...] | int]) -> None:
    """Set the attributes of a plan; those that follow from weights, absent in version 0.1, are compared."""
    fitted = sizes_from_weights(model)
    set_numbers(model, {name: value for name, value in attributes.items() if name not in fitted})
    for name, size in fitted.items():
        if (planned := attributes.get(name, size)) != size:
            raise ValueError(f"the plan sets {name!r} to {short(str(planned))}, the weights to {size}")


def _check_kept(plan: PruningPlan, model: nn.Module, dense: Mapping[str, torch.Size]) -> None:
    """Check that a plan fits the cut network.

    Args:
        plan: The plan from the file.
        model: The cut network, with the shapes of the weights from the file.
        dense: Shapes of the dense network's tensors, by name.

    Raises:
        ValueError: If the plan names other layers, or other numbers of filters.
    """
    modules = {"network": model, **dict(model.named_modules())}  # the name of filters that no part computes
    filters: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    for name, kept in plan.kept.items():
        module = re.sub(r"#\d+$", "", name)  # several layers may have the same first producer
        if module not in modules:
            raise ValueError(f"the plan names the layer {name!r}, which this network does not have")
        filters[module] += plan.filters[name]
        removed[module] += plan.filters[name] - len(kept)
    for module, count in filters.items():
        shape = dense.get(f"{module}.weight".lstrip("."))
        producer = modules[f"{module}.1" if module in plan.ranks else module]  # the second layer has them
        if not isinstance(producer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) or shape is None:
            continue
        before, missing = shape[0], shape[0] - len(producer.weight)
        # A filter may have several output channels, and the module may have filters of other layers.
        if count > before or missing < removed[module] or (count == before and missing != removed[module]):
            raise ValueError(
                f"the plan removes {removed[module]} of {counted(count, 'filter')} of layer {module!r}, "
                f"the weights lack {missing} of {before}"
            )


def shrink_to(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set the tensors of a dense network to the shapes and values of a cut one's, in place.

    Raises:
        ValueError: If names differ, a tensor is larger than the dense one, empty, or of another rank or type,
            or holds infinite or undefined numbers.
    """
    tensors = _tensors(model)
    if differing := sorted(set(tensors) ^ set(state)):
        raise ValueError(
            f"the weights do not fit this network: {short(differing[0])!r} is in only one of them "
            f"({counted(len(differing), 'key differs', 'keys differ')})"
        )
    for name, tensor in state.items():
        dense = tensors[name].shape
        fits = tensor.ndim == len(dense) and all(
            min(1, large) <= small <= large for small, large in zip(tensor.shape, dense, strict=True)
        )
        if not fits:
            raise ValueError(
                f"the weights do not fit this network: {name!r} is {tuple(tensor.shape)}, "
                f"dense {tuple(dense)}"
            )
    check_numbers(state, tensors, "the weights")
    for name, tensor in state.items():
        tensors[name].data = tensor.to(tensors[name].device).clone()
    _update_derived_state(model)
