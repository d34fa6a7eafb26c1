"""Sizes stored in modules' attributes: channels, groups, features, and integers that forward code reads."""

from collections.abc import Mapping

from torch import nn


def follows_its_weight(module: nn.Module) -> bool:
    """Return whether :func:`fit_attributes` can set all sizes of a module from its parameters."""
    convolution, norm = nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase
    fitted = (convolution, nn.Linear, norm, nn.GroupNorm, nn.PReLU, nn.Embedding)
    return isinstance(module, fitted) and next(module.parameters(), None) is not None


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
    if (
        module.groups > 1 and module.groups >= module.in_channels // module.groups
    ):  # whole groups were removed
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
