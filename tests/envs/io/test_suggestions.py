"""Answers to unknown names."""

from __future__ import annotations

from secateur.envs.io.suggestions import unknown_name


def test_an_unknown_name_is_answered_with_all_or_of_many_with_the_one_that_was_meant() -> None:
    few, many = ["alpha", "beta"], [f"method-{number}" for number in range(30)]
    assert (
        unknown_name("layer", "alpa", few)
        == "there is no layer 'alpa', did you mean 'alpha'?; give alpha, beta"
    )
    assert unknown_name("layer", "gamma9", few) == "there is no layer 'gamma9'; give alpha, beta"
    assert unknown_name("method", "metod-7", many) == "there is no method 'metod-7', did you mean 'method-7'?"
    longer = [f"fpgm-{scope}" for scope in ("global-per-mac", "global", "uniform", "uniform-by-layer")]
    assert unknown_name("method", "fpgm", [*many, *longer]) == (
        "there is no method 'fpgm', did you mean 'fpgm-global', 'fpgm-uniform' or 'fpgm-global-per-mac'?"
    )
    assert unknown_name("method", "xyz", many).endswith(f"'xyz'; give {', '.join(many)}")
