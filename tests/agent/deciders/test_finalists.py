"""Who is compared: heuristics, the agent's best, and nobody twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from secateur.agent.deciders.baselines import Baseline, heuristics
from secateur.agent.deciders.finalists import ENTRIES, NAMED, Entries, find_finalists
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from support.deciding import ratio, untrained
from support.toy import toy_of


@dataclass(frozen=True)
class Several:
    """Propose what several baselines do, under one name."""

    baselines: tuple[Baseline, ...]
    name: str = "ppo"

    def decide(self, *given: Any) -> list[list[Mask]]:
        return [masks for each in self.baselines for masks in each.decide(*given)]


def randoms(count: int) -> Several:
    return Several(tuple(Baseline("random", "uniform", seed) for seed in range(count)))


@pytest.mark.parametrize("effort", ENTRIES)
def test_all_meet_the_target_and_no_two_are_equal(problem: PruningProblem, effort: str) -> None:
    entries = ENTRIES[effort]
    found = find_finalists(toy_of(problem), untrained(), 0.5, "macs", entries)
    assert len(found) <= entries.total
    assert len({one.name for one in found}) == len(found)
    assert len({np.concatenate(one.masks).tobytes() for one in found}) == len(found)
    assert all(ratio(problem, one.masks) <= 0.5 for one in found)
    assert sum(one.is_own for one in found) == entries.own
    assert [one.is_own for one in found] == sorted(one.is_own for one in found)  # heuristics win ties


def test_the_named_heuristics_are_in_with_the_best_other_one(problem: PruningProblem) -> None:
    toy = toy_of(problem)
    found = find_finalists(toy, randoms(3), 0.5, "macs", Entries(1, 3, 1, 0.5))
    others = [each for each in heuristics() if each.name not in NAMED[:3]]
    best = max(toy.evaluator(each.decide(problem, 0.5, "macs"))[0].accuracy for each in others)
    assert [one.name for one in found[:3]] == list(NAMED[:3])
    assert found[3].outcome.accuracy == best
    assert found[3].name not in NAMED[:3]


def test_of_an_agent_its_first_proposal_and_its_best_are_in(problem: PruningProblem) -> None:
    own = {
        count: [
            one
            for one in find_finalists(toy_of(problem), randoms(7), 0.5, "macs", Entries(count, 1, 0, 0.5))
            if one.is_own
        ]
        for count in (1, 2, 7)
    }
    names = {count: [one.name for one in few] for count, few in own.items()}
    ranked = sorted(own[7], key=lambda one: (-one.outcome.accuracy, one.outcome.loss))
    best = [one.name for one in ranked]
    assert names[1] == best[:1]
    assert names[2] == ["ppo", next(name for name in best if name != "ppo")]
    assert {*names[7]} == {"ppo", *(f"ppo {k}" for k in range(2, 8))}


def test_averages_of_an_agent_take_part(problem: PruningProblem) -> None:
    found = find_finalists(toy_of(problem), randoms(12), 0.5, "macs", Entries(16, 1, 0, 0.5))
    assert {one.name for one in found if "average" in one.name} <= {f"ppo average {k}" for k in range(1, 5)}
    assert {one.name for one in found if "average" not in one.name} >= {"ppo", "ppo 2", "ppo 12"}
    assert sum(one.is_own for one in found) > 12


def test_what_a_heuristic_proposes_too_counts_as_the_heuristics(problem: PruningProblem) -> None:
    agent = Several((Baseline("l2", "global"), Baseline("l2", "global"), Baseline("random", "uniform")))
    found = find_finalists(toy_of(problem), agent, 0.5, "macs", Entries(3, 5, 1, 0.5))
    assert [one.name for one in found if one.is_own] == ["ppo 3"]


def test_without_an_agent_the_heuristics_are_among_themselves(problem: PruningProblem) -> None:
    found = find_finalists(toy_of(problem), None, 0.5, "macs", ENTRIES["normal"])
    assert {*NAMED} < {one.name for one in found}
    assert not any(one.is_own for one in found)
