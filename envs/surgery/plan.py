"""The pruning plan: the kept filters of each layer.

Shapes: L layers, N filters of a layer.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..io.untrusted import parse_json, short
from ..modules.units import Units
from ..tracing import TracedNetwork
from ..tracing.derived import fingerprints_after_cut

Mask = npt.NDArray[np.bool_]

PLAN_FORMAT = "secateur-plan-1"

_MAX_FILTERS = 2**20
"""Largest allowed number of filters of a layer in a plan file."""

_MAX_AXES, _MAX_INPUT = 16, 2**26
"""Largest allowed numbers of sizes and of values of one input in a plan file."""

_SHOWN = 3
"""Largest number of layers that a message names."""


@dataclass(frozen=True)
class PruningPlan:
    """The kept filters of each layer.

    Args:
        kept: By layer name, the indices of the kept filters, at least one, sorted and without repetition.
        filters: By layer name, the number of filters of the dense layer.
        attributes: By dotted name, the new values of modules' size attributes (integers or lists of them).
            :meth:`from_masks` sets them, :func:`.load_pruned` needs them.
        input_shape: Shape of one input, (C, H, W) for images, on which the network was traced; None if
            unknown.
        blocks: Names of the residual blocks whose branch goes as a whole, before filters are counted; each
            is that of the network without those before. Layers in them are not in the plan.
        ranks: By module name, the rank of a convolution or linear layer that became two smaller ones, after
            filters are cut.
        units: How the channels of grouped operations go together, by module and operation; a cut network
            remembers it.
        before: By layer name, the fingerprint (:attr:`.Layer.fingerprint`) of the dense layer. Layers without
            one, as in plans written by hand, are compared by name and number of filters alone.
        after: By layer name, the fingerprint of the cut layer.

    Raises:
        ValueError: If an index is out of range, repeated or unsorted, or a layer has no kept filter.
    """

    kept: Mapping[str, tuple[int, ...]]
    filters: Mapping[str, int]
    attributes: Mapping[str, tuple[int, ...] | int] = field(default_factory=dict)
    input_shape: tuple[int, ...] | None = None
    blocks: tuple[str, ...] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)
    units: Units = field(default_factory=dict, compare=False, repr=False)
    before: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    after: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for lacking, given, holding, others in (
            ("filters", self.filters, "kept", self.kept),
            ("kept", self.kept, "filters", self.filters),
        ):
            if missing := sorted(set(others) - set(given)):
                names = ", ".join(map(repr, missing[:_SHOWN])) + (", ..." if missing[_SHOWN:] else "")
                raise ValueError(
                    f"{holding} has {names}, and {lacking} has not: give both the same layers, kept with the "
                    "indices that stay and filters with the dense number"
                )
        for name, indices in self.kept.items():
            _check_layer(name, indices, self.filters[name])

    @classmethod
    def from_masks(cls, network: TracedNetwork, masks: Sequence[Mask]) -> "PruningPlan":
        """Make a plan from one keep mask (N,) per layer, arrays of NumPy in the order of ``network.layers``.

        Raises:
            ValueError: If the number of masks or a shape is wrong, or a mask keeps no filter.
            TypeError: If a mask is no array of bool, such as a list of indices.
        """
        if len(masks) != len(network.layers):
            raise ValueError(f"got {len(masks)} masks for {len(network.layers)} layers; give one per layer")
        pairs = list(zip(network.layers, masks, strict=True))
        for layer, mask in pairs:
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
                raise TypeError(f"the mask of {layer.name!r} is no NumPy array of bool, True for what stays")
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
            input_shape=network.input_shape,
            units=network.units,
            before={layer.name: layer.fingerprint for layer in network.layers if layer.slices},
            after=fingerprints_after_cut(network, masks),
        )

    @classmethod
    def dense(cls, network: TracedNetwork) -> "PruningPlan":
        """Make the plan that keeps everything."""
        return cls.from_masks(network, [np.ones(layer.filters, np.bool_) for layer in network.layers])

    def masks(self, network: TracedNetwork) -> list[Mask]:
        """Return one keep mask (N,) per layer.

        Raises:
            ValueError: If the plan was made for other layers.
        """
        filters = {layer.name: layer.filters for layer in network.layers}
        if filters != dict(self.filters):
            differing = sorted(set(filters.items()) ^ set(self.filters.items()))[0][0]
            raise ValueError(
                f"the plan does not fit the network: they differ at layer {differing!r}; "
                "trace it as the plan was traced"
            )
        masks = []
        for layer in network.layers:
            if layer.name in self.before and self.before[layer.name] != layer.fingerprint:
                raise ValueError(
                    f"the plan does not fit the network: the filters of layer {layer.name!r} are at other "
                    "channels or in other modules than where it was made"
                )
            mask = np.zeros(layer.filters, np.bool_)
            mask[list(self.kept[layer.name])] = True
            masks.append(mask)
        return masks

    def counts(self, network: TracedNetwork) -> npt.NDArray[np.int64]:
        """Count the kept filters of each layer, shape (L,)."""
        return np.array([mask.sum() for mask in self.masks(network)], np.int64)

    def then(self, later: "PruningPlan") -> "PruningPlan":
        """Compose with a plan for the cut network: one plan for both cuts.

        Args:
            later: A plan made from a trace of the cut network. It may lack layers with a single filter left,
                which a new trace does not list; they stay.

        Raises:
            ValueError: If ``later`` was not made for the network that this plan cuts, cuts filters of layers
                of low rank, or drops blocks of a network that has lost filters.
        """
        if self.ranks and (later.kept or later.blocks or set(later.ranks) & set(self.ranks)):
            raise ValueError(
                "the first plan makes layers of low rank, after which nothing else is cut; cut filters and "
                "blocks first, and choose ranks last"
            )
        if later.blocks:
            return self._then_without_blocks(later)
        for name, filters in later.filters.items():
            count = len(self.kept.get(name, ()))
            if filters != count:
                raise ValueError(
                    f"the second plan is for {filters} filters of layer {name!r}, the first leaves {count}; "
                    "make it from a trace of the cut network"
                )
            if name in self.after and self.after[name] != later.before.get(name, self.after[name]):
                raise ValueError(
                    f"the second plan counts the filters of layer {name!r} in another way than the first; "
                    "make it from a trace of the network that the cut or load_pruned returned, which "
                    "remembers the first way"
                )
        kept = {
            name: tuple(indices[i] for i in later.kept[name]) if name in later.kept else indices
            for name, indices in self.kept.items()
        }
        return replace(
            self,
            kept=kept,
            attributes={**self.attributes, **later.attributes},
            units={**later.units, **self.units},
            after=later.after if later.kept else self.after,
        ).with_ranks({**self.ranks, **later.ranks})

    def with_ranks(self, ranks: Mapping[str, int]) -> "PruningPlan":
        """Return the plan with ranks, by module name, instead of those that it has."""
        gone = tuple(f"{name}." for name in ranks)  # the one layer is no more, nor are its sizes
        attributes = {path: size for path, size in self.attributes.items() if not path.startswith(gone)}
        return replace(self, ranks=dict(ranks), attributes=attributes)

    def _then_without_blocks(self, later: "PruningPlan") -> "PruningPlan":
        if any(len(kept) < self.filters[name] for name, kept in self.kept.items()):
            raise ValueError(
                "the second plan drops blocks of a network that has lost filters, and blocks go first; drop "
                f"{', '.join(later.blocks)} from the dense network"
            )
        return replace(
            later,
            blocks=(*self.blocks, *later.blocks),
            input_shape=self.input_shape or later.input_shape,
            units={**later.units, **self.units},
        )

    def to_json(self) -> str:
        """Return the plan as JSON, one layer per line."""
        rows = [f"    {json.dumps(name)}: {json.dumps(self._row(name))}" for name in self.kept]
        layers = "{\n" + ",\n".join(rows) + "\n  }"
        attributes = json.dumps(dict(self.attributes))
        head = f'  "format": "{PLAN_FORMAT}",\n  "attributes": {attributes},\n'
        if self.units:
            head += f'  "units": {json.dumps(self.units)},\n'
        if self.blocks:
            head += f'  "blocks": {json.dumps(list(self.blocks))},\n'
        if self.ranks:
            head += f'  "ranks": {json.dumps(dict(self.ranks))},\n'
        if self.input_shape is not None:
            head += f'  "input_shape": {json.dumps(list(self.input_shape))},\n'
        return f'{{\n{head}  "layers": {layers}\n}}\n'

    def _row(self, name: str) -> dict[str, Any]:
        row: dict[str, Any] = {"filters": self.filters[name], "kept": list(self.kept[name])}
        prints = {"before": self.before.get(name), "after": self.after.get(name)}
        return row | {key: value for key, value in prints.items() if value is not None}

    @classmethod
    def from_json(cls, text: str) -> "PruningPlan":
        """Parse a plan from JSON.

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
        if invalid := next((name for name in (*layers, *attributes) if not _is_dotted(name)), None):
            raise ValueError(f"the plan names {short(invalid)!r}, which cannot be a part of a network")
        for name, row in layers.items():
            if not (isinstance(row, dict) and _is_whole(row.get("filters")) and _are_whole(row.get("kept"))):
                raise ValueError(
                    f"layer {name!r} of the plan needs 'filters', a number, and 'kept', a list of numbers"
                )
            if not 1 <= row["filters"] <= _MAX_FILTERS:
                raise ValueError(f"layer {name!r} of the plan has to have 1 to {_MAX_FILTERS:,} filters")
        for name, value in attributes.items():
            if not _is_whole(value) and not _are_whole(value):
                raise ValueError(f"attribute {name!r} of the plan must be a whole number or a list of them")
        return cls(
            kept={name: tuple(row["kept"]) for name, row in layers.items()},
            filters={name: row["filters"] for name, row in layers.items()},
            attributes={k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()},
            input_shape=_shape(data.get("input_shape")),
            blocks=_blocks(data.get("blocks", [])),
            ranks=_ranks(data.get("ranks", {})),
            units=_units(data.get("units", {})),
            before={name: row["before"] for name, row in layers.items() if "before" in row},
            after={name: row["after"] for name, row in layers.items() if "after" in row},
        )


