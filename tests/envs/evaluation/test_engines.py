"""Engines: wherever candidates are measured, outcomes are the same, and nothing is lost with a worker."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from secateur.envs.evaluation import engines
from secateur.envs.evaluation.engines import Workers, open_engine
from secateur.envs.evaluation.evaluator import CandidateEvaluator
from secateur.envs.evaluation.local_pool import LocalPool
from secateur.envs.evaluation.packing import pack, pack_scoring, unpack
from secateur.envs.evaluation.pool import WorkerLostError
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from secateur.envs.tasks.own.tensors import TensorTask
from support.candidates import candidate
from support.jobs import die, score, square_after, wait_and_square

CPU = torch.device("cpu")


def evaluator_of(problem: PruningProblem, engine: Workers | None = None) -> CandidateEvaluator:
    return CandidateEvaluator(
        problem.model,
        problem.network,
        problem.task,
        images=100,
        statistics_images=256,
        compensation=problem.compensation,
        engine=engine,
    )


def some(problem: PruningProblem) -> list[list[Mask]]:
    return [candidate(problem, 0.3 + 0.1 * (k % 5), seed=k) for k in range(7)]


def late(problem: PruningProblem) -> list[list[Mask]]:
    """Make candidates that differ in the last layer, so that they share what comes before."""
    first, *others = some(problem)
    return [first, *([*first[:-1], masks[-1]] for masks in others)]


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(2, CPU) as pool:
        yield pool


@pytest.fixture
def engine(pool: LocalPool) -> Workers:
    return Workers(pool)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [2, 3])
def test_the_number_of_cores_and_the_company_change_no_outcome(
    problem: PruningProblem, threads: Callable[[int], None], number: int
) -> None:
    """A sum over pixels is split by the number of threads, so each candidate has one."""
    evaluator = evaluator_of(problem)
    candidates = some(problem)
    expected = evaluator(candidates), evaluator(late(problem)), evaluator.dense
    threads(number)
    again = evaluator_of(problem)
    assert (again(candidates), again(late(problem)), again.dense) == expected
    assert [again([masks])[0] for masks in candidates] == expected[0]
    assert torch.get_num_threads() == number


@pytest.mark.parametrize(
    "workers", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_any_number_of_workers_gives_the_same_outcomes(problem: PruningProblem, workers: int) -> None:
    evaluator = evaluator_of(problem)
    expected = evaluator(some(problem)), evaluator(late(problem))
    with LocalPool(workers, CPU) as other:
        shared = evaluator_of(problem, Workers(other))
        assert (shared(some(problem)), shared(late(problem))) == expected
        evaluator.next_val_subset()
        shared.next_val_subset()
        assert shared(some(problem)) == evaluator(some(problem)) != expected[0]


def test_what_is_large_is_sent_to_a_worker_once_and_dropped_when_it_is_not_needed(
    problem: PruningProblem, pool: LocalPool, engine: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    send = pool._send

    def count(worker: Any, job: bytes, needed: dict[int, Any]) -> None:
        sent.append(len(needed))
        send(worker, job, needed)

    monkeypatch.setattr(pool, "_send", count)
    evaluator = evaluator_of(problem, engine)
    for _ in range(3):
        evaluator(some(problem))
    assert sum(sent) == 2 * 2  # the network and the images, to two workers
    evaluator.next_val_subset()
    evaluator(some(problem))
    assert sum(sent) == 2 * 3
    gc.collect()
    assert len(pool._sent) == 2
    del evaluator
    gc.collect()
    assert not pool._sent


def test_a_worker_that_is_killed_loses_nothing(
    problem: PruningProblem, pool: LocalPool, engine: Workers, tmp_path: Path
) -> None:
    evaluator = evaluator_of(problem, engine)
    expected = evaluator(some(problem))
    before = {place.process.pid for place in pool._places if place}
    killed = tmp_path / "killed"
    arguments = [(killed if k else None, k) for k in range(6)]
    found = []
    for value in pool.map(square_after, [], arguments):
        if value == 0:
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            killed.touch()
        found.append(value)
    assert found == [k * k for k in range(6)]
    assert before.isdisjoint(place.process.pid for place in pool._places if place)
    assert evaluator(some(problem)) == expected


@pytest.mark.slow
def test_a_job_that_kills_every_worker_ends_in_one_line(pool: LocalPool) -> None:
    with pytest.raises(WorkerLostError, match=r"3 workers died on the same job \(.* status -9\)"):
        list(pool.map(die, [], [(0,)]))


def test_what_a_job_raises_is_raised_here_and_the_workers_go_on(pool: LocalPool) -> None:
    with pytest.raises(ZeroDivisionError, match="division"):
        list(pool.map(divmod, [], [(1, 1), (1, 0)]))
    assert list(pool.map(divmod, [], [(7, 2)])) == [(3, 1)]


def test_a_function_that_workers_cannot_import_is_an_error_and_kills_none(pool: LocalPool) -> None:
    before = list(pool._places)
    lost = types.FunctionType((lambda: 0).__code__, {}, "lost")
    lost.__module__, lost.__qualname__ = "no_such_module", "lost"
    module = types.ModuleType("no_such_module")
    module.lost = lost  # type: ignore[attr-defined]
    sys.modules["no_such_module"] = module
    try:
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            list(pool.map(lost, [], [()]))
    finally:
        del sys.modules["no_such_module"]
    assert pool._places == before


def test_a_call_that_is_given_up_leaves_no_work_behind(pool: LocalPool) -> None:
    results = pool.map(wait_and_square, [], [(k,) for k in range(9)])
    assert next(results) == 0
    results.close()
    assert list(pool.map(wait_and_square, [], [(5,)])) == [25]


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2]
    except FileNotFoundError:
        return False


SCRIPT = """
import signal, sys, time, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
from secateur.envs.evaluation.local_pool import LocalPool
with LocalPool(2, torch.device("cpu")) as pool:
    print(*(place.process.pid for place in pool._places), flush=True)
    list(pool.map(time.sleep, [], [(0,), (60,), (60,)]))
