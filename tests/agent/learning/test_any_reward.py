"""Any callable teaches an agent: it is trained, described, kept, and chosen by."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.deciders.selection import choose
from secateur.agent.learning.config import AgentConfig
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.training import train_agent
from secateur.envs import FilterPruningEnv, LockstepVecEnv, PruningProblem
from secateur.envs.problem.features import LAYER_FEATURES
from secateur.rewards import Outcome, TargetReward
from support.rewards import ANY, frugal
from support.toy import ToyEvaluator, toy_of

Judge = Callable[[Outcome], float]


@pytest.fixture(scope="module")
def toy(problem: PruningProblem) -> PruningProblem:
    return toy_of(problem)


@pytest.mark.parametrize("judge", ANY.values(), ids=ANY)
def test_an_agent_learns_from_any_callable_and_is_kept(
    toy: PruningProblem, judge: Judge, tmp_path: Path
) -> None:
    training = train_agent([toy], judge, AgentConfig(16), preferences=True)
    training.decider.save(tmp_path)
    card = json.loads((tmp_path / "agent.json").read_text())["trained_on"]
    assert (card["evaluations"], card["networks"]) == (16, ["demo"])
    assert {"name", "target", "drop_bound", "size"} <= set(card["reward"])
    loaded = FrozenAgent.load(tmp_path)
    assert loaded.trained_on == training.decider.trained_on
    masks = loaded.decide(toy, 0.5, "macs")[0]
    assert toy.evaluator([masks])[0].macs_ratio <= 0.5


@pytest.mark.parametrize("judge", ANY.values(), ids=ANY)
def test_both_environments_take_any_callable(toy: PruningProblem, judge: Judge) -> None:
    single = FilterPruningEnv(toy, judge)
    seen, _ = single.reset(seed=0)
    assert single.observation_space.contains(seen)
    for _ in toy.network.layers:
        *_, info = single.step(np.ones(single.slots))
    outcome = toy.evaluator([[np.ones(layer.filters, np.bool_) for layer in toy.network.layers]])[0]
    assert info["reward"] == float(judge(outcome))
    assert type(info["reward"]) is float
    together = LockstepVecEnv([toy], judge, 2)
    together.reset()
    for _ in toy.network.layers:
        _, rewards, _, _ = together.step(np.ones((2, together.slots)))
    assert rewards == pytest.approx(2 * [judge(outcome)])


def test_a_reward_that_is_false_is_a_reward(toy: PruningProblem) -> None:
    class Empty(list):  # type: ignore[type-arg]
        def __call__(self, outcome: Outcome) -> float:
            return 7.0

    single = FilterPruningEnv(toy, Empty())
    single.reset(seed=0)
    for _ in toy.network.layers:
        _, reward, *_ = single.step(np.ones(single.slots))
    assert reward == 7.0


def test_an_agent_that_never_saw_a_target_is_shown_none(toy: PruningProblem) -> None:
    """What is shown to a frozen agent decides its logits; it has to be what it was trained with."""
    seen: dict[str, np.ndarray] = {}
    for name in ("function", "dataclass"):
        decider = train_agent([toy], ANY[name], AgentConfig(16)).decider
        forward = decider.scorer.forward_actor
        targets = []

        def watched(observation, forward=forward, targets=targets):  # type: ignore[no-untyped-def]
            targets.append(observation["layer"][:, LAYER_FEATURES.index("target")].numpy())
            return forward(observation)

        decider.scorer.forward_actor = watched  # type: ignore[method-assign]
        dataclasses.replace(decider, samples=0).decide(toy, 0.4, "macs")
        seen[name] = np.concatenate(targets)
    assert not seen["function"].any()
    assert seen["dataclass"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("judge", "error", "said"),
    [
        (3, TypeError, "the reward is 3; give a function of an Outcome"),
        (TargetReward, TypeError, "the reward is the class TargetReward"),
    ],
)
def test_what_is_no_reward_is_refused_before_anything_is_measured(
    problem: PruningProblem, judge: Judge, error: type[Exception], said: str
) -> None:
    toy = toy_of(problem)
    for begin in (
        lambda: train_agent([toy], judge, AgentConfig(16)),
        lambda: LockstepVecEnv([toy], judge, 2),
        lambda: FilterPruningEnv(toy, judge),
    ):
        with pytest.raises(error, match=said):
            begin()
    assert toy.evaluator.evaluations == 0


def test_what_cannot_be_written_down_is_refused_before_anything_is_measured(problem: PruningProblem) -> None:
    toy = toy_of(problem)
    agent = train_agent([toy_of(problem)], TargetReward(), AgentConfig(16)).decider
    odd = dataclasses.replace(agent, trained_on={"path": Path("here")})
    with pytest.raises(TypeError, match="Path is not JSON serializable"):
        train_agent([toy], TargetReward(), AgentConfig(16), initial_agent=odd)
    assert toy.evaluator.evaluations == 0


def test_where_no_size_is_wanted_the_highest_reward_is_chosen(toy: PruningProblem) -> None:
    decider = Baseline("l2", "uniform")

    def half(outcome: Outcome) -> float:
        return -abs(outcome.macs_ratio - 0.5)

    asked = toy.evaluator.evaluations
    choice = choose(toy, decider, half)
    assert choice.evaluations == toy.evaluator.evaluations - asked
    assert choice.outcome.macs_ratio == pytest.approx(0.5, abs=0.06)
    assert isinstance(toy.evaluator, ToyEvaluator)
    assert choose(toy, decider, lambda outcome: outcome.accuracy).outcome.accuracy == 100
    assert frugal(choose(toy, decider, frugal).outcome) >= frugal(choice.outcome)