def _units(value: Any) -> Units:
    rows = value.values() if isinstance(value, dict) else [None]
    if not all(isinstance(row, dict) and all(isinstance(unit, str) for unit in row.values()) for row in rows):
        raise ValueError("the units of the plan must be objects of texts, by module")
    return dict(value)


def _blocks(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and _is_dotted(name) for name in value):
        raise ValueError("the blocks of the plan must be a list of names of modules")
    return tuple(value)


def _ranks(value: Any) -> dict[str, int]:
    pairs: list[tuple[str, Any]] = list(value.items()) if isinstance(value, dict) else [("", "none")]
    if not all(_is_dotted(name) and _is_whole(rank) and 1 <= rank <= _MAX_FILTERS for name, rank in pairs):
        raise ValueError(f"the ranks of the plan must be whole numbers from 1 to {_MAX_FILTERS:,}, by module")
    return dict(value)


def _shape(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not _are_whole(value) or not all(1 <= size <= _MAX_FILTERS for size in value):
        raise ValueError(f"the input_shape of the plan must be a list of sizes from 1 to {_MAX_FILTERS:,}")
    if len(value) > _MAX_AXES or math.prod(value) > _MAX_INPUT:
        raise ValueError(f"the input_shape of the plan may have {_MAX_AXES} sizes and {_MAX_INPUT:,} values")
    return tuple(value)


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
    """Return whether a name may be that of a module; the network itself has an empty name."""
    return not name or (len(name) <= 300 and name.isprintable() and all(name.split(".")))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_whole(value: object) -> bool:
    return isinstance(value, list) and all(_is_whole(item) for item in value)


def resize_mask(mask: Mask, count: int, priorities: npt.NDArray[np.floating]) -> Mask:
    """Change a keep mask to a number of kept filters.

    Args:
        mask: Keep mask (N,).
        count: Number of filters to keep, at most N.
        priorities: Priorities (N,). Filters with higher ones are added first and removed last; ties by
            position.
    """
    order = np.lexsort((-np.asarray(priorities), ~mask))  # kept filters first, each group by priority
    changed = np.zeros_like(mask)
    changed[order[:count]] = True
    return changed
