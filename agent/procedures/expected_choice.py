"""How long search and choice are expected to take: one function for each way to choose."""

from ...envs.problem.problem import PruningProblem
from ..deciders.averaging import AVERAGES
from ..deciders.baselines import heuristics
from ..deciders.finalists import ENTRIES, NAMED
from ..deciders.names import PPO
from ..deciders.selection import FINALISTS, SEEN_AND_UNSEEN
from ..learning.frozen_agent import FrozenAgent
from .bound_search import FORECASTS
from .candidate_time import CandidateTime
from .config import PruningConfig
from .goal import Goal
from .layerwise_choice import expected_candidates, search_in_layer

_DECISION = 3.5e-3
"""Seconds that the policy takes for one layer of one candidate, its updates included. On one core of an Intel
Xeon the demo's search takes 37 ms a candidate, 15 of them for measuring; it has six layers."""

_EVALUATORS = 2
"""Evaluators of each layer of a layer-wise run: one for the search, one for the choice."""


def candidates_of_search(problem: PruningProblem, goal: Goal, config: PruningConfig) -> int:
    """Return how many candidates the training of the agents measures, at most; 0 if nothing is trained.

    Args:
        problem: The dense network and its data.
        goal: The goal of the run.
        config: The options of the run.
    """
    if goal.decider is not None:
        return 0
    if config.procedure == "network":
        return config.learning.candidates
    layers = len(problem.network.layers)
    return layers * search_in_layer(config.learning, layers).evaluations


def seconds_of_search(
    problem: PruningProblem, goal: Goal, config: PruningConfig, time: CandidateTime
) -> float:
    """Return the seconds of the agents' training, at most; arguments as for :func:`seconds_of_choice`."""
    decisions = 1 if config.procedure == "layerwise" else len(problem.network.layers)
    each = time.on(config.search_images) + _DECISION * decisions
    return candidates_of_search(problem, goal, config) * each


def seconds_of_choice(
    problem: PruningProblem, goal: Goal, config: PruningConfig, time: CandidateTime
) -> float:
    """Return the seconds of the choice among proposals, at all sizes and for all layers.

    Args:
        problem: The dense network and its data.
        goal: The goal of the run.
        config: The options of the run.
        time: What a candidate takes.
    """
    if config.bound_after_recovery is not None:
        return FORECASTS * _at_a_size(config, time)
    if config.procedure == "layerwise":
        return _layer_by_layer(problem, goal, config, time)
    return _among_all(config, time) if config.method == PPO else time.on(config.choice_images)


def _at_a_size(config: PruningConfig, time: CandidateTime) -> float:
    """Return the seconds for one of the sizes that a drop bound tries; the agent draws no samples for it."""
    on_val = time.on(config.choice_images)
    if config.method != PPO:
        return on_val
    first, second = (time.on(images, SEEN_AND_UNSEEN) for images in config.look_images)
    return (FrozenAgent.deterministic + len(NAMED)) * first + (FINALISTS + 1) * second + on_val


def _layer_by_layer(problem: PruningProblem, goal: Goal, config: PruningConfig, time: CandidateTime) -> float:
    """Return the seconds for the choices of all layers, and for what is made anew and measured for each."""
    proposals = expected_candidates(problem.network, goal.decider, goal.reward.target)
    each = _EVALUATORS * time.evaluator + time.on(config.choice_images)
    return proposals * time.on(config.choice_images) + len(problem.network.layers) * each


def _among_all(config: PruningConfig, time: CandidateTime) -> float:
    """Return the seconds for a look at all proposals, and for the outcomes of the finalists."""
    proposals = FrozenAgent.deterministic + FrozenAgent.samples + AVERAGES + len(heuristics())
    images = config.look_images[0]
    return proposals * time.on(images, SEEN_AND_UNSEEN) + ENTRIES[config.effort].total * time.on(images)
