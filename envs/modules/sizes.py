"""Sizes of torch's modules that follow from their weights: channels, groups, features."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from .copying import replica
from .units import WHOLE_GROUPS, remember_unit, unit_of, unit_of_convolution

_CONVOLUTION, _NORM = nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase

_SIZES: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (_CONVOLUTION, ("in_channels", "out_channels", "groups")),
    (nn.Linear, ("in_features", "out_features")),
    (_NORM, ("num_features",)),
    (nn.GroupNorm, ("num_channels", "num_groups")),
    (nn.LayerNorm, ("normalized_shape",)),
    (nn.PReLU, ("num_parameters",)),
    (nn.Embedding, ("num_embeddings", "embedding_dim")),
    (nn.RNNBase, ("input_size", "hidden_size", "proj_size")),
)
"""Size attributes of torch's modules that :func:`fit_attributes` can set."""

_GATES = {"LSTM": 4, "GRU": 3}
"""Rows of a recurrent layer's weight per hidden feature, where there are several."""


def sizes_from_weights(model: nn.Module) -> dict[str, int | tuple[int, ...]]:
    """Return the size attributes, by dotted name, of all modules whose sizes follow from their weights."""
    return {
        f"{name}.{attribute}".lstrip("."): getattr(module, attribute)
        for name, module in model.named_modules()
        for attribute in _sizes_of(module)
    }


def attributes_from_weights(module: nn.Module) -> tuple[str, ...]:
    """Return the attributes of torch's own class if :func:`fit_attributes` can set its sizes: no cut sets them."""
    if not (names := _sizes_of(module)):
        return ()
    kind = next(kind for kind, _ in _SIZES if isinstance(module, kind))
    return (*names, *getattr(kind, "__constants__", ()), "_reversed_padding_repeated_twice")


def _sizes_of(module: nn.Module) -> tuple[str, ...]:
    if not any(tensor.ndim for tensor in (*module.parameters(), *module.buffers())):
        return ()
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) != 1:
        return ()
    return next((names for kind, names in _SIZES if isinstance(module, kind)), ())


def fit_attributes(model: nn.Module) -> None:
    """Set the size attributes of torch's modules to the shapes of their parameters."""
    for module in model.modules():
        match module:
            case nn.modules.conv._ConvNd():
                _fit_convolution(module, _shape(module))
            case nn.Linear():
                module.out_features, module.in_features = _shape(module)
            case nn.modules.batchnorm._NormBase():
                names = ("running_mean", "weight", "bias")
                present = [n for n in names if is_parametrized(module, n) or getattr(module, n) is not None]
                if present:
                    module.num_features = _shape(module, present[0])[0]
            case nn.GroupNorm() if module.affine:
                per_group = module.num_channels // module.num_groups
                module.num_channels = _shape(module)[0]
                module.num_groups = module.num_channels // per_group
            case nn.LayerNorm() if module.elementwise_affine and len(module.normalized_shape) == 1:
                module.normalized_shape = tuple(_shape(module))
            case nn.PReLU():
                module.num_parameters = _shape(module)[0]
            case nn.Embedding():
                module.num_embeddings, module.embedding_dim = _shape(module)
            case nn.RNNBase():
                rows, module.input_size = _shape(module, "weight_ih_l0")
                module.hidden_size = rows // _GATES.get(module.mode, 1)
                if module.proj_size:
                    module.proj_size = _shape(module, "weight_hh_l0")[1]


def _shape(module: nn.Module, name: str = "weight") -> torch.Size:
    """Return the shape of a weight; one that is computed from other tensors is computed by a copy.

    A spectral norm, for one, changes its buffers when it computes the weight in training mode.
    """
    if is_parametrized(module, name):
        parts: Any = module.parametrizations
        with torch.no_grad():
            computed: Tensor = replica(parts[name]).eval()()
        return computed.shape
    weight: Tensor = getattr(module, name)
    return weight.shape


def _fit_convolution(module: nn.modules.conv._ConvNd, shape: torch.Size) -> None:
    first, second = shape[:2]
    old_first = module.in_channels if module.transposed else module.out_channels
    unit = unit_of(module, "weight")
    if unit is None and module.groups > 1:
        unit = unit_of_convolution(module.groups, module.in_channels // module.groups)
        remember_unit(module, "weight", unit)
    if unit == WHOLE_GROUPS:
        module.groups = first // (old_first // module.groups)
    inputs, outputs = (
        (first, second * module.groups) if module.transposed else (second * module.groups, first)
    )
    module.in_channels, module.out_channels = inputs, outputs
