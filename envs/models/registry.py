"""Build a network from its name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from ..io.suggestions import did_you_mean, looks_like_path
from .cifar import RESNET_DEPTHS, CifarResNet, CifarVGG16
from .demo import DemoNet
from .factories import FactorySource
from .huggingface import HuggingFaceSource
from .lenet import SIDE, lenet5, lenet300
from .segmentation import list_segmentation
from .segnet import SegNet
from .sources import Sizes, Source, unknown_weights
from .timm_models import TimmSource, timm
from .torchhub import TorchhubSource
from .torchvision_models import TorchvisionSource, list_classifiers
from .weights import SUFFIXES, fill, load_weights

# These names take precedence over torchvision's; its vgg16 is available as torchvision:vgg16.
_OWN: dict[str, Callable[..., nn.Module]] = {
    "demo": DemoNet,
    **{f"resnet{depth}": partial(CifarResNet, depth) for depth in RESNET_DEPTHS},
    "vgg16": CifarVGG16,
    "lenet300": lenet300,
    "lenet5": lenet5,
    "segnet": SegNet,
    **{f"segnet{width}": partial(SegNet, width=width) for width in (16, 32)},
}

_PREFIXES: dict[str, Callable[[str], Source]] = {
    "torchvision": TorchvisionSource,
    "timm": TimmSource,
    "hf": HuggingFaceSource,
    "torchhub": TorchhubSource,
}
"""Sources by the word before the colon; any other word is a module of the user."""


def list_models() -> list[str]:
    """List the names without a colon that :func:`get_model` accepts, this package's networks first."""
    return [*_OWN, *(name for name in list_classifiers() if name not in _OWN), *list_segmentation()]


def predicts_pixels(name: str) -> bool:
    """Return whether a name is that of a segmentation network."""
    name = name.removeprefix("torchvision:")
    return name.startswith("segnet") or name in list_segmentation()


def is_user_defined(name: str) -> bool:
    """Return whether a name is that of a user's factory, ``package.module:factory``."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and kind not in _PREFIXES


def usual_sizes(name: str) -> Sizes:
    """Return the image shape and the number of outputs that a network is meant for.

    Raises:
        ValueError: If the name is unknown.
    """
    return _source(name).sizes()


def get_model(
    name: str, *, num_classes: int, in_channels: int, weights: str | Path | None = None
) -> nn.Module:
    """Build a network, in training mode, on the CPU.

    Args:
        name: A name from :func:`list_models`, or one of these:
            ``torchvision:NAME``.
            ``timm:NAME`` (needs timm).
            ``hf:OWNER/NAME``, an image classifier of Hugging Face, or ``hf:./FOLDER`` (needs transformers).
            ``torchhub:OWNER/REPOSITORY:ENTRY``, which runs code of that repository if torch trusts it.
            ``package.module:factory``, installed or in the current directory. The factory gets
            ``num_classes`` and ``in_channels`` if it has these parameters, and nothing else.
            Networks of torchvision are built without auxiliary heads, so that the network does not depend on
            its weights.
        num_classes: Number of classes, at least 1.
        in_channels: Channels of the images, at least 1. If a torchvision network needs another number, its
            first convolution is replaced by a new one.
        weights: A file, or the name of published weights (downloaded): ``DEFAULT``, those of torchvision such
            as ``IMAGENET1K_V2``, or those of timm such as ``a1_in1k``. None gives random weights.

    Raises:
        ValueError: If the name or the weights are unknown, or the weights do not fit.
        TypeError: If a factory does not return a module.
    """
    source = _source(name)
    published = weights is not None and not _is_file(weights)
    state = source.published(str(weights), num_classes, in_channels) if published else None
    model = source.build(num_classes, in_channels)
    if state is not None:
        fill(model, state, f"the weights {weights}", num_classes=num_classes)
    elif weights is not None:
        load_weights(model, weights, num_classes=num_classes)
    return model


def _is_file(weights: str | Path) -> bool:
    path = Path(weights)
    return path.suffix in SUFFIXES or len(path.parts) > 1 or path.exists()


@dataclass(frozen=True)
class _OwnSource:
    """Build a network of this package."""

    name: str

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        return _OWN[self.name](num_classes=num_classes, in_channels=in_channels)

    def published(self, weights: str, num_classes: int, in_channels: int) -> Mapping[str, Tensor]:
        raise ValueError(unknown_weights(weights, self.name))

    def sizes(self) -> Sizes:
        if self.name == "demo":
            return Sizes((1, 8, 8), 10)
        if self.name.startswith("lenet"):
            return Sizes((1, SIDE, SIDE), 10)
        return Sizes((3, 224, 224), 21) if predicts_pixels(self.name) else Sizes((3, 32, 32), 10)


def _source(name: str) -> Source:
    kind, colon, rest = name.partition(":")
    if colon:
        return _PREFIXES[kind](rest) if kind in _PREFIXES else FactorySource(name)
    if name in _OWN:
        return _OwnSource(name)
    if name in list_models():
        return TorchvisionSource(name)
    names = (
        f"; give {', '.join(_OWN)}, the name of a torchvision classifier or segmentation network, timm:NAME, "
        "hf:OWNER/NAME, torchhub:OWNER/REPOSITORY:ENTRY, or package.module:factory for your own"
    )
    raise ValueError(f"there is no model {name!r}{_meant(name) or names}")


def _meant(name: str) -> str:
    """Guess what an unknown name means, as the end of "there is no model ..."."""
    path = Path(name)
    if path.suffix == ".py":
        return f": give {path.stem}:FACTORY for a function or class of it that makes the network"
    if path.is_file():
        return f": it is a file; give the name of its network, and --weights {name}"
    if path.is_dir():
        return ": it is a folder"
    if looks_like_path(name):
        return " and no folder of that name"
    if name.count("/") == 1:
        return f", did you mean 'hf:{name}'?"
    if importlib.util.find_spec("timm") and timm().is_model(name):
        return f", did you mean 'timm:{name}'?"
    return did_you_mean(name, list_models())
