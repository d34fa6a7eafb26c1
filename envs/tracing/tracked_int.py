"""Whole numbers that know from which attributes of modules they were computed, and how.

On the traced copy of a network they stand for the whole numbers that its modules hold. Forward code computes
with them as with any others: ``2 * self.half * cells`` is a polynomial in the attribute ``half``.
"""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from torch import nn

from ..modules.numbers import holders, is_whole, replace_numbers

Monomial = tuple[tuple[str, int], ...]
"""A product of attributes: their paths, each with its exponent, sorted. The empty product is 1."""

Polynomial = Mapping[Monomial, Fraction]
"""A sum of products of attributes, each with its coefficient."""

_MOST_TERMS = 16


class TrackedInt(int):
    """A whole number with the polynomial in attributes that gave it.

    Sums, differences, products, whole powers and divisions without a rest are followed. Everything else gives
    plain numbers, as does a copy or a pickle of it.
    """

    polynomial: Polynomial

    def __new__(cls, value: int, polynomial: Polynomial) -> "TrackedInt":
        """Make the number from its value and its polynomial."""
        number = super().__new__(cls, value)
        number.polynomial = polynomial
        return number

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)

    def __add__(self, other: Any) -> Any:
        value = int.__add__(self, other)
        return value if value is NotImplemented else _sum(value, (self, 1), (other, 1))

    def __sub__(self, other: Any) -> Any:
        value = int.__sub__(self, other)
        return value if value is NotImplemented else _sum(value, (self, 1), (other, -1))

    def __rsub__(self, other: Any) -> Any:
        value = int.__rsub__(self, other)
        return value if value is NotImplemented else _sum(value, (other, 1), (self, -1))

    def __mul__(self, other: Any) -> Any:
        value = int.__mul__(self, other)
        return value if value is NotImplemented else _product(value, self, other)

    def __floordiv__(self, other: Any) -> Any:
        value = int.__floordiv__(self, other)
        return value if value is NotImplemented else _quotient(value, self, other)

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if modulo is not None or not isinstance(other, int) or not 0 <= other <= 4:
            return int.__pow__(self, other, modulo)
        power: Any = 1
        for _ in range(other):
            power = power * self
        return power

    def __neg__(self) -> Any:
        return _sum(int.__neg__(self), (self, -1))

    def __pos__(self) -> "TrackedInt":
        return self

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    __radd__, __rmul__ = __add__, __mul__


def track(copied: nn.Module, original: nn.Module) -> dict[str, int]:
    """Replace the whole numbers that a copy of a network holds by tracked ones.

    Objects that the copy shares with the network, such as singletons, are left alone.

    Returns:
        The value of each number, by path; those of NumPy are listed, but not tracked.
    """
    values: dict[str, int] = {}

    def change(path: str, value: Any) -> Any:
        assert is_whole(value)
        values[path] = int(value)
        # Nothing can be removed from one channel, and flags and counters from zero are no sizes.
        return TrackedInt(value, {((path, 1),): Fraction(1)}) if type(value) is int and value > 1 else value

    replace_numbers(copied, change, untouched=holders(original))
    return values


def polynomial_of(number: int) -> Polynomial:
    """Return the polynomial of a tracked number, or a plain one's constant."""
    return number.polynomial if isinstance(number, TrackedInt) else {(): Fraction(number)}


def _tracked(value: int, polynomial: Mapping[Monomial, Fraction]) -> int:
    """Make a number; a plain one if no attribute is left in it, or too many."""
    terms = {monomial: factor for monomial, factor in polynomial.items() if factor}
    return TrackedInt(value, terms) if set(terms) - {()} and len(terms) <= _MOST_TERMS else value


def _sum(value: int, *terms: tuple[int, int]) -> int:
    total: Counter[Monomial] = Counter()
    for number, sign in terms:
        for monomial, factor in polynomial_of(number).items():
            total[monomial] += sign * factor  # type: ignore[assignment]
    return _tracked(value, total)  # type: ignore[arg-type]


def _product(value: int, one: int, other: int) -> int:
    total: Counter[Monomial] = Counter()
    for mine, factor in polynomial_of(one).items():
        for others, times in polynomial_of(other).items():
            total[_joined(mine, others, 1)] += factor * times  # type: ignore[assignment]
    return _tracked(value, total)  # type: ignore[arg-type]


def _quotient(value: int, one: int, other: int) -> int:
    divisor = polynomial_of(other)
    if value * int(other) != int(one) or len(divisor) != 1:
        return value
    ((others, times),) = divisor.items()
    return _tracked(value, {_joined(mine, others, -1): f / times for mine, f in polynomial_of(one).items()})


def _joined(one: Monomial, other: Monomial, sign: int) -> Monomial:
    """Multiply two products of attributes, or divide them with the sign -1."""
    exponents = Counter(dict(one))
    for source, exponent in other:
        exponents[source] += sign * exponent
    return tuple(sorted((source, exponent) for source, exponent in exponents.items() if exponent))
