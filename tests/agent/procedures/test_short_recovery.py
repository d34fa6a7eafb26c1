"""What short recoveries promise: the course of the whole recovery in fewer steps, the same for all plans."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.procedures.short_recovery import recover_briefly, shortened, steps_of
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.checkpoint import Checkpoint, Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.tasks import get_task, measure
from secateur.envs.tasks.held_back import hold_back
from secateur.envs.tasks.intervals import drop_interval

CONFIG = RecoveryConfig(epochs=60, batch_size=64, precision="fp32")


def plan_of(problem: PruningProblem, name: str = "l2-uniform") -> PruningPlan:
    (masks,) = Baseline.from_name(name).decide(problem, 0.5, "macs")
    return PruningPlan.from_masks(problem.network, masks)


def test_the_high_rate_of_the_whole_recovery_is_kept(problem: PruningProblem) -> None:
    rates: list[float] = []
    recover_briefly(problem, plan_of(problem), problem.task, CONFIG, 0.5, on_step=lambda p: note(p, rates))
    assert shortened(CONFIG).recipe.learning_rate == CONFIG.recipe.learning_rate == 0.1
    assert len(rates) == steps_of(0.5, problem.task, CONFIG) > 5
    assert max(rates) > 0.09
    assert rates[-1] < 0.01


def note(progress: Progress, rates: list[float]) -> None:
    rates.append(progress.learning_rate)


def test_epochs_may_be_parts_and_are_at_least_a_step(problem: PruningProblem) -> None:
    whole = steps_of(1, problem.task, CONFIG)
    found = [steps_of(epochs, problem.task, CONFIG) for epochs in (0, 1e-6, 0.5, 1.5, 2)]
    assert found == [0, 1, round(whole / 2), round(1.5 * whole), 2 * whole]


def test_the_judged_images_are_those_of_its_val_and_nothing_else_depends_on_them(
    problem: PruningProblem,
) -> None:
    halves = hold_back(get_task("digits", root=Path(), val_fraction=0.4))
    one, other = (
        recover_briefly(problem, plan_of(problem), task, CONFIG, 0.2)
        for task in (halves.search, halves.judge)
    )
    weights = [found.model.state_dict() for found in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert one.measured.images == halves.search.size("val")
    again = measure(other.model, halves.judge, "val")
    assert (again.accuracy, again.loss) == (other.measured.accuracy, other.measured.loss)


def test_outcomes_are_compared_in_pairs(problem: PruningProblem) -> None:
    one, none = (recover_briefly(problem, plan_of(problem), problem.task, CONFIG, e) for e in (2.0, 0.0))
    interval = drop_interval(problem.task, one.measured, none.measured, 0.8)
    assert interval is not None
    assert interval[0] < one.measured.accuracy - none.measured.accuracy < interval[1]
    assert drop_interval(problem.task, one.measured, one.measured, 0.8) == (0, 0)


def test_without_epochs_only_statistics_change(problem: PruningProblem) -> None:
    found = recover_briefly(problem, plan_of(problem), problem.task, CONFIG, 0)
    cut = problem.cut(plan_of(problem))
    trained = [torch.equal(a, b) for a, b in zip(found.model.parameters(), cut.parameters(), strict=True)]
    assert all(trained)
    assert found.seconds == 0
    assert not found.model.training


@pytest.mark.parametrize("stop_at", [1, 7])
def test_a_stopped_one_goes_on_to_the_same_result(
    problem: PruningProblem, tmp_path: Path, stop_at: int
) -> None:
    checkpoint = Checkpoint(tmp_path / "one.checkpoint")

    def stop(progress: Progress) -> None:
        if progress.finished_steps == stop_at:
            raise Stopped("now")

    whole = recover_briefly(problem, plan_of(problem), problem.task, CONFIG, 1.3)
    with pytest.raises(Stopped):
        recover_briefly(
            problem, plan_of(problem), problem.task, CONFIG, 1.3, checkpoint=checkpoint, on_step=stop
        )
    again = recover_briefly(problem, plan_of(problem), problem.task, CONFIG, 1.3, checkpoint=checkpoint)
    weights = [found.model.state_dict() for found in (whole, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert whole.measured == again.measured
