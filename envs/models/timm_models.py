"""Networks of timm: ``timm:resnet50d``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..io.suggestions import did_you_mean
from .sources import DEFAULT, Sizes, check_sizes, explained, optional_package, unknown_weights


def timm() -> Any:
    """Import timm.

    Raises:
        ValueError: If it is not installed.
    """
    return optional_package("timm", "timm:", "'secateur[timm]'")


@dataclass(frozen=True)
class TimmSource:
    """Build a network of timm."""

    name: str

    def __post_init__(self) -> None:
        architecture, _, tag = self.name.partition(".")
        known = timm().list_models()
        if architecture not in known:
            raise ValueError(f"timm has no network {architecture!r}{did_you_mean(architecture, known)}")
        if tag:  # the same name without weights would be another network
            raise ValueError(
                f"timm:{self.name} names weights, too: give timm:{architecture} --weights {tag}, or leave "
                f"out .{tag} for random weights"
            )

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Build the network with random weights."""
        with explained(f"timm:{self.name} cannot be built", "give another network"):
            model: nn.Module = timm().create_model(self.name, num_classes=num_classes, in_chans=in_channels)
        return model

    def published(self, weights: str, num_classes: int, in_channels: int) -> dict[str, Tensor]:
        """Load timm's weights by their tag, such as ``a1_in1k``."""
        pairs = (full.partition(".") for full in timm().list_pretrained())
        tags = [DEFAULT, *(tag for architecture, _, tag in pairs if architecture == self.name and tag)]
        tag = weights.removeprefix(f"{self.name}.")
        if tag not in tags:
            raise ValueError(unknown_weights(weights, f"timm:{self.name}", tags))
        full = self.name if tag == DEFAULT else f"{self.name}.{tag}"
        config = timm().get_pretrained_cfg(full)
        sizes = config.num_classes, config.input_size[0]
        check_sizes(weights, f"timm:{self.name}", sizes, (num_classes, in_channels))
        what = f"the weights {weights} of timm:{self.name} cannot be loaded"
        with explained(what, "go online, or give a file"):
            return dict(timm().create_model(full, pretrained=True).state_dict())

    def sizes(self) -> Sizes:
        """Return the image size and classes of timm's default weights."""
        config = timm().get_pretrained_cfg(self.name)
        if config is None:
            return Sizes((3, 224, 224), 1000)
        return Sizes(tuple(config.input_size), config.num_classes or 1000)
