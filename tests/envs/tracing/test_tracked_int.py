"""Numbers that know their attributes: they compute as plain ones do, and say how."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.envs.tracing.tracked_int import TrackedInt, polynomial_of


def tracked(name: str, value: int) -> TrackedInt:
    return TrackedInt(value, {((name, 1),): Fraction(1)})


def value_of(number: int, at: dict[str, int]) -> Fraction:
    total = Fraction(0)
    for monomial, factor in polynomial_of(number).items():
        for name, exponent in monomial:
            factor *= Fraction(at[name]) ** exponent
        total += factor
    return total


OPERATIONS = [operator.add, operator.sub, operator.mul, operator.floordiv]


@given(
    st.lists(
        st.tuples(st.sampled_from(OPERATIONS), st.integers(-6, 6), st.booleans(), st.booleans()), max_size=6
    )
)
def test_any_arithmetic_gives_the_plain_result_and_a_polynomial_with_that_value(
    steps: list[tuple[Callable[[int, int], int], int, bool, bool]],
) -> None:
    at = {"a": 12, "b": 5}
    number, plain = tracked("a", at["a"]), at["a"]
    for operation, constant, use_attribute, reverse in steps:
        other = tracked("b", at["b"]) if use_attribute else constant
        pair = (other, number) if reverse else (number, other)
        if operation is operator.floordiv and pair[1] == 0:
            continue
        number, plain = operation(*pair), operation(*map(int, pair))
    assert number == plain
    assert value_of(number, at) == plain


@pytest.mark.parametrize(
    ("number", "polynomial"),
    [
        (2 * tracked("half", 8), {(("half", 1),): 2}),
        (tracked("dim", 16) * tracked("cells", 9), {(("cells", 1), ("dim", 1)): 1}),
        (tracked("dim", 16) // 2 + 1, {(("dim", 1),): Fraction(1, 2), (): 1}),
        (tracked("dim", 16) // tracked("heads", 4), {(("dim", 1), ("heads", -1)): 1}),
        (tracked("total", 16) - tracked("half", 8), {(("total", 1),): 1, (("half", 1),): -1}),
        (tracked("side", 4) ** 2, {(("side", 2),): 1}),
        (-tracked("dim", 16), {(("dim", 1),): -1}),
        (abs(-tracked("dim", 16)), {(("dim", 1),): 1}),
        (sum([tracked("a", 2), tracked("b", 3)]), {(("a", 1),): 1, (("b", 1),): 1}),
    ],
)
def test_products_sums_and_exact_quotients_are_followed(number: int, polynomial: object) -> None:
    assert isinstance(number, TrackedInt)
    assert number.polynomial == polynomial


@pytest.mark.parametrize(
    "number",
    [
        tracked("dim", 16) // 3,
        tracked("dim", 16) % 5,
        tracked("dim", 16) - tracked("dim", 16),
        tracked("dim", 16) / 2,
        int(tracked("dim", 16)),
        copy.deepcopy(tracked("dim", 16)),
        pickle.loads(pickle.dumps(tracked("dim", 16))),
        tracked("dim", 16) & 7,
        pow(tracked("dim", 16), 2, 7),
        max(tracked("dim", 16), 99),
    ],
)
def test_all_else_is_plain(number: object) -> None:
    assert type(number) in (int, float)


def test_other_kinds_of_numbers_decide_by_themselves() -> None:
    assert tracked("dim", 16) * 0.5 == 8.0
    assert 0.5 + tracked("dim", 16) == 16.5
    assert f"{tracked('dim', 16)}" == repr(tracked("dim", 16)) == "16"
    with pytest.raises(TypeError):
        tracked("dim", 16) + "a"  # type: ignore[operator]
