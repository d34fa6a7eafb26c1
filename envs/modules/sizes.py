"""Sizes of torch's modules that follow from their weights: channels, groups, features."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from .copying import replica
from .units import WHOLE_GROUPS, remember_unit, unit_of, unit_of_convolution

_Read = Callable[[Any], Sequence[int | tuple[int, ...]]]

_GATES = {"LSTM": 4, "GRU": 3}
"""Rows of a recurrent layer's weight per hidden feature, where there are several."""


def sizes_from_weights(model: nn.Module) -> dict[str, int | tuple[int, ...]]:
    """Return the size attributes, by dotted name, of all modules whose sizes follow from their weights."""
    return {
        f"{name}.{attribute}".lstrip("."): getattr(module, attribute)
        for name, module in model.named_modules()
        for attribute in _kind(module).sizes
    }


def attributes_from_weights(module: nn.Module) -> tuple[str, ...]:
    """Return the attributes of a torch class of which :func:`fit_attributes` sets the sizes.

    The others of these, such as a stride, are no sizes of channels.
    """
    kind = _kind(module)
    others = (*getattr(kind.module, "__constants__", ()), "_reversed_padding_repeated_twice")
    return (*kind.sizes, *others) if kind.sizes else ()


def fit_attributes(model: nn.Module) -> None:
    """Set the size attributes of torch's modules to the shapes of their parameters."""
    for module in model.modules():
        kind = _kind(module)
        for name, size in zip(kind.sizes, kind.read(module), strict=True):
            setattr(module, name, size)


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


def _convolution(module: nn.modules.conv._ConvNd) -> tuple[int, int, int]:
    first, second = _shape(module)[:2]
    old_first = module.in_channels if module.transposed else module.out_channels
    groups, unit = module.groups, unit_of(module, "weight")
    if unit is None and groups > 1:
        unit = unit_of_convolution(groups, module.in_channels // groups)
        remember_unit(module, "weight", unit)
    if unit == WHOLE_GROUPS:
        groups = first // (old_first // groups)
    return (first, second * groups, groups) if module.transposed else (second * groups, first, groups)


def _norm(module: nn.modules.batchnorm._NormBase) -> tuple[int]:
    names = ("weight", "bias", "running_mean")
    present = (name for name in names if is_parametrized(module, name) or getattr(module, name) is not None)
    return (_shape(module, next(present))[0],)


def _group_norm(module: nn.GroupNorm) -> tuple[int, int]:
    (channels,) = _shape(module)
    return channels, max(1, channels * module.num_groups // module.num_channels)  # one group stays one


def _recurrent(module: nn.RNNBase) -> tuple[int, int, int]:
    rows, inputs = _shape(module, "weight_ih_l0")
    projected = _shape(module, "weight_hh_l0")[1] if module.proj_size else 0
    return inputs, rows // _GATES.get(module.mode, 1), projected


class _Kind(NamedTuple):
    """A torch class, its attributes that hold sizes, and how to read these from the weights."""

    module: type[nn.Module]
    sizes: tuple[str, ...]
    read: _Read


_NOTHING = _Kind(nn.Module, (), lambda _: ())

_KINDS = (
    _Kind(nn.modules.conv._ConvNd, ("in_channels", "out_channels", "groups"), _convolution),
    _Kind(nn.Linear, ("out_features", "in_features"), _shape),
    _Kind(nn.modules.batchnorm._NormBase, ("num_features",), _norm),
    _Kind(nn.GroupNorm, ("num_channels", "num_groups"), _group_norm),
    _Kind(nn.LayerNorm, ("normalized_shape",), lambda module: (tuple(_shape(module)),)),
    _Kind(nn.PReLU, ("num_parameters",), _shape),
    _Kind(nn.Embedding, ("num_embeddings", "embedding_dim"), _shape),
    _Kind(nn.RNNBase, ("input_size", "hidden_size", "proj_size"), _recurrent),
)


def _kind(module: nn.Module) -> _Kind:
    """Find the kind of a module; nothing can be read from one without a tensor, such as some norms."""
    if not any(tensor.ndim for tensor in (*module.parameters(), *module.buffers())):
        return _NOTHING
    return next((kind for kind in _KINDS if isinstance(module, kind.module)), _NOTHING)
