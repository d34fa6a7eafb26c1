"""Networks of torchvision, ``resnet18`` or ``torchvision:vgg16``."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision
from torch import Tensor, nn

from ..io.suggestions import did_you_mean
from .segmentation import build_segmentation, list_segmentation
from .sources import Sizes, check_sizes, explained, unknown_weights


def list_classifiers() -> list[str]:
    """List torchvision's names of classifiers."""
    return list(torchvision.models.list_models(module=torchvision.models))


@dataclass(frozen=True)
class TorchvisionSource:
    """Build a classifier or segmentation network of torchvision, without auxiliary heads."""

    name: str

    def __post_init__(self) -> None:
        known = [*list_classifiers(), *list_segmentation()]
        if self.name not in known:
            raise ValueError(f"torchvision has no network {self.name!r}{did_you_mean(self.name, known)}")

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Build the network; for other than 3 channels its first convolution is replaced by a new one."""
        if self.name in list_segmentation():
            model = build_segmentation(self.name, num_classes)
        else:
            settings: dict[str, bool] = {}
            if self.name in ("googlenet", "inception_v3"):
                # As torchvision's weights need them: transform_input rescales ImageNet's normalisation to
                # [-1, 1].
                settings = {"aux_logits": False, "transform_input": in_channels == 3, "init_weights": True}
            builder = torchvision.models.get_model_builder(self.name)
            model = builder(weights=None, num_classes=num_classes, **settings)
        if in_channels != 3:
            _replace_first_convolution(model, in_channels)
        return model

    def published(self, weights: str, num_classes: int, in_channels: int) -> dict[str, Tensor]:
        """Load torchvision's weights, such as ``IMAGENET1K_V2``."""
        published = torchvision.models.get_model_weights(self.name)
        names = list(published.__members__)  # includes the alias DEFAULT
        if weights not in names:
            raise ValueError(unknown_weights(weights, self.name, names))
        entry = published[weights]
        sizes = len(entry.meta["categories"]), 3
        check_sizes(weights, self.name, sizes, (num_classes, in_channels))
        with explained(f"the weights {weights} of {self.name} cannot be loaded", "go online, or give a file"):
            return dict(torchvision.models.get_model(self.name, weights=entry).state_dict())

    def sizes(self) -> Sizes:
        """Return the image size and classes that torchvision's networks were trained with."""
        side = 299 if self.name == "inception_v3" else 224
        return Sizes((3, side, side), 21 if self.name in list_segmentation() else 1000)


def _replace_first_convolution(model: nn.Module, in_channels: int) -> None:
    path, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    settings = {k: getattr(old, k) for k in ("kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(in_channels, old.out_channels, bias=old.bias is not None, **settings)
    model.set_submodule(path, new)
