"""From labels to layers: join all ties, and group what is free by where it lies.

Shapes: L layers, N filters of a layer, T product terms, A axes of a term, M marks.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from .labels import Cause, LabelVector
from .network import Layer, PinnedLayer, Products, Role, Slice, TracedNetwork
from .records import ALL_OR_NONE, Records, UseOfWeights
from .sizes import find_sizes


class _Family(NamedTuple):
    """What the filters of one layer have in common: their producers, and the axes in which they lie."""

    producers: tuple[str, ...]
    marks: tuple[int, ...]  # numbers of axes, then of measures; with multiplicity, ascending


def solve(records: Records, model: nn.Module) -> TracedNetwork:
    """Join all ties and sort the label classes into layers."""
    classes, pinned = records.labels.solve()
    made = _producers_by_class(classes, records.uses)
    families, places = _families(classes, pinned, records, made)
    names = _names(families)
    for family in [family for family, members in families.items() if len(members) == 1]:
        (lone,) = families.pop(family)
        pinned[lone] = _coupling(lone, classes, records)
    layers = [_layer(names[family], family, members, places, records) for family, members in families.items()]
    owners = np.full(int(classes.max(initial=-1)) + 1, -1)  # the layer of each class, -1: stays
    for number, members in enumerate(families.values()):
        owners[members] = number
    owner = owners[classes]  # the layer of each label
    widths = np.array([layer.filters for layer in layers], np.int64)

    macs = [(use.factor, use.axes) for use in records.uses if not use.training]
    runs: dict[str, list[LabelVector]] = {name: [] for name, _ in model.named_parameters()}
    for axis in records.axes:
        if axis.name in runs:
            runs[axis.name].append(np.arange(axis.first, axis.first + axis.size))
    params = [(1.0, axes) for axes in runs.values()]
    stuck, total = _pinned_layers(classes, pinned, records)
    return TracedNetwork(
        layers=tuple(layers),
        pinned=tuple(stuck),
        macs=_products(macs, owner, widths),
        params=_products(params, owner, widths),
        total_filters=total,
        sizes=find_sizes(records.measures, owner, widths, model),
    )


def _producers_by_class(classes: LabelVector, uses: Iterable[UseOfWeights]) -> dict[int, dict[str, None]]:
    """Name, for each label class, the modules that compute it, in forward order."""
    made: dict[int, dict[str, None]] = defaultdict(dict)
    for use in uses:
        if use.produced is not None:
            for label_class in np.unique(classes[use.produced]).tolist():
                made[label_class][use.module] = None
    return made


def _families(
    classes: LabelVector,
    pinned: Mapping[int, Cause],
    records: Records,
    made: Mapping[int, Mapping[str, None]],
) -> tuple[dict[_Family, list[int]], dict[int, LabelVector]]:
    """Group the free classes that lie in the same places.

    Pieces of slices count as places: then a layer lies in one piece as a whole, and no piece can be emptied.

    Returns:
        The classes of each family, families in forward order, and the positions of each class on the axes of
        its family.
    """
    axes = [np.arange(axis.first, axis.first + axis.size) for axis in records.axes]
    pieces = [size for measure in records.measures for size in measure.sizes if not isinstance(size, int)]
    runs = [*axes, *pieces]
    marks = np.repeat(np.arange(len(runs)), [len(run) for run in runs])  # (M,)
    positions = np.concatenate([np.empty(0, np.int64), *(np.arange(len(run)) for run in runs)])
    marked = classes[np.concatenate([np.empty(0, np.int64), *runs])]
    order = np.argsort(marked, kind="stable")
    present, starts = np.unique(marked[order], return_index=True)

    families: dict[_Family, list[int]] = defaultdict(list)
    places: dict[int, LabelVector] = {}
    for label_class, chosen in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
        if label_class in made and label_class not in pinned:
            family = _Family(tuple(made[label_class]), tuple(marks[chosen].tolist()))
            families[family].append(label_class)
            places[label_class] = positions[chosen]
    # Within a family the first place decides, so that filters come in the order of their first producer.
    for members in families.values():
        members.sort(key=lambda label_class: int(places[label_class][0]))
    rank = {name: number for number, name in enumerate(_names_in_order(records.uses))}
    ordered = sorted(families.items(), key=lambda item: ([rank[p] for p in item[0].producers], item[0].marks))
    return dict(ordered), places


def _coupling(lone: int, classes: LabelVector, records: Records) -> Cause:
    """Find the first operation that joined channels of a class with no other one beside it."""
    touching = (cause for labels, cause in records.couplings if lone in classes[labels])
    return next(touching, Cause(ALL_OR_NONE))


def _names_in_order(uses: Iterable[UseOfWeights]) -> dict[str, None]:
    return dict.fromkeys(use.module for use in uses)


def _names(families: Iterable[_Family]) -> dict[_Family, str]:
    """Name each family after its first producer, and number those that have the same one."""
    names: dict[_Family, str] = {}
    taken: dict[str, int] = defaultdict(int)
    for family in families:
        base = family.producers[0] or "network"
        taken[base] += 1
        names[family] = base if taken[base] == 1 else f"{base}#{taken[base]}"
    return names


def _layer(
    name: str,
    family: _Family,
    members: Sequence[int],
    places: Mapping[int, LabelVector],
    records: Records,
) -> Layer:
    """Turn the places of a family into slices."""
    index = np.stack([places[label_class] for label_class in members])  # (N, places)
    slices = []
    for number in dict.fromkeys(mark for mark in family.marks if mark < len(records.axes)):
        axis = records.axes[number]
        columns = [column for column, mark in enumerate(family.marks) if mark == number]
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
    """Count, for each axis of each term, what is fixed and what each kept filter adds."""
    widest = max((len(axes) for _, axes in terms), default=1) or 1
    factor = np.array([factor for factor, _ in terms], np.float64)
    fixed = np.ones((len(terms), widest))
    slope = np.zeros((len(terms), widest, len(widths)))
    for term, (_, axes) in enumerate(terms):
        for place, axis in enumerate(axes):
            owners = owner[axis]
            fixed[term, place] = (owners < 0).sum()
            slope[term, place] = np.bincount(owners[owners >= 0], minlength=len(widths)) / widths
    return Products(factor, fixed, slope)


def _pinned_layers(
    classes: LabelVector, pinned: Mapping[int, Cause], records: Records
) -> tuple[list[PinnedLayer], int]:
    """List the producers with pinned filters, and count all producers' filters."""
    outputs = set(classes[np.concatenate([np.empty(0, np.int64), *records.outputs])].tolist())
    produced = {use.module: classes[use.produced] for use in records.uses if use.produced is not None}
    found = []
    for name, own in produced.items():
        stuck = [c for c in own.tolist() if c in pinned]
        if stuck:
            last = [c for c in stuck if c in outputs]
            cause = next((pinned[c] for c in stuck if c not in outputs), pinned[stuck[0]])
            found.append(PinnedLayer(name, len(own), len(stuck), len(last), cause))
    return found, sum(len(own) for own in produced.values())
