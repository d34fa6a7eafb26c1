"""Pinned layers, and their sum: one entry for each reason."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from .labels import Cause
from .naming import abbreviated

SHORT = 6
"""Entries of a list of module names in a sentence."""


@dataclass(frozen=True)
class PinnedLayer:
    """A producer of which some or all filters must stay.

    Args:
        name: Module name of the producer.
        filters: Number of its filters.
        pinned: Number of its pinned filters.
        outputs: Number of its pinned filters that are the network's output.
        cause: Why they are pinned; of several causes, one that is not the output if possible.
    """

    name: str
    filters: int
    pinned: int
    outputs: int
    cause: Cause


@dataclass(frozen=True)
class PinnedLayers:
    """Producers with filters that must stay for the same reason.

    Args:
        names: Their module names.
        filters: Number of their filters.
        pinned: Number of their pinned filters.
        cause: Why they are pinned. Its module is an abbreviated list of the modules that caused it; its
            source is empty if they are in several lines of code.
    """

    names: tuple[str, ...]
    filters: int
    pinned: int
    cause: Cause

    def __str__(self) -> str:
        return f"{abbreviated(self.names, SHORT)}: {self.pinned} of {self.filters} filters stay: {self.cause}"


def sum_up(pinned: Iterable[PinnedLayer]) -> list[PinnedLayers]:
    """Join pinned layers whose reasons differ only in numbers and in where they are."""
    alike: dict[tuple[str, str], list[PinnedLayer]] = defaultdict(list)
    for layer in pinned:
        alike[re.sub(r"\d[\d.e+-]*", "#", layer.cause.reason), layer.cause.operation].append(layer)
    return [_joined(layers) for layers in alike.values()]


def _joined(layers: list[PinnedLayer]) -> PinnedLayers:
    first = layers[0].cause
    modules = abbreviated((layer.cause.module for layer in layers if layer.cause.module), SHORT)
    sources = {layer.cause.source for layer in layers}
    source = first.source if len(sources) == 1 else ""
    return PinnedLayers(
        names=tuple(layer.name for layer in layers),
        filters=sum(layer.filters for layer in layers),
        pinned=sum(layer.pinned for layer in layers),
        cause=Cause(first.reason, first.operation, modules, source),
    )
