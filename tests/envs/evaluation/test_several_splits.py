"""Candidates are measured on images of several splits, as many from each."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.evaluation.journal import Journal
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.tasks.base import SplitName
from support.candidates import candidate

BOTH: tuple[SplitName, ...] = ("val", "train")


def on(
    problem: PruningProblem, splits: tuple[SplitName, ...], images: int, journal: Journal | None = None
) -> CandidateEvaluator:
    return CandidateEvaluator(
        problem.model,
        problem.network,
        problem.task,
        images=images,
        splits=splits,
        statistics_images=50,
        journal=journal,
    )


def test_each_split_counts_half(problem: PruningProblem) -> None:
    candidates = [candidate(problem, keep) for keep in (0.3, 0.6)]
    both = on(problem, BOTH, 200)
    val, train = on(problem, ("val",), 100), on(problem, ("train",), 100)
    for found, *halves in zip(*(each(candidates) for each in (both, val, train)), strict=True):
        for name in ("accuracy", "loss", "dense_accuracy", "dense_loss"):
            expected = sum(getattr(half, name) for half in halves) / 2
            assert getattr(found, name) == pytest.approx(expected, rel=1e-5)
    assert val(candidates) != train(candidates)


def test_the_smallest_split_says_how_many_there_are(problem: PruningProblem) -> None:
    smallest = min(map(problem.task.size, BOTH))
    found = on(problem, BOTH, 100_000)([candidate(problem, 0.5)])
    assert found == on(problem, BOTH, 2 * smallest)([candidate(problem, 0.5)])


def test_another_process_measures_on_the_same_images(problem: PruningProblem) -> None:
    evaluator, masks = on(problem, BOTH, 200), [candidate(problem, 0.5)]
    assert pickle.loads(pickle.dumps(evaluator))(masks) == evaluator(masks)


def test_a_journal_knows_which_splits_were_looked_at(problem: PruningProblem, tmp_path: Path) -> None:
    journal, masks = Journal(tmp_path / "journal.jsonl"), [candidate(problem, 0.5)]
    journal.begin()
    seen = [on(problem, splits, 100, journal)(masks) for splits in (BOTH, ("val",), ("train",))]
    assert len({one.loss for (one,) in seen}) == 3
    assert [on(problem, splits, 100, journal)(masks) for splits in (BOTH, ("val",), ("train",))] == seen
