"""What is said of an error in a line."""

from __future__ import annotations

import pytest

from secateur.envs.io.untrusted import first_line, with_type


@pytest.mark.parametrize(
    ("error", "line", "with_its_type"),
    [
        (ValueError("\n\n  a shape differs\nby far"), "a shape differs", "ValueError: a shape differs"),
        (ValueError("\n \n"), "ValueError", "ValueError"),
        (KeyError(), "KeyError", "KeyError"),
    ],
)
def test_the_first_line_of_an_error_is_not_blank(error: Exception, line: str, with_its_type: str) -> None:
    assert (first_line(error), with_type(error)) == (line, with_its_type)
