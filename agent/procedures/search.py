"""The search of the filters of all layers together: train an agent, compare with heuristics, choose."""

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from ...envs.modules.ranks import broadcast
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks.optional_members import metric_name
from ..deciders.base import Decider
from ..deciders.baselines import heuristics
from ..deciders.names import PPO
from ..deciders.selection import Choice, SearchResult, choose
from ..learning.callbacks import ProgressBar, SearchMonitor
from ..learning.config import AgentConfig
from ..learning.frozen_agent import FrozenAgent
from ..learning.training import train_agent
from ..run.deadline import Deadline
from ..run.folder import RunFolder
from ..run.progress import log_info
from ..run.search_history import SearchHistory
from .config import PruningConfig
from .goal import Goal
from .rounding import plan_without_rounding


def prune_at_once(
    problem: PruningProblem,
    goal: Goal,
    config: PruningConfig,
    folder: RunFolder | None,
    seconds: float | None = None,
) -> SearchResult:
    """Train an agent if there is no decider yet, choose the filters of all layers together, and cut.

    Args:
        problem: The dense network and its data.
        goal: The goal of the run.
        config: The options of the run.
        folder: Folder of the run; None writes nothing.
        seconds: Time limit of the agent's training; None has none.

    Raises:
        ValueError: If pinned filters make the target unreachable, or no candidate is within the bound.
        InexactCutError: If the cut network does not compute what the masked one does.
    """
    journal = folder.journal if folder else None
    clock = journal.begin() if journal else Stopwatch()
    history = SearchHistory()
    decider, evaluations = goal.decider, 0
    if decider is None:
        deadline = None if seconds is None else Deadline(seconds, clock, journal)
        decider, evaluations = _train(problem, goal, config, folder, history, deadline)
    if folder is not None and isinstance(decider, FrozenAgent):
        folder.write(decider.save)  # before anything else can fail
    choice = _choose(problem, decider, goal, config, folder)
    search = {
        "evaluations": evaluations + choice.evaluations,
        "seconds": round(clock.seconds, 1),
        "val_accuracy": choice.outcome.accuracy,
        "val_accuracy_drop": choice.outcome.accuracy_drop,
        "rewards": [round(reward, 4) for reward in history.rewards],
        "candidates": history.columns_by_network().get(problem.name, {}),
    }
    search |= described_heuristic(choice)
    if isinstance(decider, FrozenAgent):
        search["agent"] = decider.trained_on
    plan = broadcast(PruningPlan.from_masks(problem.network, choice.masks))
    unrounded = (
        broadcast(plan_without_rounding(problem, choice, goal.reward, config.constraints))
        if config.constraints.rounding
        else None
    )
    return SearchResult(problem.cut(plan), plan, choice.decider.name, search, unrounded)


def described_heuristic(choice: Choice) -> dict[str, Any]:
    """Return the report's entry on the best heuristic of a choice; none if heuristics took no part."""
    if choice.best_heuristic is None:
        return {}
    name, outcome = choice.best_heuristic
    found = {"name": name, "val_accuracy": outcome.accuracy, "macs_ratio": outcome.macs_ratio}
    return {"best_heuristic": found}


def _train(
    problem: PruningProblem,
    goal: Goal,
    config: PruningConfig,
    folder: RunFolder | None,
    history: SearchHistory,
    deadline: Deadline | None,
) -> tuple[FrozenAgent, int]:
    """Train the agent; return it and the number of candidates that were measured."""
    learning, initial = config.learning, goal.initial_agent
    if initial is not None:
        log_info(f"the search begins with an agent that was {initial.origin}")
    training = train_agent(
        [problem],
        goal.reward,
        learning,
        preferences=True,
        initial_agent=initial,
        seed=config.seed,
        logger=folder.logger if folder else None,
        callbacks=search_callbacks(history, learning, folder),
        history=history,
        is_over=deadline,
    )
    return training.decider, training.evaluations


def _choose(
    problem: PruningProblem, decider: Decider, goal: Goal, config: PruningConfig, folder: RunFolder | None
) -> Choice:
    """Choose among the proposals of the decider, and of the heuristics if the decider is an agent.

    More images count than in the search, partly different ones, as the agent may have overfitted to those.
    """
    journal = folder.journal if folder else None
    few, many = (
        problem.choice_problem(images, seed=config.seed + 1, journal=journal)
        for images in (config.first_look_images, config.choice_images)
    )
    is_agent = config.method == PPO
    choice = choose(
        many,
        decider,
        goal.reward,
        heuristics=heuristics() if is_agent else (),
        first_look=few.evaluator,
    )
    outcome, metric = choice.outcome, metric_name(problem.task)
    latency = "" if outcome.latency_ratio is None else f", latency {outcome.latency_ratio:.1%}"
    log_info(
        f"chosen: {choice.decider.name}, MACs {outcome.macs_ratio:.1%}{latency}, "
        f"{metric} {outcome.accuracy:.2f} % on val before fine-tuning"
    )
    if choice.best_heuristic is not None and choice.decider is decider:
        name, other = choice.best_heuristic
        log_info(f"the best heuristic, {name}, has {other.accuracy:.2f} %")
    return choice


def search_callbacks(
    history: SearchHistory, config: AgentConfig, folder: RunFolder | None
) -> list[BaseCallback]:
    """Create the callbacks of a search: a progress bar, and TensorBoard logging if there is a folder."""
    callbacks: list[BaseCallback] = [ProgressBar(history, config.evaluations)]
    if folder is not None:
        updates = -(-config.evaluations // config.episodes_per_update)  # rounded up
        callbacks.append(SearchMonitor(history, updates))
    return callbacks
