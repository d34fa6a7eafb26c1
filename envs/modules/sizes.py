"""Sizes stored in modules' attributes: channels, groups, features, and integers that forward code reads."""

from collections.abc import Mapping

from torch import nn

from .units import WHOLE_GROUPS, remember_unit, unit_of, unit_of_convolution

_CONVOLUTION, _NORM = nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase

_SIZES: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (_CONVOLUTION, ("in_channels", "out_channels", "groups")),
    (nn.Linear, ("in_features", "out_features")),
    (_NORM, ("num_features",)),
    (nn.GroupNorm, ("num_channels", "num_groups")),
    (nn.PReLU, ("num_parameters",)),
    (nn.Embedding, ("num_embeddings", "embedding_dim")),
)
"""Size attributes of torch's modules that :func:`fit_attributes` can set."""


def follows_its_weight(module: nn.Module) -> bool:
    """Return whether :func:`fit_attributes` can set all sizes of a module from its tensors."""
    return bool(_sizes_of(module))


def sizes_from_weights(model: nn.Module) -> dict[str, int]:
    """Return the size attributes, by dotted name, of all modules whose sizes follow from their weights."""
    return {
        f"{name}.{attribute}".lstrip("."): getattr(module, attribute)
        for name, module in model.named_modules()
        for attribute in _sizes_of(module)
    }


def _sizes_of(module: nn.Module) -> tuple[str, ...]:
    if not any(tensor.ndim for tensor in (*module.parameters(), *module.buffers())):
        return ()
    return next((names for kind, names in _SIZES if isinstance(module, kind)), ())


def fit_attributes(model: nn.Module) -> None:
    """Set the size attributes of torch's modules to the shapes of their parameters."""
    for module in model.modules():
        match module:
            case nn.modules.conv._ConvNd():
                _fit_convolution(module)
            case nn.Linear():
                module.out_features, module.in_features = module.weight.shape
            case nn.modules.batchnorm._NormBase():
                present = [t for t in (module.weight, module.bias, module.running_mean) if t is not None]
                module.num_features = len(present[0]) if present else module.num_features
            case nn.GroupNorm() if module.affine:
                per_group = module.num_channels // module.num_groups
                module.num_channels = len(module.weight)
                module.num_groups = module.num_channels // per_group
            case nn.PReLU():
                module.num_parameters = len(module.weight)
            case nn.Embedding():
                module.num_embeddings, module.embedding_dim = module.weight.shape


def _fit_convolution(module: nn.modules.conv._ConvNd) -> None:
    first, second = module.weight.shape[:2]
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


def set_attributes(model: nn.Module, values: Mapping[str, tuple[int, ...] | int]) -> None:
    """Set size attributes, integers or sequences of integers, by dotted attribute name.

    Raises:
        ValueError: If the network has no such attribute, or a cut cannot bring it to that value.
    """
    for path, value in values.items():
        owner, _, name = path.rpartition(".")
        try:
            module = model.get_submodule(owner)
            old = vars(module)[name]
        except (AttributeError, KeyError):
            raise ValueError(f"the plan sets {path!r}, which this network does not have") from None
        if name.startswith("_") or follows_its_weight(module) or not _shrinks(old, value):
            raise ValueError(f"the plan sets {path!r}, which is no size that a cut can change to that value")
        new = value if isinstance(value, int) else list(value) if isinstance(old, list) else tuple(value)
        setattr(module, name, new)


def _shrinks(old: object, new: tuple[int, ...] | int) -> bool:
    """Return whether integers become as many positive integers, none of them larger."""
    if isinstance(new, int):
        return isinstance(old, int) and not isinstance(old, bool) and (new == old or 1 <= new < old)
    fits = isinstance(old, list | tuple) and len(old) == len(new)
    return fits and all(_shrinks(*pair) for pair in zip(old, new, strict=True))  # type: ignore[call-overload]
