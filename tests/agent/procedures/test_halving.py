"""What the comparison of finalists promises: halving within its epochs, and an agent that earns its win."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.agent import PruningConfig, prune
from secateur.agent.deciders.finalists import ENTRIES, Entries, Finalist, find_finalists
from secateur.agent.procedures import halving as module
from secateur.agent.procedures.halving import Halving, Rung, rungs, total_epochs
from secateur.agent.procedures.search import halves_for
from secateur.agent.procedures.short_recovery import Recovered
from secateur.agent.run.folder import RunFolder
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.checkpoint import Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.tasks import ClassificationTask, Measurement, get_task
from secateur.envs.tasks.held_back import hold_back
from support.deciding import untrained
from support.small import plain_network

IMAGES = 1000


@given(st.integers(1, 40), st.floats(0.01, 100), st.integers(1, 400))
def test_rungs_halve_the_plans_and_share_the_epochs(finalists: int, epochs: float, steps: int) -> None:
    planned = rungs(finalists, epochs, steps)
    assert total_epochs(planned) <= epochs + 1e-6
    if not planned[0].epochs:
        halvings = max(1, math.ceil(math.log2(finalists)))
        assert planned == [Rung(finalists, 0.0)]
        assert steps * epochs < finalists * halvings + 1e-6
        return
    for rung in planned:
        share, whole = steps * epochs / len(planned) / rung.plans, rung.epochs * steps
        assert whole == pytest.approx(round(whole))
        assert share - 1 - 1e-6 <= whole <= share + 1e-6
    assert planned[0].plans == finalists
    assert planned[-1].plans == min(2, finalists)
    assert [rung.is_last for rung in planned] == [False] * (len(planned) - 1) + [True]
    for before, after in itertools.pairwise(planned):
        assert after.plans == math.ceil(before.plans / 2)
        assert after.epochs >= before.epochs
    assert len(rungs(finalists, 0, steps)) == 1


@pytest.mark.parametrize("entries", ENTRIES.values())
def test_the_finalists_take_at_most_half_of_the_recoverys_epochs(entries: Any) -> None:
    assert entries.share <= 0.5


def measurement(right: float, *, first: bool) -> Measurement:
    """Measure a network that has a share of the examples right: the first or the last ones."""
    correct = torch.zeros(IMAGES, dtype=torch.int64)
    count = round(right * IMAGES)
    correct[slice(count) if first else slice(IMAGES - count, None)] = 1
    statistics = torch.stack([correct, torch.ones_like(correct)], 1)
    return Measurement(100 * count / IMAGES, 1 - right, IMAGES, example_statistics=statistics)


@dataclass
class Pretended:
    """Halve finalists whose accuracies are given, and record which of them recovered."""

    problem: PruningProblem
    accuracies: Mapping[str, float]
    monkeypatch: pytest.MonkeyPatch
    folder: RunFolder | None = None
    epochs: int = 10

    def __call__(self, epochs: float = 5.0, **options: Any) -> Any:
        self.recovered: list[tuple[str, float]] = []
        found = find_finalists(self.problem, untrained(samples=8), 0.5, "macs", Entries(3, 5, 1, 0.5))
        names = iter(self.accuracies)
        self.finalists = [replace(one, name=next(names)) for one in self._picked(found)]
        plans = {json.dumps(one.plan(self.problem).kept): one.name for one in self.finalists}

        def recover(
            problem: PruningProblem, plan: PruningPlan, judge: Any, config: Any, epochs: float, **_: Any
        ) -> Recovered:
            name = plans[json.dumps(plan.kept)]
            self.recovered.append((name, epochs))
            right = self.accuracies[name]
            if math.isnan(right):
                raise FloatingPointError("the loss became nan")
            # An agent's plan errs on other images than a heuristic's.
            return Recovered(problem.model, measurement(right, first=not name.startswith("ppo")), 1.0)

        self.monkeypatch.setattr(module, "recover_briefly", recover)
        recovery = RecoveryConfig(epochs=self.epochs)
        halving = Halving(self.problem, self.problem.task, recovery, folder=self.folder)
        return halving(self.finalists, epochs, **options)

    def _picked(self, found: list[Finalist]) -> list[Finalist]:
        """Take as many of the agent's and of heuristics as the names want."""
        is_own = [name.startswith("ppo") for name in self.accuracies]
        own = iter([one for one in found if one.is_own])
        others = iter([one for one in found if not one.is_own])
        return [next(own if each else others) for each in is_own]


