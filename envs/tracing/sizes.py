"""Attributes that hold numbers of channels, so that a cut can adapt them.

Forward code like ``torch.split(x, self.width, 1)`` does not adapt to a smaller ``x`` by itself. Each size
that it was seen to compute from attributes gives an equation: a polynomial in these attributes equals a count
of channels. What an attribute has to be after a cut follows; one without an equation is left alone.

Shapes: L layers.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn

from ..io.suggestions import did_you_mean
from ..modules.numbers import is_whole, number_at
from .labels import Cause, Labels, LabelVector
from .network import Size
from .records import Records, SizeReading
from .tracked_int import Monomial, Polynomial

_SAMPLES = 4
"""Random kept counts for which an equation is evaluated; two polynomials of our kind rarely agree in one."""


class _Line(NamedTuple):
    """The value of an attribute: ``(coefficients[0] + coefficients[1:] @ kept) / divisor``."""

    coefficients: npt.NDArray[np.int64]  # (1 + L,)
    divisor: int

    @property
    def constant(self) -> bool:
        return not self.coefficients[1:].any()


class _Equation(NamedTuple):
    number: Polynomial
    total: npt.NDArray[np.int64]  # (1 + L,): what it equals, as a constant and per kept filter of each layer
    reading: SizeReading

    @property
    def attributes(self) -> list[str]:
        return list(dict.fromkeys(name for monomial in self.number for name, _ in monomial))


class Conflict(NamedTuple):
    """Two sizes that the value of one attribute cannot both be after a cut."""

    attribute: str
    one: SizeReading
    other: SizeReading


def find_sizes(
    readings: Iterable[SizeReading],
    owner: LabelVector,
    widths: LabelVector,
    values: Mapping[str, int],
    model: nn.Module,
) -> tuple[tuple[Size, ...], list[Conflict]]:
    """Find the attributes that a cut has to change.

    Args:
        readings: The sizes that were read.
        owner: The layer of each label, -1 for labels that stay.
        widths: Filters of each layer, shape (L,).
        values: The whole numbers that the network holds, by path.
        model: The traced network.

    Returns:
        One entry for each attribute, a number or a sequence of numbers, and what contradicts itself.
    """
    system = _System([_equation(reading, owner, widths) for reading in readings], widths, values)
    system.solve()
    return tuple(_sizes(system.lines, values, model)), system.conflicts()


def _equation(reading: SizeReading, owner: LabelVector, widths: LabelVector) -> _Equation:
    count = np.zeros(1 + len(widths), np.int64)
    if isinstance(reading.size, int):
        count[0] = reading.size
    else:
        owners = owner[reading.size]
        count[0] = (owners < 0).sum()
        count[1:] = np.bincount(owners[owners >= 0], minlength=len(widths)) // widths
    return _Equation(reading.number, count, reading)


class _System:
    """The equations of a network, and the attributes that were solved for so far."""

    def __init__(
        self, equations: Sequence[_Equation], widths: LabelVector, values: Mapping[str, int]
    ) -> None:
        unique = {(tuple(sorted(e.number.items())), e.total.tobytes()): e for e in reversed(equations)}
        self._equations = list(reversed(unique.values()))
        self._values = values
        rng = np.random.default_rng(0)
        kept = rng.integers(1, np.maximum(2, widths) + 1, (_SAMPLES, len(widths)))
        self._samples = np.concatenate([np.ones((_SAMPLES, 1), np.int64), np.minimum(kept, widths)], 1)
        self.lines: dict[str, _Line] = {}
        self._solved_by: dict[str, _Equation] = {}

    def solve(self) -> None:
        """Solve equations with one unknown attribute first; of several choose the likeliest."""
        # Few attributes first, and only sizes of channels that can go.
        pending = sorted((e for e in self._equations if e.total[1:].any()), key=lambda e: len(e.attributes))
        while pending:
            ambiguous = []
            for equation in pending:
                candidates = {} if self._holds(equation) else self._candidates(equation)
                if len(candidates) == 1:
                    self._accept(equation, *candidates.popitem())
                elif candidates:
                    ambiguous.append((equation, candidates))
            if len(ambiguous) == len(pending):  # nothing was solved
                equation, candidates = ambiguous[0]
                # An attribute that is whole for every count is the likelier one.
                name = min(candidates, key=lambda name: candidates[name].divisor != 1)
                self._accept(equation, name, candidates[name])
            pending = [equation for equation, _ in ambiguous]

    def _accept(self, equation: _Equation, name: str, line: _Line) -> None:
        self.lines[name] = line
        self._solved_by[name] = equation

    def conflicts(self) -> list[Conflict]:
        """Return the equations that do not hold, each with one that a solution came from."""
        found = []
        for equation in self._equations:
            solved = [name for name in equation.attributes if name in self.lines]
            if solved and not self._holds(equation):
                found.append(Conflict(solved[0], self._solved_by[solved[0]].reading, equation.reading))
        return found

    def _holds(self, equation: _Equation) -> bool:
        """Return whether an equation is true for the samples; unsolved attributes keep their values."""
        counts = (self._samples @ equation.total).tolist()
        names = equation.attributes
        numbers = {name: self._sampled(name) for name in names}
        for sample, count in enumerate(counts):
            at = {name: numbers[name][sample] for name in names}
            if sum(f * _value(monomial, at) for monomial, f in equation.number.items()) != count:
                return False
        return True

    def _sampled(self, name: str) -> list[Fraction]:
        line = self.lines.get(name)
        if line is None:
            return [Fraction(self._values[name])] * _SAMPLES
        return [Fraction(value, line.divisor) for value in (self._samples @ line.coefficients).tolist()]

    def _candidates(self, equation: _Equation) -> dict[str, _Line]:
        """Solve an equation for each unsolved attribute; all other unsolved ones keep their values."""
        unknown = [name for name in equation.attributes if name not in self.lines]
        found = ((name, self._solved(equation, name)) for name in unknown)
        return {name: line for name, line in found if line is not None}

    def _solved(self, equation: _Equation, name: str) -> _Line | None:
        """Solve an equation for an attribute in which it is linear, as all the rest has to be."""
        total: Any = equation.total.astype(object)  # of fractions
        slope = Fraction(0)
        for monomial, factor in equation.number.items():
            rest = tuple(pair for pair in monomial if pair[0] != name)
            line = self._linear(rest)
            if line is None or (rest != monomial and (dict(monomial)[name] != 1 or slope or line[1:].any())):
                return None
            if rest != monomial:
                slope = factor * line[0]
            else:
                total = total - line * factor
        coefficients = [Fraction(value) / slope for value in total]
        divisor = math.lcm(*(value.denominator for value in coefficients))
        whole = np.array([int(value * divisor) for value in coefficients], np.int64)
        return _Line(whole, divisor) if (whole[1:] >= 0).all() else None  # a cut makes nothing larger

    def _linear(self, monomial: Monomial) -> Any:
        """Return a product of attributes as fractions (1 + L,), None if that takes more than a line."""
        line: Any = np.array([Fraction(1)] + [Fraction(0)] * (self._samples.shape[1] - 1), object)
        for name, exponent in monomial:
            solved = self.lines.get(name)
            if solved is None or solved.constant:
                line = line * Fraction(self._values[name]) ** exponent
            elif exponent == 1 and not line[1:].any():
                line = solved.coefficients.astype(object) * (line[0] / solved.divisor)
            else:
                return None
        return line


def _value(monomial: Monomial, at: Mapping[str, Fraction]) -> Fraction:
    return math.prod((at[name] ** exponent for name, exponent in monomial), start=Fraction(1))


def _sizes(lines: Mapping[str, _Line], values: Mapping[str, int], model: nn.Module) -> Iterator[Size]:
    """Make the sizes; those in one sequence of whole numbers become one."""
    done = set()
    for name, line in lines.items():
        sequence = _sequence(name, model)
        if line.constant or sequence in done:
            continue
        if sequence is None:
            yield _size(name, [line], scalar=True)
        else:
            done.add(sequence)
            parts = (f"{sequence}.{position}" for position in range(len(number_at(model, sequence))))
            yield _size(sequence, [lines.get(part, values[part]) for part in parts], scalar=False)


def _size(path: str, parts: Sequence[_Line | int], scalar: bool) -> Size:
    lines = [part for part in parts if isinstance(part, _Line)]
    divisor = math.lcm(*(line.divisor for line in lines))
    rows = np.zeros((len(parts), len(lines[0].coefficients)), np.int64)
    for row, part in zip(rows, parts, strict=True):
        if isinstance(part, _Line):
            row[:] = part.coefficients * (divisor // part.divisor)
        else:
            row[0] = part * divisor
    return Size(path, rows[:, 0], rows[:, 1:], scalar, divisor)


def _sequence(path: str, model: nn.Module) -> str | None:
    """Return the path of the sequence of nothing but whole numbers in which a number is, if it is in one."""
    parent = path.rpartition(".")[0]
    try:
        found = number_at(model, parent)
    except KeyError:
        return None
    return parent if isinstance(found, list | tuple) and all(map(is_whole, found)) else None


def declare(records: Records, values: Mapping[str, int], sizes: Iterable[tuple[str, str]]) -> Records:
    """Add sizes that no call showed: attributes, each with the layer whose filters it counts.

    Raises:
        ValueError: If the network has no such attribute or layer, or the attribute's value is not a multiple
            of the layer's filters.
    """
    produced = {use.module: use.produced for use in records.product_sums if use.produced is not None}
    readings = []
    for path, layer in sizes:
        if layer not in produced:
            raise ValueError(
                f"the size {path!r} counts filters of the layer {layer!r}, which the network does not have"
                f"{did_you_mean(layer, produced)}; give the name of a layer with filters"
            )
        if path not in values:
            raise ValueError(
                f"the network holds no whole number at {path!r}{did_you_mean(path, values)}; "
                "give the path of an attribute, such as cfg.dim"
            )
        value, filters = values[path], len(produced[layer])
        if value == 0 or value % filters:
            raise ValueError(
                f"the size {path!r} is {value}, which is no multiple of the {filters} filters of layer "
                f"{layer!r}; give the layer that it counts"
            )
        cause = Cause("a declared size", "declaration", layer)
        number: Polynomial = {((path, 1),): Fraction(filters, value)}
        readings.append(SizeReading(number, produced[layer], cause))
    return replace(records, size_readings=[*records.size_readings, *readings])


def settle(
    conflicts: Iterable[Conflict], labels: Labels, classes: LabelVector, pinned: Mapping[int, Cause]
) -> Iterator[tuple[LabelVector, Cause]]:
    """Tie the channels that one attribute counts, so that all go together.

    Yields:
        Labels that have to stay as they cannot be tied, and why.
    """
    for conflict in conflicts:
        one, other = conflict.one, conflict.other
        if not _tied(one.size, other.size, labels, classes, pinned):
            reason = (
                f"the attribute {conflict.attribute!r} counts them and others, and cannot be both after a cut"
            )
            for reading in (one, other):
                if not isinstance(reading.size, int):
                    yield reading.size, replace(reading.cause, reason=reason)


def _tied(
    one: LabelVector | int,
    other: LabelVector | int,
    labels: Labels,
    classes: LabelVector,
    pinned: Mapping[int, Cause],
) -> bool:
    """Tie as many filters, each with all of its channels, if none has to stay."""
    if isinstance(one, int) or isinstance(other, int):
        return False
    a, b = (size[np.sort(np.unique(classes[size], return_index=True)[1])] for size in (one, other))
    stays = any(label_class in pinned for label_class in classes[[*a, *b]].tolist())
    if len(a) != len(b) or stays or (classes[a] == classes[b]).all():
        return False
    labels.tie(a, b)
    return True
