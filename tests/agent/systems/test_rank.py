"""The systems of low rank: what they make smaller, and what they refuse."""

from __future__ import annotations

import pytest

from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.problem.problem import PruningProblem
from support.promises import macs_of
from support.pruning_jobs import DIGIT, job_of


@pytest.mark.parametrize("name", ["rank", "filters-rank"])
def test_a_system_of_low_rank_comes_close_to_the_size_by_ranks_and_by_filters_only_where_it_says_so(
    problem: PruningProblem, name: str
) -> None:
    found = SYSTEMS[name](job_of(problem, 0.5, epochs=0, compensation_images=128))
    assert 0.97 < macs_of(found.model, DIGIT) / macs_of(problem.model, DIGIT) / 0.5 <= 1.0
    assert found.plan is not None
    assert found.plan.ranks
    is_cut = any(len(kept) < found.plan.filters[layer] for layer, kept in found.plan.kept.items())
    assert is_cut is (name == "filters-rank")
    assert found.notes == (
        f"{len(found.plan.ranks)} layers became two of low rank; 1 layer stays whole, as it has groups.",
    )


def test_a_size_that_low_rank_cannot_reach_is_refused(problem: PruningProblem) -> None:
    with pytest.raises(
        ValueError, match=r"the target 0.01 of the MACs cannot be reached by low rank: .*ask for"
    ):
        SYSTEMS["rank"](job_of(problem, 0.01))