@pytest.fixture
def pretend(problem: PruningProblem, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pretended]:
    return lambda accuracies, **options: Pretended(problem, accuracies, monkeypatch, **options)


def test_the_better_half_goes_on_and_has_longer(pretend: Callable[..., Pretended]) -> None:
    accuracies = {"a": 0.5, "b": 0.7, "c": 0.6, "ppo": 0.65}
    halve = pretend(accuracies)
    halved = halve(epochs=8.0)
    assert halve.recovered == [("a", 1.0), ("b", 1.0), ("c", 1.0), ("ppo", 1.0), ("b", 2.0), ("ppo", 2.0)]
    assert halved.winner.name == "b"
    assert halved.report["epochs"] == 8.0
    assert [[one["name"] for one in rung["plans"]] for rung in halved.report["rungs"]] == [
        ["b", "ppo", "c", "a"], ["b", "ppo"],
    ]  # fmt: skip


@pytest.mark.parametrize(("lead", "wins"), [(0.002, False), (0.05, True), (-0.05, False), (0.0, False)])
def test_an_agent_wins_only_where_it_leads_by_more_than_the_noise(
    pretend: Callable[..., Pretended], lead: float, wins: bool
) -> None:
    halved = pretend({"fpgm": 0.8, "ppo": 0.8 + lead})()
    assert halved.winner.is_own == wins
    found = halved.report["lead"]
    assert found["over"] == ("fpgm" if wins else "ppo")
    assert found["points"] == pytest.approx(100 * abs(lead) if wins else -100 * lead)
    low, high = found["interval"]
    assert low <= found["points"] <= high
    assert (low > 0) == (abs(lead) == 0.05)


def test_without_a_recovery_the_best_wins_by_whatever_it_leads(pretend: Callable[..., Pretended]) -> None:
    halve = pretend({"a": 0.5, "fpgm": 0.8, "b": 0.7, "ppo": 0.801}, epochs=0)
    halved = halve(epochs=0)
    assert halved.winner.name == "ppo"
    assert halve.recovered == [(name, 0.0) for name in ("a", "fpgm", "b", "ppo")]
    assert halved.report["lead"]["over"] == "fpgm"


def test_the_best_heuristic_stays_to_the_end_however_many_are_better(
    pretend: Callable[..., Pretended],
) -> None:
    halved = pretend({"a": 0.5, "b": 0.4, "ppo": 0.9, "ppo 2": 0.91, "ppo 3": 0.92})()
    assert {one["name"] for one in halved.report["rungs"][-1]["plans"]} == {"a", "ppo 3"}
    assert halved.winner.name == "ppo 3"


def test_a_plan_whose_training_diverges_is_the_worst(pretend: Callable[..., Pretended]) -> None:
    assert pretend({"a": math.nan, "b": 0.4, "ppo": math.nan})().winner.name == "b"
    assert pretend({"a": 0.1, "ppo": math.nan})().winner.name == "a"


def test_a_metric_without_intervals_lets_the_heuristic_win(pretend: Callable[..., Pretended]) -> None:
    halve = pretend({"a": 0.1, "ppo": 0.9})
    halve.monkeypatch.setattr(module, "drop_interval", lambda *_: None)
    assert halve().winner.name == "a"


def test_one_finalist_wins(pretend: Callable[..., Pretended]) -> None:
    halved = pretend({"a": 0.1})()
    assert halved.winner.name == "a"
    assert halved.report["lead"] is None


@pytest.mark.parametrize(("share", "epochs"), [(1.0, 8.0), (0.5, 4.0), (0.05, 0.0), (0.0, 0.0)])
def test_a_time_limit_shortens_the_rungs_and_is_asked_for_once(
    share: float, epochs: float, pretend: Callable[..., Pretended], tmp_path: Path
) -> None:
    with RunFolder(tmp_path / "run", PruningConfig()) as folder:
        halve = pretend({"a": 0.5, "b": 0.7, "ppo": 0.6, "ppo 2": 0.6}, folder=folder)
        once = halve(epochs=8.0, affordable=lambda: share)
        assert once.report["epochs"] == epochs
        assert sum(trained for _, trained in halve.recovered) == epochs
        again = halve(epochs=8.0, affordable=pytest.fail)
        assert not halve.recovered
        assert again.report == once.report
    assert once.winner.name == "b"


