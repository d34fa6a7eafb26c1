"""Jobs of systems of pruning that take a moment, and runs of them that are stopped."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.run.folder import RunFolder
from secateur.agent.systems.base import Job, Result, System
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.tasks import ClassificationTask

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 32, "batchnorm_images": 64, "precision": "fp32"}
STEPS = 6
"""Steps of an epoch."""

DIGIT = torch.zeros(1, 1, 8, 8)
"""An image of the digits."""

_TRAIN = STEPS * OPTIONS["batch_size"]


def job_of(problem: PruningProblem, target: float, folder: RunFolder | None = None, **options: Any) -> Job:
    """Make a job on a part of the digits."""
    assert isinstance(problem.task, ClassificationTask)
    splits = problem.task.splits
    few = {**splits, "train": splits["train"].take(torch.arange(_TRAIN))}
    task = dataclasses.replace(problem.task, splits=few)
    config = PruningConfig(**{**OPTIONS, **options})
    return Job("demo", problem.model, task, problem.network, target, config, folder)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


class Killed(BaseException):
    """Nothing is done about a process that is killed: an exception that is none of ours stands for it."""


def resumed(system: System, job: Job, steps: list[int], end: type[BaseException], path: Path) -> Result:
    """Run a job in processes that end after some steps each, and in a last one that goes on to the end."""
    for process, last in enumerate([*steps, 0]):
        left = last

        def check() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise end

        with contextlib.suppress(end), RunFolder(path, job.config, resumed=process > 0) as folder:
            folder.check = check  # type: ignore[method-assign,assignment]
            result = system(dataclasses.replace(job, folder=folder))
            assert not last, f"the job ended before step {last} of process {process + 1}"
            return result
    raise AssertionError("the last process was ended, too")
