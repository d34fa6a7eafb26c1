"""An agent that has learned nothing, and the sizes of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.policy import FilterScorer
from secateur.envs.cost.counts import size_ratio
from secateur.envs.problem.features import FILTER_FEATURES, LAYER_FEATURES
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from secateur.rewards import Size


def untrained(seed: int = 0, **settings: Any) -> FrozenAgent:
    torch.manual_seed(seed)
    scorer = FilterScorer(len(FILTER_FEATURES), len(LAYER_FEATURES), 16)
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return FrozenAgent(scorer, {"networks": ["demo"]}, **settings)


def counts(masks: list[Mask]) -> np.ndarray:
    return np.array([mask.sum() for mask in masks])


def ratio(problem: PruningProblem, masks: list[Mask], size: Size = "macs") -> float:
    return float(size_ratio(problem.network, counts(masks), size))
