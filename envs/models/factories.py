"""Networks of the user's own code: ``package.module:factory``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ..io.memory import is_out_of_memory
from ..io.plugins import accepted_arguments, imported_module, nearest_or_all
from ..io.user_code import with_place
from ..modules.copying import replica
from .sources import Sizes, unknown_weights


def build_with(
    factory: nn.Module | Callable[..., Any], *, num_classes: int, in_channels: int, name: str = ""
) -> nn.Module:
    """Build a network with a user's factory.

    Args:
        factory: A class or function, which gets ``num_classes`` and ``in_channels`` if it has these
            parameters, and nothing else. Or a network, which is copied.
        num_classes: Number of classes.
        in_channels: Channels of the images.
        name: Name of the factory in messages; "" for a factory without a name.

    Raises:
        ValueError: If the factory has other parameters without a default, or fails.
        TypeError: If it cannot be called, or does not return a module.
    """
    if isinstance(factory, nn.Module):
        return replica(factory)
    what = f"the factory {name}".rstrip()
    if not callable(factory):
        raise TypeError(
            f"{what} is {type(factory).__name__}; give a function or class that returns a torch.nn.Module, "
            "or the network itself"
        )
    try:
        chosen = accepted_arguments(factory, num_classes=num_classes, in_channels=in_channels)
    except TypeError as error:
        raise ValueError(
            f"{what} cannot be called ({error}): it gets num_classes and in_channels "
            "if it has these parameters, and nothing else"
        ) from error
    kinds = {p.kind for p in inspect.signature(factory).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:  # as in timm and torchvision
        chosen["num_classes"] = num_classes
    try:
        model = factory(**chosen)
    except Exception as error:  # the user's code may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{what} failed: {with_place(error)}") from error
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"{name or what} returned a {type(model).__name__}; a factory has to return a torch.nn.Module"
        )
    return model


def _no_factory(module: ModuleType, attribute: str) -> str:
    """Say that a module has no such factory, or that it is something else; and what the module has."""
    name = module.__name__
    if hasattr(module, attribute):
        kind = type(getattr(module, attribute)).__name__
        return f"{name}:{attribute} is {kind}; give a function or class that returns a torch.nn.Module"
    return f"{name} has no factory {attribute!r}{nearest_or_all(module, attribute)}"


@dataclass(frozen=True)
class FactorySource:
    """Build a network with a class or function of a module, or copy a network that the module holds."""

    name: str

    def build(self, num_classes: int, in_channels: int) -> nn.Module:
        """Call the factory."""
        attribute = self.name.partition(":")[2]
        with imported_module(self.name) as module:
            factory = getattr(module, attribute, None)
            if not callable(factory):
                raise ValueError(_no_factory(module, attribute))
            return build_with(factory, num_classes=num_classes, in_channels=in_channels, name=self.name)

    def published(self, weights: str, num_classes: int, in_channels: int) -> dict[str, Tensor]:
        """Refuse: a factory has no published weights."""
        raise ValueError(unknown_weights(weights, self.name))

    def sizes(self) -> Sizes:
        """Return usual sizes, as nothing is known."""
        return Sizes((3, 224, 224), 1000)
