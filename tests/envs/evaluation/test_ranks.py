"""Candidates shared among ranks: the same outcomes on each as in one process, with the masks of rank 0."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.multiprocessing import spawn

from secateur.envs.evaluation.engines import open_engine
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.evaluation.journal import Journal
from secateur.envs.evaluation.packing import pack, unpack
from secateur.envs.problem.problem import PruningProblem
from support.candidates import candidate


def evaluator_of(problem: PruningProblem, journal: Journal | None = None) -> CandidateEvaluator:
    return CandidateEvaluator(
        problem.model, problem.network, problem.task, images=64, statistics_images=64, journal=journal
    )


def measure(rank: int, ranks: int, folder: Path, packed: bytes) -> None:
    """Measure seven candidates, of which the journal knows two, with other masks on the other ranks."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=ranks)
    problem = unpack(packed)
    candidates = [candidate(problem, 0.5, seed=k + 100 * rank) for k in range(7)]
    journal = Journal(folder / ("journal" if rank == 0 else f"nowhere-{rank}"))
    evaluator = evaluator_of(problem, journal)
    first = evaluator(candidates[:2])
    found = [first, evaluator(candidates), evaluator.seconds_per_candidate(candidates[0]) > 0]
    try:
        with open_engine("local", 2, torch.device("cpu")):
            pass
    except ValueError as error:
        found.append(str(error))
    if rank == ranks - 1:
        evaluator.bench.look_at = None  # type: ignore[assignment,method-assign]
        evaluator.bench.measure = None  # type: ignore[assignment,method-assign]
    try:
        evaluator([candidate(problem, 0.5, seed=k + 50) for k in range(ranks)])
    except TypeError as error:  # of the last rank, on all
        found.append(str(error))
    (folder / f"found-{rank}").write_bytes(pickle.dumps(found))
    distributed.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_share_the_candidates_and_find_what_one_process_does(
    problem: PruningProblem, tmp_path: Path, ranks: int
) -> None:
    spawn(measure, (ranks, tmp_path, pack(problem)), nprocs=ranks)
    expected = evaluator_of(problem)([candidate(problem, 0.5, seed=k) for k in range(7)])
    for rank in range(ranks):
        first, all_seven, timed, refusal, error = pickle.loads((tmp_path / f"found-{rank}").read_bytes())
        assert (first, all_seven) == (expected[:2], expected)
        assert timed
        assert refusal.startswith("the ranks of torchrun share the candidates")
        assert "not callable" in error
    lines = (tmp_path / "journal").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 7  # the kind of processor, and each candidate once
