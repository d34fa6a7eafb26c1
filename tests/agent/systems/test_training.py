"""Stages of systems: the passes of a job are shared in whole steps."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.agent.systems.training import share_passes, steps_of_stage
from secateur.envs.problem.problem import PruningProblem
from support.pruning_jobs import STEPS, job_of


@pytest.mark.parametrize("shares", [(1,), (0.5, 0.5), (0.05, 0.45, 0.5), (0.9, 0.05, 0.05), [1 / 7] * 7])
@pytest.mark.parametrize("epochs", [1, 2, 3, 10])
def test_stages_are_whole_steps_and_in_sum_what_the_job_has(
    problem: PruningProblem, epochs: int, shares: list[float]
) -> None:
    job = job_of(problem, 0.5, epochs=epochs)
    passes = share_passes(job, shares)
    assert sum(steps_of_stage(job, part) for part in passes) == STEPS * epochs
    np.testing.assert_allclose(passes, np.multiply(shares, epochs), atol=(len(shares) - 1) / STEPS)
    if STEPS * epochs >= len(shares):
        assert min(passes) >= 1 / STEPS


def test_where_steps_are_few_the_last_stages_have_them(problem: PruningProblem) -> None:
    one, two = (job_of(problem, 0.5, epochs=epochs, batch_size=192) for epochs in (1, 2))
    assert share_passes(one, (0.6, 0.2, 0.2)) == [0, 0, 1]
    assert share_passes(two, (0.6, 0.2, 0.2)) == [0, 1, 1]
    assert share_passes(job_of(problem, 0.5, epochs=0), (0.5, 0.5)) == [0, 0]
