"""Build a network from a name or from ``package.module:factory``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn

from ..io.plugins import accepted_arguments, imported_module
from ..io.suggestions import did_you_mean
from .cifar import RESNET_DEPTHS, CifarResNet, CifarVGG16
from .demo import DemoNet
from .segmentation import build_segmentation, list_segmentation
from .segnet import SegNet
from .weights import SUFFIXES, fill, load_weights

# These names take precedence over torchvision's; its vgg16 is available as torchvision.models:vgg16.
_OWN: dict[str, Callable[..., nn.Module]] = {
    "demo": DemoNet,
    **{f"resnet{depth}": partial(CifarResNet, depth) for depth in RESNET_DEPTHS},
    "vgg16": CifarVGG16,
    "segnet": SegNet,
    **{f"segnet{width}": partial(SegNet, width=width) for width in (16, 32)},
}


def list_models() -> list[str]:
    """List every name that :func:`get_model` accepts, this package's networks first."""
    torchvision_names = torchvision.models.list_models(module=torchvision.models)
    return [*_OWN, *(name for name in torchvision_names if name not in _OWN), *list_segmentation()]


def predicts_pixels(name: str) -> bool:
    """Return whether a name is that of a segmentation network."""
    return name.startswith("segnet") or name in list_segmentation()


def get_model(
    name: str, *, num_classes: int, in_channels: int, weights: str | Path | None = None
) -> nn.Module:
    """Build a network, in training mode, on the CPU.

    Args:
        name: A name from :func:`list_models`, or ``package.module:factory``. Networks of torchvision are
            built without auxiliary heads, so that the network does not depend on its weights. The module may
            be in the current directory. The factory gets ``num_classes`` and ``in_channels`` if it has these
            parameters, and nothing else.
        num_classes: Number of classes, at least 1.
        in_channels: Channels of the images, at least 1. If a torchvision network needs another number, its
            first convolution is replaced by a new one.
        weights: A weights file, or the name of torchvision weights such as ``IMAGENET1K_V1`` or ``DEFAULT``
            (downloaded by torchvision). None gives random weights.

    Raises:
        ValueError: If the name or the weights are unknown, or the weights do not fit.
        TypeError: If a factory does not return a module.
    """
    published = weights is not None and not _is_file(weights)
    if ":" in name:
        model = _from_factory(name, num_classes, in_channels)
    elif name in _OWN:
        model = _OWN[name](num_classes=num_classes, in_channels=in_channels)
    elif name in list_models():
        model = _from_torchvision(name, num_classes, in_channels)
        if published:
            fill(model, _published(name, str(weights), num_classes, in_channels), f"the weights {weights}")
            return model
    else:
        raise ValueError(
            f"there is no model {name!r}{did_you_mean(name, list_models())}; give {', '.join(_OWN)}, the "
            "name of a torchvision classifier or segmentation network, or package.module:factory for your own"
        )
    if published:
        raise ValueError(
            f"there are no weights {str(weights)!r} for {name}: give a {', '.join(SUFFIXES)} file that exists"
        )
    if weights is not None:
        load_weights(model, weights)
    return model


def _is_file(weights: str | Path) -> bool:
    return Path(weights).suffix in SUFFIXES or Path(weights).exists()


def _from_torchvision(name: str, num_classes: int, in_channels: int) -> nn.Module:
    if name in list_segmentation():
        model = build_segmentation(name, num_classes)
    else:
        builder = torchvision.models.get_model_builder(name)
        settings: dict[str, bool] = {}
        if name in ("googlenet", "inception_v3"):
            # As torchvision's weights need them: transform_input rescales ImageNet's normalisation to [-1,
            # 1].
            settings = {"aux_logits": False, "transform_input": in_channels == 3, "init_weights": True}
        model = builder(weights=None, num_classes=num_classes, **settings)
    if in_channels != 3:
        _replace_first_convolution(model, in_channels)
    return model


def _replace_first_convolution(model: nn.Module, in_channels: int) -> None:
    path, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    settings = {k: getattr(old, k) for k in ("kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(in_channels, old.out_channels, bias=old.bias is not None, **settings)
    model.set_submodule(path, new)


def _published(name: str, weights: str, num_classes: int, in_channels: int) -> dict[str, Tensor]:
    """Load torchvision's published weights for a network."""
    published = torchvision.models.get_model_weights(name)
    names = list(published.__members__)  # includes the alias DEFAULT
    if weights not in names:
        raise ValueError(
            f"there are no weights {weights!r} for {name}{did_you_mean(weights, names)}; "
            f"give {' or '.join(names)}, or a {', '.join(SUFFIXES)} file that exists"
        )
    entry = published[weights]
    classes = len(entry.meta["categories"])
    if (num_classes, in_channels) != (classes, 3):
        raise ValueError(
            f"the weights {weights} of {name} are for {classes} classes and 3 channels, the data has "
            f"{num_classes} and {in_channels}: give weights that were trained on this data, or none"
        )
    return dict(torchvision.models.get_model(name, weights=entry).state_dict())


def _from_factory(name: str, num_classes: int, in_channels: int) -> nn.Module:
    attribute = name.partition(":")[2]
    with imported_module(name) as module:
        factory = getattr(module, attribute, None)
        if not callable(factory):
            public = [key for key, value in vars(module).items() if callable(value)]
            raise ValueError(
                f"{module.__name__} has no factory {attribute!r}{did_you_mean(attribute, public)}"
            )
        model = factory(**_accepted(factory, name, num_classes=num_classes, in_channels=in_channels))
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"{name} returned a {type(model).__name__}; a factory has to return a torch.nn.Module"
        )
    return model


def _accepted(factory: Callable[..., Any], name: str, **offered: int) -> dict[str, int]:
    """Choose the arguments that the factory accepts; ``**kwargs`` (as in timm) gets the number of classes."""
    try:
        chosen = accepted_arguments(factory, **offered)
    except TypeError as error:
        raise ValueError(
            f"the factory {name} cannot be called ({error}): it gets num_classes and in_channels "
            "if it has these parameters, and nothing else"
        ) from error
    kinds = {p.kind for p in inspect.signature(factory).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        chosen["num_classes"] = offered["num_classes"]
    return chosen