@pytest.mark.parametrize("moment", [1, 10])  # in the first rung, and in the last one
def test_a_comparison_that_was_stopped_goes_on_to_the_same_end(
    problem: PruningProblem, moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RecoveryConfig(epochs=2, batch_size=256, precision="fp32")
    finalists = find_finalists(problem, None, 0.5, "macs", ENTRIES["quick"])
    whole = Halving(problem, problem.task, config)(finalists, 2.0)
    with RunFolder(tmp_path / "run", PruningConfig()) as folder:
        calls = iter(range(1, 10**6))

        def stop() -> None:
            if next(calls) == moment:
                raise Stopped("now")

        monkeypatch.setattr(folder, "check", stop)
        with pytest.raises(Stopped):
            Halving(problem, problem.task, config, folder=folder)(finalists, 2.0)
        resumed = Halving(problem, problem.task, config, folder=folder)(finalists, 2.0)
        assert not list(folder.path.glob("checkpoints/rung*"))
    assert without_seconds(resumed.report) == without_seconds(whole.report)
    assert resumed.winner.name == whole.winner.name


def without_seconds(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key != "seconds"}


@pytest.fixture(scope="module")
def digits() -> ClassificationTask:
    return get_task("digits", root=Path(), val_fraction=0.4)


def test_no_image_is_judged_that_the_search_saw(
    digits: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    batch = ClassificationTask.batch
    is_search = False

    def recording(task: ClassificationTask, split: str, indices: Any, **options: Any) -> Any:
        if split == "val" and is_search:
            seen.extend(indices.tolist())
        return batch(task, split, indices, **options)  # type: ignore[arg-type]

    def begin(*given: Any) -> Any:
        nonlocal is_search
        is_search = True  # the checks before it read val, too
        return halves_for(*given)

    class Spy(Halving):
        def __call__(self, *given: Any, **options: Any) -> Any:
            nonlocal is_search
            is_search = False
            return super().__call__(*given, **options)

    monkeypatch.setattr(ClassificationTask, "batch", recording)
    monkeypatch.setattr("secateur.agent.procedures.choosing.halves_for", begin)
    monkeypatch.setattr("secateur.agent.procedures.choosing.Halving", Spy)
    prune(plain_network(), digits, PruningConfig(evaluations=32, epochs=0, search_images=64))
    apart = hold_back(digits).judge
    assert len(set(seen)) > 64
    assert not {*seen} & {*apart._indices.tolist()}  # type: ignore[attr-defined]


def test_what_a_heuristic_won_is_bit_for_bit_what_it_gives_alone(
    digits: ClassificationTask, tmp_path: Path
) -> None:
    untrained().save(tmp_path)
    options = {"epochs": 2, "seed": 3, "target_macs": 0.4}
    agent = prune(plain_network(), digits, PruningConfig(agent=str(tmp_path), **options))  # type: ignore[arg-type]
    winner = agent.report["search"]["finalists"]["winner"]
    assert not winner.startswith("ppo")
    assert agent.report["method"] == f"ppo (frozen, {winner} was chosen)"
    alone = prune(plain_network(), digits, PruningConfig(method=winner, **options))  # type: ignore[arg-type]
    assert agent.plan == alone.plan
    for name, tensor in agent.model.state_dict().items():
        assert torch.equal(tensor, alone.model.state_dict()[name]), name
    assert agent.report["pruned"]["accuracy"] == alone.report["pruned"]["accuracy"]
    assert agent.report["recovery"]["losses"] == alone.report["recovery"]["losses"]


def test_without_an_agent_the_result_is_the_best_heuristics(digits: ClassificationTask) -> None:
    halves = hold_back(digits)
    problem = PruningProblem.build("plain", plain_network(), halves.search)
    config = RecoveryConfig(epochs=4)
    finalists = find_finalists(problem, None, 0.5, "macs", ENTRIES["quick"])
    halved = Halving(problem, halves.judge, config)(finalists, 2.0)
    last = halved.report["rungs"][-1]["plans"]
    assert halved.winner.name == last[0]["name"]
    assert last[0]["accuracy"] == max(plan["accuracy"] for plan in last)


def test_the_report_says_who_was_in_and_who_won(digits: ClassificationTask) -> None:
    report = prune(plain_network(), digits, PruningConfig(effort="quick", epochs=10)).report
    found = report["search"]["finalists"]
    assert 1 < found["epochs"] <= 2
    assert found["images"] == hold_back(digits).judge.size("val")
    assert [len(rung["plans"]) for rung in found["rungs"]] == [4, 2]
    assert any("never saw, for comparing the finalists" in note for note in report["splits"]["notes"])
    assert report["splits"]["val"] == digits.size("val")
