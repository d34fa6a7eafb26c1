"""``secateur inspect``: which filters can be removed, and which cannot."""

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tyro.conf import Positional

from ...envs.io.ranges import check_whole
from ...envs.surgery.constraints import Constraints
from ..procedures.data_config import CLASSIFICATION, OTHER_CHANNELS, DataConfig, is_own_task
from ..procedures.options import Repeated, declared_sizes
from .console import console

if TYPE_CHECKING:
    from torch import nn

    from ...envs.tracing import TracedNetwork


@dataclass(frozen=True)
class Inspect:
    """Show the layers of a network, their coupling, and what stays and why."""

    model: Positional[str] = "demo"
    """Network, named as for prune."""
    data: str | None = None
    """Data with the shape of images and outputs; as for prune, by default those that the network is built
    for."""
    task: str = CLASSIFICATION
    """Type of task, as for prune; a user-defined one gives shape and classes, too."""
    image_size: int | None = None
    """Height and width of an image, pixels."""
    input_shape: tuple[int, ...] | None = None
    """Shape of an input, such as 3 224 224: channels, height and width; excludes data and an image size."""
    protect: Repeated = ()
    """Pattern of the names of layers that keep all their filters, as for prune."""
    size: Repeated = ()
    """Attribute that counts filters: cfg.dim=conv1; as for prune."""
    allow_inexact: Repeated = ()
    """Inexact cuts that are allowed: layernorm; as for prune."""
    also_trace: Repeated = ()
    """Another call: 3x40x40, embed or embed:3x40x40; as for prune."""
    json: bool = False
    """Print JSON instead of text."""

    everyday: ClassVar[tuple[str, ...]] = ("model", "input_shape", "protect", "json")
    example: ClassVar[str] = "secateur inspect resnet18 --protect conv1"

    def run(self) -> None:
        """Print the description."""
        from ...envs.tracing.blocks import find_blocks
        from ..reporting.trace_page import describe, page

        shape, classes = self._sizes()
        try:
            model, network = self._built(shape, classes)
        except ValueError as error:
            other = OTHER_CHANNELS.get(shape[0]) if self._reads_data and not is_own_task(self.task) else None
            if other is None:
                raise
            shape = (other, *shape[1:])  # prune converts the images
            try:
                model, network = self._built(shape, classes)
            except (ValueError, TypeError):
                raise error from None
        blocks = find_blocks(model, network.calls[0]) if network.calls else ()
        description = describe(self.model, shape, network, blocks)
        if self.json:
            json.dump(description, sys.stdout, indent=2)
            print()
        else:
            print(page(description, console().width))

    def _built(self, shape: tuple[int, ...], classes: int) -> "tuple[nn.Module, TracedNetwork]":
        """Build the network for examples of a shape, and trace it."""
        from ...envs.models import get_model

        model = get_model(self.model, num_classes=classes, in_channels=shape[0])
        return model, self._traced(model, shape)

    def _traced(self, model: "nn.Module", shape: tuple[int, ...]) -> "TracedNetwork":
        """Trace the network.

        Raises:
            ValueError: If its code raises anything.
        """
        import torch

        from ...envs.io.memory import is_out_of_memory
        from ...envs.io.untrusted import first_line
        from ...envs.modules.activations import require_memory_for
        from ...envs.surgery.constrained_trace import trace_constrained
        from ...envs.tracing.tracer import NotRunningError

        require_memory_for(model, shape, 2, "give a smaller image or network")
        constraints = Constraints(
            protect=self.protect,
            sizes=declared_sizes(self.size),
            allow_inexact=self.allow_inexact,
            also_trace=self.also_trace,
        )
        try:
            return trace_constrained(model, torch.zeros(2, *shape), constraints)
        except NotRunningError as error:
            if self._is_size_given or self.protect or self.also_trace:
                raise
            raise ValueError(f"{error}; give --data, --image-size or --input-shape") from error
        except (ValueError, TypeError):
            raise
        except Exception as error:  # the network's code may raise anything
            if is_out_of_memory(error):
                raise
            raise ValueError(
                f"the network {self.model} cannot be traced ({type(error).__name__}: {first_line(error)}); "
                "--debug shows where"
            ) from error

    @property
    def _is_size_given(self) -> bool:
        return self._reads_data or self.image_size is not None or self.input_shape is not None

    @property
    def _reads_data(self) -> bool:
        return self.data is not None or self.task != CLASSIFICATION

    def _sizes(self) -> tuple[tuple[int, ...], int]:
        """Return the shape of an example and the number of outputs.

        Raises:
            ValueError: If options exclude each other, or the data cannot be loaded.
        """
        from ...envs.models import usual_sizes
        from ..procedures.loading import load_task

        if self.input_shape is not None and (self._reads_data or self.image_size is not None):
            raise ValueError("--input-shape excludes --data, --task and --image-size; give one of them")
        if self.input_shape == ():
            raise ValueError("--input-shape has no numbers; give the shape of an input, such as 3 224 224")
        for size in (self.image_size, *(self.input_shape or ())):
            if size is not None:
                check_whole("input_shape" if self.input_shape else "image_size", size, 1)
        if self._reads_data:
            data = self.data or DataConfig.data
            task = load_task(DataConfig(task=self.task, data=data, image_size=self.image_size), seed=0)
            return task.input_shape, task.num_outputs
        (channels, height, width), classes = usual_sizes(self.model)
        if self.input_shape is not None:
            return self.input_shape, classes
        if self.image_size is not None:
            height = width = self.image_size
        return (channels, height, width), classes
