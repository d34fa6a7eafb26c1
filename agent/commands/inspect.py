"""``secateur inspect``: which filters can be removed, and which cannot."""

import json
import sys
from dataclasses import dataclass
from typing import ClassVar

from tyro.conf import Positional

from ...envs.surgery.constraints import Constraints
from ..procedures.options import Repeated
from .console import console


@dataclass(frozen=True)
class Inspect:
    """Show the layers of a network, their coupling, and what stays and why."""

    model: Positional[str] = "demo"
    """Network: demo, resnet20|32|44|56|110, vgg16, segnet|segnet16|segnet32, a torchvision classifier or
    segmentation network, or package.module:factory for a user-defined one."""
    input_shape: tuple[int, int, int] | None = None
    """Channels, height and width of an image, pixels; by default those that the network is built for."""
    protect: Repeated = ()
    """Pattern of the names of layers that keep all their filters, as for prune."""
    json: bool = False
    """Print JSON instead of text."""

    everyday: ClassVar[tuple[str, ...]] = ("model", "input_shape", "protect", "json")
    example: ClassVar[str] = "secateur inspect resnet18 --protect conv1"

    def run(self) -> None:
        """Print the description."""
        import torch

        from ...envs.models import get_model
        from ...envs.surgery.constrained_trace import trace_constrained
        from ..procedures.loading import example_outputs, example_shape
        from ..reporting.trace_page import describe, page

        shape = self.input_shape or example_shape(self.model)
        classes = example_outputs(self.model, shape)
        model = get_model(self.model, num_classes=classes, in_channels=shape[0])
        network = trace_constrained(model, torch.zeros(2, *shape), Constraints(protect=self.protect))
        description = describe(self.model, shape, network)
        if self.json:
            json.dump(description, sys.stdout, indent=2)
            print()
        else:
            print(page(description, console().width))
