"""What training promises: it learns, it follows its seed, and TensorBoard and the disk hold what it did.

It learns on a toy, whose best decision is known.

Shapes: L layers, N filters of a layer.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.learning.callbacks import ProgressBar, SearchMonitor, SearchRecorder
from secateur.agent.learning.config import AgentConfig
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.training import TrainingResult, train_agent
from secateur.agent.run.search_history import SearchHistory
from secateur.envs.cost.counts import size_ratio
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.plan import Mask
from secateur.rewards import TargetRange, TargetReward
from support.toy import toy_of

TARGET = TargetReward(0.5)
EVALUATIONS = 400


class Remember(BaseCallback):
    """Keep all candidates and their rewards."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards: list[float] = []
        self.masks: list[list[Mask]] = []

    def _on_step(self) -> bool:
        finished = [info for info in self.locals["infos"] if "reward" in info]
        self.rewards += [info["reward"] for info in finished]
        self.masks += [info["masks"] for info in finished]
        return True


@pytest.fixture(scope="module")
def toy(problem: PruningProblem) -> PruningProblem:
    return toy_of(problem)


@pytest.fixture(scope="module")
def learned(toy: PruningProblem) -> tuple[TrainingResult, list[float]]:
    remember = Remember()
    return train_agent([toy], TARGET, AgentConfig(EVALUATIONS), callbacks=[remember]), remember.rewards


def accuracy(problem: PruningProblem, masks: list[Mask]) -> float:
    return problem.evaluator([masks])[0].accuracy


def first(decider: FrozenAgent, problem: PruningProblem) -> list[Mask]:
    return dataclasses.replace(decider, samples=0).decide(problem, 0.5, "macs")[0]


def same(one: list[Mask], other: list[Mask]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_reward_rises(learned: tuple[TrainingResult, list[float]]) -> None:
    _, rewards = learned
    assert len(rewards) == EVALUATIONS
    before, after = np.mean(rewards[:50]), np.mean(rewards[-50:])
    # At its worst the size is missed by a few hundredths, which costs more than all accuracy.
    assert after > before + 0.3
    assert after > -0.15


def test_the_agent_beats_every_constant_decision_at_the_same_macs(
    toy: PruningProblem, learned: tuple[TrainingResult, list[float]]
) -> None:
    """A constant decision keeps every filter of the network with the same probability, whatever it sees."""
    masks = first(learned[0].decider, toy)
    constant = [Baseline("random", "uniform", seed).decide(toy, 0.5, "macs")[0] for seed in range(50)]
    assert accuracy(toy, masks) > max(accuracy(toy, one) for one in constant) + 8
    assert float(size_ratio(toy.network, [mask.sum() for mask in masks], "macs")) <= 0.5


def test_its_decision_varies_with_what_it_sees(
    toy: PruningProblem, learned: tuple[TrainingResult, list[float]]
) -> None:
    decider = learned[0].decider
    ratios = [float(mask.mean()) for mask in first(decider, toy)]
    assert min(ratios) > 0.05
    assert min(ratios) < 0.95
    seen = toy.features
    blind = toy_of(toy, features=dataclasses.replace(seen, filters=[np.zeros_like(f) for f in seen.filters]))
    assert accuracy(toy, first(decider, toy)) > accuracy(toy, first(decider, blind)) + 8


def test_its_decision_goes_with_the_filters_that_it_sees(
    toy: PruningProblem, learned: tuple[TrainingResult, list[float]]
) -> None:
    decider = learned[0].decider
    orders = [np.random.default_rng(0).permutation(layer.filters) for layer in toy.network.layers]
    seen = toy.features
    permuted = toy_of(
        toy,
        features=dataclasses.replace(seen, filters=[f[o] for f, o in zip(seen.filters, orders, strict=True)]),
    )
    here, there = first(decider, toy), first(decider, permuted)
    agree = [np.mean(mask[order] == other) for mask, order, other in zip(here, orders, there, strict=True)]
    assert min(agree) > 0.98  # sums in another order round otherwise


def test_the_same_seed_gives_the_same_agent_and_another_one_another(toy: PruningProblem) -> None:
    one, again, other = (train_agent([toy], TARGET, AgentConfig(48), seed=seed).decider for seed in (3, 3, 4))
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(d.scorer.state_dict().values() for d in (one, again)), strict=True)
    )
    assert same(first(one, toy), first(again, toy))
    assert not same(first(one, toy), first(other, toy))


def test_training_leaves_torchs_random_numbers_alone(toy: PruningProblem) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_agent([toy], TARGET, AgentConfig(16))
    assert torch.equal(torch.rand(3), expected)


