"""What workers and ranks run in tests: processes of their own import this module, tests are no package."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, distributed

from secateur.envs.evaluation.engines import open_engine
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.evaluation.journal import Journal
from secateur.envs.evaluation.packing import unpack
from secateur.envs.problem.problem import PruningProblem
from support.candidates import candidate


def wait_and_square(number: int) -> int:
    time.sleep(0.1)
    return number * number


def square_after(file: Path | None, number: int) -> int:
    """Square a number, once a file is there."""
    while file and not file.exists():
        time.sleep(0.01)
    return number * number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def score(nothing: None, content: bytes, outputs: Tensor, targets: Tensor) -> float:
    return float(unpack(content).loss(outputs, targets))


def small_evaluator(problem: PruningProblem, journal: Journal | None = None) -> CandidateEvaluator:
    return CandidateEvaluator(
        problem.model, problem.network, problem.task, images=64, statistics_images=64, journal=journal
    )


def measure_on_rank(rank: int, ranks: int, folder: Path, packed: bytes) -> None:
    """Measure seven candidates, of which the journal knows two, with other masks on the other ranks."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=ranks)
    problem = unpack(packed)
    candidates = [candidate(problem, 0.5, seed=k + 100 * rank) for k in range(7)]
    journal = Journal(folder / ("journal" if rank == 0 else f"nowhere-{rank}"))
    evaluator = small_evaluator(problem, journal)
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
