"""Solve the labels: join all ties, and group the label classes that are not pinned into layers.

A run is a vector of labels: a parameter's axis, or channels that an operation treats as a unit. Classes with
the same producers and with positions on the same runs form a layer.

Shapes: L layers, N filters of a layer, T product terms, A axes of a term, M labels of all runs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import nn

from .labels import Cause, LabelVector
from .network import Layer, Products, Role, Slice, TracedNetwork
from .pinned import PinnedLayer
from .records import ALL_OR_NONE, ProductSum, Records
from .sizes import find_sizes, settle


class _Family(NamedTuple):
    """What the filters of one layer have in common: their producers and the runs that contain them."""

    producers: tuple[str, ...]
    runs: tuple[int, ...]  # numbers of axes, then of units; with multiplicity, ascending


def solve(
    records: Records,
    model: nn.Module,
    numbers: Mapping[str, int],
    kept: Sequence[tuple[LabelVector, Cause]] = (),
) -> TracedNetwork:
    """Join all ties and group the label classes into layers.

    Args:
        records: What the passes recorded. Channels that one attribute counts are tied here.
        model: The traced network.
        numbers: The whole numbers that it holds, by path.
        kept: Labels that a caller pins, and why.
    """
    classes, pinned = records.labels.solve(kept)
    made = _producers_by_class(classes, records.product_sums)
    families, places = _families(classes, pinned, records, made)
    names = _names(families)
    for family in [family for family, members in families.items() if len(members) == 1]:
        (single,) = families.pop(family)
        pinned[single] = _coupling(single, classes, records)
    layers = [_layer(names[family], family, members, places, records) for family, members in families.items()]
    owners = np.full(int(classes.max(initial=-1)) + 1, -1)  # the layer of each class, -1 if it stays
    for number, members in enumerate(families.values()):
        owners[members] = number
    owner = owners[classes]  # the layer of each label
    widths = np.array([layer.filters for layer in layers], np.int64)
    sizes, conflicts = find_sizes(records.size_readings, owner, widths, numbers, model)
    if conflicts:
        kept = [*kept, *settle(conflicts, records.labels, classes, pinned)]
        return solve(records, model, numbers, kept)

    counted = (product for product in records.product_sums if product.counted and not product.training)
    macs = [(product.factor, product.axes) for product in counted]
    parameter_axes: dict[str, list[LabelVector]] = {name: [] for name, _ in model.named_parameters()}
    for axis in records.axes:
        if axis.name in parameter_axes:
            parameter_axes[axis.name].append(np.arange(axis.first, axis.first + axis.size))
    params = [(1.0, axes) for axes in parameter_axes.values()]
    pinned_layers, total = _pinned_layers(classes, pinned, records)
    network = TracedNetwork(
        layers=tuple(layers),
        pinned=tuple(pinned_layers),
        macs=_products(macs, owner, widths),
        params=_products(params, owner, widths),
        total_filters=total,
        sizes=sizes,
        units=_units(records),
    )
    allowed = [replace(layer, allowed=network.whole_counts(i)) for i, layer in enumerate(layers)]
    return replace(network, layers=tuple(allowed))


def _units(records: Records) -> dict[str, dict[str, str]]:
    units: dict[str, dict[str, str]] = defaultdict(dict)
    for (module, operation), unit in records.units.items():
        if unit is not None:
            units[module][operation] = unit
    return dict(units)


def _producers_by_class(classes: LabelVector, products: Iterable[ProductSum]) -> dict[int, dict[str, None]]:
    """Collect, for each label class, the names of the modules that compute it, in forward order."""
    made: dict[int, dict[str, None]] = defaultdict(dict)
    for product in products:
        if product.produced is not None:
            for label_class in np.unique(classes[product.produced]).tolist():
                made[label_class][product.module] = None
    return made


def _families(
    classes: LabelVector,
    pinned: Mapping[int, Cause],
    records: Records,
    made: Mapping[int, Mapping[str, None]],
) -> tuple[dict[_Family, list[int]], dict[int, LabelVector]]:
    """Group the classes that are not pinned and lie on the same runs.

    Each slice of a tensor is a run. So it contains a layer completely or not at all, and no slice can become
    empty.

    Returns:
        The classes of each family, families in forward order, and the positions of each class on the runs of
        its family.
    """
    axes = [np.arange(axis.first, axis.first + axis.size) for axis in records.axes]
    runs = [*axes, *records.runs]
    run_numbers = np.repeat(np.arange(len(runs)), [len(run) for run in runs])  # (M,)
    positions = np.concatenate([np.empty(0, np.int64), *(np.arange(len(run)) for run in runs)])
    run_classes = classes[np.concatenate([np.empty(0, np.int64), *runs])]  # (M,)
    order = np.argsort(run_classes, kind="stable")
    present, starts = np.unique(run_classes[order], return_index=True)

    families: dict[_Family, list[int]] = defaultdict(list)
    places: dict[int, LabelVector] = {}
    for label_class, chosen in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
        if label_class in made and label_class not in pinned:
            family = _Family(tuple(made[label_class]), tuple(run_numbers[chosen].tolist()))
            families[family].append(label_class)
            places[label_class] = positions[chosen]
    # The first position decides within a family, so that filters have the order of their first producer.
    for members in families.values():
        members.sort(key=lambda label_class: int(places[label_class][0]))
    rank = {name: number for number, name in enumerate(_names_in_order(records.product_sums))}
    ordered = sorted(families.items(), key=lambda item: ([rank[p] for p in item[0].producers], item[0].runs))
    return dict(ordered), places


def _coupling(single: int, classes: LabelVector, records: Records) -> Cause:
    """Find the first operation that joined channels of a class which is alone in its layer."""
    causes = (cause for labels, cause in records.couplings if single in classes[labels])
    return next(causes, Cause(ALL_OR_NONE))


def _names_in_order(products: Iterable[ProductSum]) -> dict[str, None]:
    return dict.fromkeys(product.module for product in products)


def _names(families: Iterable[_Family]) -> dict[_Family, str]:
    """Name each family after its first producer, and number families with the same first producer."""
    names: dict[_Family, str] = {}
    uses: dict[str, int] = defaultdict(int)
    for family in families:
        base = family.producers[0] or "network"
        uses[base] += 1
        names[family] = base if uses[base] == 1 else f"{base}#{uses[base]}"
    return names


def _layer(
    name: str,
    family: _Family,
    members: Sequence[int],
    places: Mapping[int, LabelVector],
    records: Records,
) -> Layer:
    """Convert the positions of a family to slices."""
    index = np.stack([places[label_class] for label_class in members])  # (N, positions)
    slices = []
    for number in dict.fromkeys(run for run in family.runs if run < len(records.axes)):
        axis = records.axes[number]
        columns = [column for column, run in enumerate(family.runs) if run == number]
        role: Role = "input_channel"
        if axis.rank == 1:
            role = "per_channel"
        elif records.producing[axis.first : axis.first + axis.size].any():
            role = "producer"
        slices.append(Slice(axis.name, axis.axis, index[:, columns], role))
    allowed = np.arange(1, len(members) + 1)
    return Layer(name, len(members), family.producers, tuple(slices), allowed)


def _products(
    terms: Sequence[tuple[float, Sequence[LabelVector]]], owner: LabelVector, widths: LabelVector
) -> Products:
    """Count, for each axis of each term, the fixed size and the size that each kept filter adds."""
    widest = max((len(axes) for _, axes in terms), default=1) or 1
    factor = np.array([factor for factor, _ in terms], np.float64)
    fixed = np.ones((len(terms), widest))
    slope = np.zeros((len(terms), widest, len(widths)))
    for term, (_, axes) in enumerate(terms):
        for position, axis in enumerate(axes):
            owners = owner[axis]
            fixed[term, position] = (owners < 0).sum()
            slope[term, position] = np.bincount(owners[owners >= 0], minlength=len(widths)) / widths
    return Products(factor, fixed, slope)


def _pinned_layers(
    classes: LabelVector, pinned: Mapping[int, Cause], records: Records
) -> tuple[list[PinnedLayer], int]:
    """List the producers with pinned filters, and count the filters of all producers."""
    outputs = set(classes[np.concatenate([np.empty(0, np.int64), *records.outputs])].tolist())
    produced = {
        product.module: classes[product.produced]
        for product in records.product_sums
        if product.produced is not None
    }
    layers = []
    for name, filters in produced.items():
        pinned_filters = [c for c in filters.tolist() if c in pinned]
        if pinned_filters:
            output_filters = [c for c in pinned_filters if c in outputs]
            cause = next((pinned[c] for c in pinned_filters if c not in outputs), pinned[pinned_filters[0]])
            layers.append(PinnedLayer(name, len(filters), len(pinned_filters), len(output_filters), cause))
    return layers, sum(len(filters) for filters in produced.values())