def test_a_frozen_agent_says_what_it_was_trained_on(learned: tuple[TrainingResult, list[float]]) -> None:
    training = learned[0]
    assert training.evaluations == EVALUATIONS
    assert training.decider.trained_on == {
        "networks": ["demo"],
        "task": "digits",
        "reward": {"name": "TargetReward", "target": 0.5, "size": "macs", "overshoot_price": 8.0},
        "evaluations": EVALUATIONS,
        "seed": 0,
    }
    assert not training.decider.scorer.training


@pytest.mark.slow
def test_one_agent_of_drawn_targets_meets_every_size_better_than_a_constant_decision(
    toy: PruningProblem,
) -> None:
    agent = train_agent([toy], TargetRange(0.2, 0.9), AgentConfig(EVALUATIONS)).decider
    for target in (0.25, 0.5, 0.8):
        masks = agent.decide(toy, target, "macs")[0]
        constant = [Baseline("random", "uniform", seed).decide(toy, target, "macs")[0] for seed in range(20)]
        assert target - 0.02 <= float(size_ratio(toy.network, [m.sum() for m in masks], "macs")) <= target
        assert accuracy(toy, masks) > max(accuracy(toy, one) for one in constant)


def test_training_goes_on_where_an_agent_stands(
    toy: PruningProblem, learned: tuple[TrainingResult, list[float]]
) -> None:
    remember = Remember()
    further = train_agent(
        [toy], TARGET, AgentConfig(16), initial_agent=learned[0].decider, callbacks=[remember]
    )
    assert np.mean(remember.rewards) > np.mean(learned[1][:50]) + 0.3
    assert further.decider.trained_on["went_on_from"] == learned[0].decider.trained_on


def test_an_agent_that_may_not_try_anything_is_refused(toy: PruningProblem) -> None:
    with pytest.raises(ValueError, match="evaluations is 0; an agent needs at least 1"):
        train_agent([toy], TARGET, AgentConfig(0))


def test_an_agent_of_several_networks_learns_from_both_within_the_budget(
    toy: PruningProblem, plain_problem: PruningProblem
) -> None:
    other = toy_of(plain_problem)
    training = train_agent([toy, other], TARGET, AgentConfig(160, episodes_per_update=8))
    assert min(toy.evaluator.evaluations, other.evaluator.evaluations) > 0
    # Networks of fewer layers finish more often; the update in which the budget ends is carried through.
    assert 160 <= training.evaluations < 160 + 8 * 3
    assert first(training.decider, other)


@pytest.mark.parametrize(
    "reward", [TargetReward(0.3), TargetReward(0.7, "params"), TargetReward(0.4, "filters")]
)
def test_untrained_candidates_lie_near_the_target(toy: PruningProblem, reward: TargetReward) -> None:
    remember = Remember()
    train_agent([toy], reward, AgentConfig(32, episodes_per_update=32), callbacks=[remember])
    sizes = [size_ratio(toy.network, [m.sum() for m in masks], reward.size) for masks in remember.masks]
    assert abs(float(np.mean(sizes)) - reward.target) < 0.06


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluations": -1}, "evaluations is -1; allowed is at least 0"),
        ({"episodes_per_update": 1}, "episodes_per_update is 1; allowed is at least 2"),
        ({"group": 3}, "group is 3; allowed are divisors of the 16 episodes per update"),
        ({"hidden_features": 1.5}, "hidden_features is 1.5; allowed is 0 to 1"),
        ({"epochs_per_update": 0}, "epochs_per_update is 0; allowed is at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; allowed is above 0"),
        ({"clip_range": -0.2}, "clip_range is -0.2; allowed is above 0"),
        ({"entropy_weight": -1.0}, "entropy_weight is -1.0; allowed is at least 0"),
        ({"episodes_per_update": 2.5}, "episodes_per_update is 2.5; allowed is at least 2, a whole number"),
        *(
            ({field.name: odd}, rf"^{field.name} is {odd}; allowed is .*, a (whole|finite) number$")
            for field in dataclasses.fields(AgentConfig)
            for odd in (math.nan, math.inf)
        ),
    ],
)
def test_a_number_out_of_its_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AgentConfig(**settings)


def test_candidates_are_rounded_up_to_whole_updates(toy: PruningProblem) -> None:
    config = AgentConfig(5, episodes_per_update=4)
    assert (config.updates, config.candidates) == (2, 8)
    assert train_agent([toy], TARGET, config).evaluations == config.candidates


