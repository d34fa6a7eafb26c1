"""The pruning plan: which filters of each layer stay, as data.

Shapes: L layers, N filters of a layer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..io.untrusted import parse_json, short
from ..tracing import TracedNetwork

Mask = npt.NDArray[np.bool_]

PLAN_FORMAT = "secateur-plan-1"

_MOST_FILTERS = 2**20
"""Of one layer of a plan that is read."""


@dataclass(frozen=True)
class PruningPlan:
    """The kept filters of each layer.

    Args:
        kept: By layer name, the indices that stay, sorted and without repetition, at least one.
        filters: By layer name, how many filters the dense layer has.
        attributes: By dotted name, the integers (or lists of them) that forward code reads from its modules
            and that the cut changes; :meth:`from_masks` fills them in, :func:`.load_pruned` needs them.

    Raises:
        ValueError: If an index is out of range, doubled or unsorted, or a layer would be empty.
    """

    kept: Mapping[str, tuple[int, ...]]
    filters: Mapping[str, int]
    attributes: Mapping[str, tuple[int, ...] | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if odd := sorted(set(self.kept) ^ set(self.filters)):
            raise ValueError(
                f"kept and filters must name the same layers, but {odd[0]!r} is only in one of them"
            )
        for name, indices in self.kept.items():
            _check_layer(name, indices, self.filters[name])

    @classmethod
    def from_masks(cls, network: TracedNetwork, masks: Sequence[Mask]) -> "PruningPlan":
        """Make a plan of one keep mask (N,) a layer, in the order of ``network.layers``.

        Raises:
            ValueError: If there are too few or too many masks, or one has another shape or keeps nothing.
        """
        if len(masks) != len(network.layers):
            raise ValueError(f"got {len(masks)} masks for {len(network.layers)} layers; give one a layer")
        pairs = list(zip(network.layers, masks, strict=True))
        for layer, mask in pairs:
            if mask.shape != (layer.filters,):
                raise ValueError(f"the mask of {layer.name!r} has shape {mask.shape}, not ({layer.filters},)")
        counts = [int(mask.sum()) for mask in masks]
        attributes: dict[str, tuple[int, ...] | int] = {}
        for size in network.sizes:
            values = size.values(counts)
            if values != size.values(network.widths):
                attributes[size.path] = values[0] if size.scalar else values
        return cls(
            kept={layer.name: tuple(np.flatnonzero(mask).tolist()) for layer, mask in pairs},
            filters={layer.name: layer.filters for layer in network.layers},
            attributes=attributes,
        )

    @classmethod
    def dense(cls, network: TracedNetwork) -> "PruningPlan":
        """Make the plan that keeps everything."""
        return cls.from_masks(network, [np.ones(layer.filters, np.bool_) for layer in network.layers])

    def masks(self, network: TracedNetwork) -> list[Mask]:
        """Give one keep mask (N,) a layer.

        Raises:
            ValueError: If the plan was made for other layers.
        """
        theirs = {layer.name: layer.filters for layer in network.layers}
        if theirs != dict(self.filters):
            odd = sorted(set(theirs.items()) ^ set(self.filters.items()))[0][0]
            raise ValueError(f"the plan does not fit the network: they differ at layer {odd!r}")
        masks = []
        for layer in network.layers:
            mask = np.zeros(layer.filters, np.bool_)
            mask[list(self.kept[layer.name])] = True
            masks.append(mask)
        return masks

    def counts(self, network: TracedNetwork) -> npt.NDArray[np.int64]:
        """Count the kept filters of each layer, shape (L,)."""
        return np.array([mask.sum() for mask in self.masks(network)], np.int64)

    def then(self, later: "PruningPlan") -> "PruningPlan":
        """Compose with a plan for the network that this one leaves: two cuts as one.

        Args:
            later: A plan made from a trace of the cut network. Layers of a single filter are not traced again
                and stay.

        Raises:
            ValueError: If ``later`` was not made for what this plan leaves.
        """
        for name, filters in later.filters.items():
            left = len(self.kept.get(name, ()))
            if filters != left:
                raise ValueError(
                    f"the second plan is for {filters} filters of layer {name!r}, the first leaves {left}; "
                    "make it from a trace of the cut network"
                )
        kept = {
            name: tuple(own[i] for i in later.kept[name]) if name in later.kept else own
            for name, own in self.kept.items()
        }
        return PruningPlan(kept, self.filters, {**self.attributes, **later.attributes})

    def to_json(self) -> str:
        """Write the plan as JSON, one layer a line."""
        rows = [
            f"    {json.dumps(name)}: {json.dumps({'filters': self.filters[name], 'kept': list(kept)})}"
            for name, kept in self.kept.items()
        ]
        layers = "{\n" + ",\n".join(rows) + "\n  }"
        attributes = json.dumps(dict(self.attributes))
        return f'{{\n  "format": "{PLAN_FORMAT}",\n  "attributes": {attributes},\n  "layers": {layers}\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> "PruningPlan":
        """Read a plan.

        Raises:
            ValueError: If the text is not a plan of this format.
        """
        try:
            data: Any = parse_json(text)
        except ValueError as error:
            raise ValueError(f"the plan is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("format") != PLAN_FORMAT:
            raise ValueError(f"the plan is not of the format {PLAN_FORMAT!r}")
        layers, attributes = data.get("layers"), data.get("attributes", {})
        if not isinstance(layers, dict) or not isinstance(attributes, dict):
            raise ValueError("the plan needs 'layers', and 'layers' and 'attributes' must be objects")
        if odd := next((name for name in (*layers, *attributes) if not _is_dotted(name)), None):
            raise ValueError(f"the plan names {short(odd)!r}, which cannot be a part of a network")
        for name, row in layers.items():
            if not (isinstance(row, dict) and _is_whole(row.get("filters")) and _are_whole(row.get("kept"))):
                raise ValueError(
                    f"layer {name!r} of the plan needs 'filters', a number, and 'kept', a list of numbers"
                )
            if not 1 <= row["filters"] <= _MOST_FILTERS:
                raise ValueError(f"layer {name!r} of the plan has to have 1 to {_MOST_FILTERS:,} filters")
        for name, value in attributes.items():
            if not _is_whole(value) and not _are_whole(value):
                raise ValueError(f"attribute {name!r} of the plan must be a whole number or a list of them")
        return cls(
            kept={name: tuple(row["kept"]) for name, row in layers.items()},
            filters={name: row["filters"] for name, row in layers.items()},
            attributes={k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()},
        )


def _check_layer(name: str, indices: Sequence[int], filters: int) -> None:
    if not indices:
        raise ValueError(f"the plan empties layer {name!r}; at least one filter has to stay")
    if list(indices) != sorted(set(indices)):
        raise ValueError(f"the kept filters of layer {name!r} must be sorted and without repetition")
    for index in (indices[0], indices[-1]):
        if not 0 <= index < filters:
            raise ValueError(
                f"the plan keeps filter {index} of layer {name!r}, which has filters 0 to {filters - 1}"
            )


def _is_dotted(name: str) -> bool:
    """Say whether a name may be that of a module; the network itself has an empty one."""
    return not name or (len(name) <= 300 and name.isprintable() and all(name.split(".")))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_whole(value: object) -> bool:
    return isinstance(value, list) and all(_is_whole(item) for item in value)


def resize_mask(mask: Mask, count: int, priorities: npt.NDArray[np.floating]) -> Mask:
    """Bring a keep mask to a number of filters.

    Args:
        mask: (N,).
        count: How many are to stay.
        priorities: (N,); the filters with the highest come back or stay, ties by position.
    """
    order = np.lexsort((-np.asarray(priorities), ~mask))  # kept ones first, each part by priority
    changed = np.zeros_like(mask)
    changed[order[:count]] = True
    return changed
