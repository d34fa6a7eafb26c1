"""Actors of Ray measure the same outcomes, also after one is killed, and no cluster stays."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from secateur.envs.evaluation.engines import Workers, open_engine
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.evaluation.ray_pool import RayPool
from secateur.envs.problem.problem import PruningProblem
from support.candidates import candidate

CPU = torch.device("cpu")


@pytest.mark.slow
def test_actors_of_ray_measure_what_this_process_does_and_a_killed_one_loses_nothing(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    candidates = [candidate(problem, 0.3 + 0.1 * k, seed=k) for k in range(5)]
    with open_engine("ray", 2, CPU) as engine:
        assert isinstance(engine, Workers)
        assert signal.getsignal(signal.SIGTERM) is handler
        evaluator = CandidateEvaluator(
            problem.model,
            problem.network,
            problem.task,
            images=256,
            statistics_images=256,
            compensation=problem.compensation,
            engine=engine,
        )
        expected = problem.evaluator(candidates)
        assert evaluator(candidates) == expected
        pool = engine._pool
        actors = {place: next(iter(pool.map(os.getpid, [], [()]))) for place in range(2)}
        found = []
        for outcome in pool.map(time.sleep, [], [(0.3,)] * 6):
            if not found:
                os.kill(actors[0], signal.SIGKILL)
            found.append(outcome)
        assert found == [None] * 6
        assert next(iter(pool.map(os.getpid, [], [()]))) != actors[0]
        assert evaluator(candidates) == expected
    assert not ray.is_initialized()


@pytest.mark.slow
def test_more_workers_than_the_cluster_has_cores_are_refused_and_no_cluster_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        ValueError, match=r"the Ray cluster has \d+ free CPUs; give --search-workers 1 to \d+"
    ):
        RayPool(10_000, CPU)
    assert not ray.is_initialized()


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match=r"install secateur\[ray\]"):
        RayPool(None, CPU)
