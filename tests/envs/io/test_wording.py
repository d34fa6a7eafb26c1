"""Numbers in sentences: one layer, two layers."""

from __future__ import annotations

import pytest

from secateur.envs.io.wording import counted


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 layers"), (1, "1 layer"), (1.0, "1 layer"), (0.5, "0.5 layers"), (12345, "12,345 layers")],
)
def test_a_noun_is_in_the_number_that_stands_before_it(number: float, said: str) -> None:
    assert counted(number, "layer") == said


def test_a_noun_has_the_plural_that_is_given() -> None:
    assert counted(1, "pass", "passes") == "1 pass"
    assert counted(2, "pass", "passes") == "2 passes"