"""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_the_process_that_began_them(number: signal.Signals) -> None:
    """The script has no ``if __name__``, which a new process that imported it would need."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as script:
        assert script.stdout is not None
        workers = [int(pid) for pid in script.stdout.readline().split()]
        assert len(workers) == 2
        time.sleep(1)
        script.send_signal(number)
        script.wait(60)
    ends = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def test_a_task_of_lambdas_goes_to_workers_without_its_data(pool: LocalPool) -> None:
    inputs, targets = torch.rand(700, 3, 16, 16), torch.arange(700) % 10
    weights = torch.arange(10.0) + 1
    task = TensorTask(
        train=(inputs, targets),
        val=(inputs, targets),
        test=(inputs, targets),
        loss=lambda outputs, targets: F.cross_entropy(outputs, targets, weights),
        metric=lambda outputs, targets: 100 * (outputs.argmax(1) == targets).float().mean(),
    )
    outputs = torch.rand(20, 10)
    content = pack_scoring(task, [(outputs, targets[:20])])
    assert len(content) < 100_000 < len(pack(task))
    (found,) = pool.map(score, [pool.put(None)], [(content, outputs, targets[:20])])
    assert found == float(task.loss(outputs, targets[:20]))


def test_a_loss_that_reads_a_large_tensor_gets_it() -> None:
    table, targets = torch.rand(600, 600), torch.arange(20)
    part = torch.rand(20, 3, 4, 4), targets
    task = TensorTask(
        train=part,
        val=part,
        test=part,
        loss=lambda outputs, targets: F.cross_entropy(outputs @ table, targets),
        metric=lambda outputs, targets: 100 * (outputs.argmax(1) == targets).float().mean(),
        num_outputs=600,
    )
    outputs = torch.rand(20, 600)
    assert len(pack(task, data=False)) < table.nbytes
    sent = unpack(pack_scoring(task, [(outputs, targets)]))
    assert sent.loss(outputs, targets) == task.loss(outputs, targets)


def test_a_network_that_cannot_be_sent_is_refused_in_one_line(pool: LocalPool) -> None:
    with pytest.raises(ValueError, match=r"list cannot be sent to another process \(.*generator.*\); give"):
        pool.put([number for number in range(3)] + [(k for k in range(3))])


def test_workers_of_another_kind_are_refused(
    problem: PruningProblem, engine: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = evaluator_of(problem, engine)
    monkeypatch.setattr("secateur.envs.evaluation.bench.device_kind", lambda device: "float32 on paper")
    with pytest.raises(ValueError, match=r"a worker would measure in .*, this process in float32 on paper"):
        evaluator(some(problem))


def test_one_worker_of_the_local_engine_is_this_process() -> None:
    for workers in (None, 1):
        with open_engine("local", workers, CPU) as engine:
            assert isinstance(engine, engines.ThisProcess)
