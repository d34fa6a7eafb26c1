"""Candidates shared among ranks: the same outcomes on each as in one process, with the masks of rank 0."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from torch.multiprocessing import spawn

from secateur.envs.evaluation.packing import pack
from secateur.envs.problem.problem import PruningProblem
from support.candidates import candidate
from support.jobs import measure_on_rank, small_evaluator


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_share_the_candidates_and_find_what_one_process_does(
    problem: PruningProblem, tmp_path: Path, ranks: int
) -> None:
    spawn(measure_on_rank, (ranks, tmp_path, pack(problem)), nprocs=ranks)
    expected = small_evaluator(problem)([candidate(problem, 0.5, seed=k) for k in range(7)])
    for rank in range(ranks):
        first, all_seven, timed, refusal, error = pickle.loads((tmp_path / f"found-{rank}").read_bytes())
        assert (first, all_seven) == (expected[:2], expected)
        assert timed
        assert refusal.startswith("the ranks of torchrun share the candidates")
        assert "not callable" in error
    lines = (tmp_path / "journal").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 7  # the kind of processor, and each candidate once
