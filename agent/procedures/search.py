"""The search of the filters of all layers together: train an agent, compare with heuristics, choose."""

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from ...envs.modules.ranks import broadcast
from ...envs.problem.problem import PruningProblem
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.surgery.plan import PruningPlan
from ...envs.tasks import Task
from ...envs.tasks.held_back import Halves, hold_back
from ...envs.tasks.optional_members import metric_name
from ...rewards import Outcome
from ..deciders.base import Decider
from ..deciders.baselines import heuristics
from ..deciders.finalists import ENTRIES, Finalist, find_finalists
from ..deciders.names import PPO
from ..deciders.selection import Choice, SearchResult, choose, looks_at
from ..learning.callbacks import ProgressBar, SearchMonitor
from ..learning.config import AgentConfig
from ..learning.frozen_agent import FrozenAgent
from ..learning.training import train_agent
from ..reporting.formatting import lead_of
from ..run.deadline import Deadline
from ..run.folder import RunFolder
from ..run.progress import log_info
from ..run.search_history import SearchHistory
from .config import PruningConfig
from .goal import Goal
from .halving import Halving
from .rounding import plan_without_rounding


def halves_for(task: Task, goal: Goal, config: PruningConfig) -> Halves | None:
    """Hold back one half of val for comparing finalists, where a run has some; else None.

    It has where an agent and heuristics meet the same target; layer by layer all later layers depend on what
    was chosen. A drop bound is checked on that half.
    """
    has_finalists = config.method == PPO and config.procedure == "network" and goal.reward.target is not None
    has_bound = config.bound_after_recovery is not None
    return hold_back(task, config.seed) if has_finalists or has_bound else None


def prune_at_once(
    problem: PruningProblem,
    goal: Goal,
    config: PruningConfig,
    folder: RunFolder | None,
    seconds: float | None = None,
    *,
    halving: Halving | None = None,
    affordable: Callable[[], float] = lambda: 1.0,
    finalists_epochs: float = 0.0,
) -> SearchResult:
    """Train an agent if there is no decider yet, choose the filters of all layers together, and cut.

    Args:
        problem: The dense network and its data.
        goal: The goal of the run.
        config: The options of the run.
        folder: Folder of the run; None writes nothing.
        seconds: Time limit of the agent's training; None has none.
        halving: Compares the agent with heuristics, by short recoveries if the run has a recovery; None
            compares their outcomes on val.
        affordable: Share of the epochs of the short recoveries for which there is time.
        finalists_epochs: Epochs of all short recoveries together; 0 compares finalists as they are cut.

    Raises:
        ValueError: If pinned filters make the target unreachable.
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
    compared: dict[str, Any] = {}
    if halving is None:
        choice = _choose(problem, decider, goal, config, folder)
    else:
        finalists, tried = _find(problem, decider, goal, config, folder)
        with clock.paused():
            halved = halving(finalists, finalists_epochs, affordable)
        winner, compared = halved.winner, {"finalists": halved.report}
        choice = Choice(winner.masks, winner.outcome, tried, winner.decider)
        _say(winner.name, winner.outcome, problem)
        log_info(lead_of(halved.report))
    search = {
        "evaluations": evaluations + choice.evaluations,
        "seconds": round(clock.seconds, 1),
        "val_accuracy": choice.outcome.accuracy,
        "val_accuracy_drop": choice.outcome.accuracy_drop,
        "rewards": [round(reward, 4) for reward in history.rewards],
        "candidates": history.columns_by_network().get(problem.name, {}),
        **compared,
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
    seed, journal = config.seed + 1, folder.journal if folder else None
    on_val = problem.choice_problem(config.choice_images, seed=seed, journal=journal)
    if config.method == PPO:
        looks = looks_at(problem, config.look_images, seed=seed, journal=journal)
        choice = choose(on_val, decider, goal.reward, heuristics=heuristics(), looks=looks)
    else:
        choice = choose(on_val, decider, goal.reward)
    _say(choice.decider.name, choice.outcome, problem)
    if choice.best_heuristic is not None and choice.decider is decider:
        name, other = choice.best_heuristic
        log_info(f"the best heuristic, {name}, has {other.accuracy:.2f} %")
    return choice


def _find(
    problem: PruningProblem, agent: Decider, goal: Goal, config: PruningConfig, folder: RunFolder | None
) -> tuple[list[Finalist], int]:
    """Find the finalists; return them and the number of measurements that it took."""
    target = goal.reward.target
    assert target is not None
    seed, journal, images = config.seed + 1, folder.journal if folder else None, config.look_images[0]
    (look,) = looks_at(problem, [images], seed=seed, journal=journal)
    on_val = problem.choice_problem(images, seed=seed, journal=journal)
    finalists = find_finalists(on_val, agent, target, goal.reward.size, ENTRIES[config.effort], look)
    return finalists, look.evaluations + on_val.evaluator.evaluations


def _say(name: str, outcome: Outcome, problem: PruningProblem) -> None:
    latency = "" if outcome.latency_ratio is None else f", latency {outcome.latency_ratio:.1%}"
    log_info(
        f"chosen: {name}, MACs {outcome.macs_ratio:.1%}{latency}, "
        f"{metric_name(problem.task)} {outcome.accuracy:.2f} % on val before fine-tuning"
    )


def search_callbacks(
    history: SearchHistory, config: AgentConfig, folder: RunFolder | None
) -> list[BaseCallback]:
    """Create the callbacks of a search: a progress bar, and TensorBoard logging if there is a folder."""
    callbacks: list[BaseCallback] = [ProgressBar(history, config.candidates)]
    if folder is not None:
        callbacks.append(SearchMonitor(history, config.updates))
    return callbacks
