"""Short jobs for systems of pruning, on the demo network, and the MACs of what they give back."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from secateur.agent.procedures.config import PruningConfig
from secateur.agent.run.folder import RunFolder
from secateur.agent.systems.base import Job
from secateur.envs.problem.problem import PruningProblem

CONFIG = PruningConfig(
    method="fpgm-global",
    epochs=1,
    batch_size=64,
    precision="fp32",
    compensation_images=128,
    batchnorm_images=128,
)


def job_of(problem: PruningProblem, target: float = 0.5, folder: RunFolder | None = None) -> Job:
    return Job("demo", problem.model, problem.task, problem.network, target, CONFIG, folder)


def macs_of(model: nn.Module) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 1, 8, 8))
    return counter.get_total_flops() / 2