@pytest.fixture(scope="module")
def run(toy: PruningProblem, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EventAccumulator]:
    """Give the folder of a short run with all monitors, and what TensorBoard reads from it."""
    folder = tmp_path_factory.mktemp("run")
    logger = configure(str(folder), ["tensorboard", "json"])
    history = SearchHistory()
    callbacks = [SearchMonitor(history, 4), ProgressBar(history, 64)]
    train_agent([toy], TARGET, AgentConfig(64), logger=logger, callbacks=callbacks, history=history)
    logger.close()
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return folder, events


def test_tensorboard_finds_what_the_search_found(
    toy: PruningProblem, run: tuple[Path, EventAccumulator]
) -> None:
    tags = set(run[1].Tags()["scalars"])
    search = (
        "reward",
        "accuracy",
        "accuracy_drop",
        "macs_ratio",
        "params_ratio",
        "loss",
        "meets_target",
        "repaired",
        "evaluations",
    )
    assert {f"search/{name}" for name in search} <= tags
    assert "search/candidates_per_second" in tags
    assert {f"layer/{layer.name}/keep_ratio" for layer in toy.network.layers} <= tags
    assert {"train/clip_fraction", "train/entropy_loss", "train/value_loss"} <= tags


def test_scalars_are_means_over_an_update_one_point_each(run: tuple[Path, EventAccumulator]) -> None:
    evaluations = run[1].Scalars("search/evaluations")
    assert [event.value for event in evaluations] == [16, 32, 48, 64]
    for name in ("reward", "accuracy", "macs_ratio"):
        assert len(run[1].Scalars(f"search/{name}")) == 4
    assert all(0 < event.value <= 1 for event in run[1].Scalars("search/macs_ratio"))
    assert all(0 <= event.value <= 100 for event in run[1].Scalars("search/accuracy"))
    drops = [event.value for event in run[1].Scalars("search/accuracy_drop")]
    assert drops == pytest.approx(
        [100 - event.value for event in run[1].Scalars("search/accuracy")], abs=1e-3
    )


@pytest.mark.parametrize("tag", ["search/layers", "search/candidates", "search/keep_probabilities"])
def test_tensorboard_shows_pictures_of_the_search(run: tuple[Path, EventAccumulator], tag: str) -> None:
    images = run[1].Images(tag)
    assert len(images) == 4
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in images)
    assert images[0].width > images[0].height > 100


def test_other_formats_of_the_log_are_spared_the_figure(run: tuple[Path, EventAccumulator]) -> None:
    lines = (run[0] / "progress.json").read_text().splitlines()
    assert len(lines) == 5  # four updates, and what the last of them came to
    assert not any(name in line for line in lines for name in ("/layers", '/candidates"', "/keep_prob"))


def test_the_budget_counts_from_when_it_was_made(toy: PruningProblem) -> None:
    toy.evaluator.evaluations += 1
    budget = SearchRecorder([toy], 10, SearchHistory())
    assert budget.used == 0
    toy.evaluator.evaluations += 7
    assert budget.used == 7


def test_a_second_training_with_the_same_seed_sees_what_the_first_saw(problem: PruningProblem) -> None:
    parts = problem.choice_problem(100)  # of 359 images: three parts
    parts.evaluator.next_val_subset()
    before = parts.evaluator.dense
    config = AgentConfig(32, episodes_per_update=8)
    one, again = (train_agent([parts], TARGET, config, seed=5).rewards for _ in range(2))
    assert one == again
    assert len(set(one)) == 4
    assert parts.evaluator.dense == before  # nothing that comes later depends on a training


def test_a_training_that_is_stopped_leaves_the_images_that_were_looked_at(problem: PruningProblem) -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            raise KeyboardInterrupt

    parts = problem.choice_problem(100)
    before = parts.evaluator.dense
    with pytest.raises(KeyboardInterrupt):
        train_agent([parts], TARGET, AgentConfig(8, episodes_per_update=8), callbacks=[Stop()])
    assert parts.evaluator.dense == before


@pytest.mark.slow
def test_on_the_real_thing_the_agent_is_better_than_uniform_pruning_by_the_same_criterion(
    problem: PruningProblem,
) -> None:
    training = train_agent([problem], TARGET, AgentConfig(800))
    uniform = Baseline("taylor", "uniform").decide(problem, 0.5, "macs")[0]
    agents, criterions = problem.evaluator([first(training.decider, problem), uniform])
    assert agents.accuracy >= criterions.accuracy
    assert agents.loss < criterions.loss  # accuracies may be equal, as few images are left wrong
