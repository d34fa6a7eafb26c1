"""Layer after layer: what each stage decides about, and that all of them together are one cut.

Shapes: L layers, N filters of a layer.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from secateur.agent import PruningConfig, prune
from secateur.agent.cli import main
from secateur.agent.deciders.baselines import Baseline
from secateur.agent.procedures import layerwise, layerwise_choice
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.cutting import cut, load_pruned, save_pruned
from secateur.envs.surgery.plan import Mask, PruningPlan
from secateur.envs.tasks import ClassificationTask
from secateur.envs.tracing import trace
from secateur.envs.tracing.derived import after_cut, restricted
from secateur.rewards import Outcome, TargetReward, TryAndLearnReward
from support import networks
from support.command_line import refusal
from support.small import plain_network

QUICK = PruningConfig(
    target_macs=0.5,
    method="l2-uniform",
    procedure="layerwise",
    layer_epochs=0,
    epochs=0,
    batchnorm_images=64,
    search_images=64,
)
LEARNED = dataclasses.replace(QUICK, method="ppo", evaluations=32, layer_epochs=1)


class Parts(nn.Module):
    """Split one convolution by a list, so that its two layers lie side by side on every axis."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [6, 8]
        self.stem = nn.Conv2d(3, 14, 3, padding=1)
        self.last = nn.Conv2d(14, 5, 1)
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(self.stem(x), self.parts, dim=1)
        return self.head(torch.relu(self.last(torch.cat([torch.tanh(a), torch.relu(b)], 1))))


NETWORKS = {"unet": networks.UNet, "grouped": networks.GroupedBothKinds, "parts": Parts}


def thinned(filters: int, generator: np.random.Generator) -> Mask:
    mask = generator.random(filters) < 0.6
    mask[generator.integers(filters)] = True
    return mask


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_layer_by_layer_is_one_cut_of_the_dense_network(name: str) -> None:
    torch.manual_seed(0)
    model, generator = NETWORKS[name]().double().eval(), np.random.default_rng(0)
    example = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    network = dense = trace(model, example)
    assert len(dense.layers) > 1
    smaller, plan = model, PruningPlan.dense(dense)
    for index in range(len(dense.layers)):
        mask = thinned(network.layers[index].filters, generator)
        only = restricted(network, index)
        later = PruningPlan.from_masks(only, [mask])
        assert only.macs([mask.sum()]) == dense.macs(plan.then(later).counts(dense))
        assert only.params([mask.sum()]) == dense.params(plan.then(later).counts(dense))
        smaller, plan = cut(smaller, only, later), plan.then(later)
        masks = [np.ones(layer.filters, np.bool_) for layer in network.layers]
        masks[index] = mask
        network = after_cut(network, masks)
        assert sum(p.numel() for p in smaller.parameters()) == network.params(network.widths)
    at_once = cut(model, dense, plan)
    with torch.no_grad():
        assert torch.equal(smaller(example), at_once(example))


def test_the_trace_after_a_cut_is_that_of_the_cut_network() -> None:
    model = networks.UNet().eval()
    example = torch.randn(2, 3, 32, 32)
    dense = trace(model, example)
    generator = np.random.default_rng(1)
    masks = [thinned(layer.filters, generator) for layer in dense.layers]
    derived = after_cut(dense, masks)
    anew = trace(cut(model, dense, PruningPlan.from_masks(dense, masks)), example)
    assert [(x.name, x.filters) for x in derived.layers] == [(x.name, x.filters) for x in anew.layers]
    for one, other in zip(derived.layers, anew.layers, strict=True):
        for a, b in zip(one.slices, other.slices, strict=True):
            assert (a.parameter, a.axis, a.role) == (b.parameter, b.axis, b.role)
            assert np.array_equal(a.index, b.index)


@pytest.mark.parametrize("target", [0.3, 0.5, 0.8])
def test_the_target_is_met_and_not_undercut(problem: PruningProblem, target: float) -> None:
    config = dataclasses.replace(QUICK, target_macs=target)
    result = prune(problem.model, problem.task, config)
    assert target - 0.02 <= result.report["ratios"]["macs"] <= target


def test_the_run_folder_holds_one_cut_of_the_dense_network(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--procedure", "layerwise", "--dense-epochs", "0", "--epochs", "0", "--layer-epochs", "0"]
    words += ["--evaluations", "1", "--search-images", "32"]
    assert main(["prune", "support.small:plain_network", *words, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["method"] == "ppo (layerwise)"
    assert 0.4 <= report["ratios"]["macs"] <= 0.5  # a filter is several hundredths
    places = sorted(path.name for path in (out / "layers").iterdir())
    assert [place.partition("-")[2] for place in places] == [row["name"] for row in report["layers"]]
    assert all((out / "layers" / place / "agent.safetensors").is_file() for place in places)
    assert main(["evaluate", str(out)]) == 0
    events = EventAccumulator(str(out)).Reload()
    for name in ("search/reward", "layerwise/val_accuracy"):
        steps = [event.step for event in events.Scalars(name)]
        assert len(steps) >= len(places)
        assert steps == sorted(set(steps)), name


def test_the_plan_and_the_weights_rebuild_the_network(digit_task: ClassificationTask, tmp_path: Path) -> None:
    model = plain_network()
    before = copy.deepcopy(model.state_dict())
    result = prune(model, digit_task, LEARNED)
    save_pruned(result.model, result.plan, tmp_path)
    images, _ = digit_task.batch("test", torch.arange(8))
    with torch.no_grad():
        assert torch.equal(load_pruned(plain_network, tmp_path)(images), result.model(images))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_each_agent_decides_about_its_own_layer_of_the_network_before_it(
    digit_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, nn.Module]] = []

    def watched(problems: Sequence[PruningProblem], *others: object, **named: object) -> object:
        (one,) = problems
        (layer,) = one.network.layers
        seen.append((layer.name, layer.filters, one.model))
        return trained(problems, *others, **named)  # type: ignore[arg-type]

    trained = layerwise.train_agent
    monkeypatch.setattr(layerwise, "train_agent", watched)
    result = prune(plain_network(), digit_task, LEARNED)
    first, second = result.plan.kept.values()
    assert [(name, filters) for name, filters, _ in seen] == [("0", 10), ("3", 14)]
    assert [tuple(model[3].weight.shape[:2]) for *_, model in seen] == [(14, 10), (14, len(first))]  # type: ignore[index]
    assert len(first) < 10
    assert len(second) < 14


class Proportional:
    """Call the share of kept filters accuracy."""

    dense = None

    def __init__(self) -> None:
        self.evaluations = 0

    def __call__(self, candidates: Sequence[Sequence[Mask]]) -> list[Outcome]:
        self.evaluations += len(candidates)
        ratios = [float(masks[0].mean()) for masks in candidates]
        return [Outcome(100 * r, 100.0, 0.0, 0.0, 1.0, r, r, r) for r in ratios]

    def seconds_per_candidate(self, masks: Sequence[Mask]) -> float:
        return 0.001 * len(masks)


@pytest.mark.parametrize("bound", [5.0, 30.0, 60.0])
def test_a_layer_takes_the_highest_reward_or_stays_whole(problem: PruningProblem, bound: float) -> None:
    one = dataclasses.replace(
        problem,
        network=restricted(problem.network, 0),
        evaluator=Proportional(),
        scores={criterion: scores[:1] for criterion, scores in problem.scores.items()},
    )
    reward = TryAndLearnReward(bound, "filters")
    filters = one.network.layers[0].filters
    ratios = {round(ratio * filters) / filters for ratio in layerwise_choice.KEEP_RATIOS}
    paid = {r: (bound - 100 * (1 - r)) / bound * math.log(1 / r) for r in ratios}
    choice = layerwise_choice.choose_in_layer(one, Baseline("l2", "uniform"), reward)
    if max(paid.values()) <= 0:
        assert choice is None
    else:
        assert choice is not None
        assert choice.masks[0].mean() == max(paid, key=lambda ratio: paid[ratio])
        assert choice.outcome.accuracy_drop < bound


def test_a_drop_bound_holds_at_every_cut(problem: PruningProblem) -> None:
    config = dataclasses.replace(QUICK, target_macs=None, drop_bound=3.0)
    result = prune(problem.model, problem.task, config)
    rows = result.report["search"]["layers"]
    assert [row["name"] for row in rows] == [layer.name for layer in problem.network.layers]
    assert all(row["val_accuracy_drop_before"] < 3 for row in rows if row["kept"] < row["filters"])
    # Measured anew, with batch-norm statistics of other images: a few answers differ.
    assert result.report["search"]["val_accuracy_drop"] <= 5
    assert result.report["ratios"]["filters"] < 1


def test_a_bound_that_no_layer_keeps_is_said(
    problem: PruningProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layerwise.EvaluatorFactory, "evaluator", lambda *_, **__: Proportional())
    config = dataclasses.replace(QUICK, target_macs=None, drop_bound=1.0)
    with pytest.raises(ValueError, match=r"no layer can lose a filter .* raise --drop-bound"):
        prune(problem.model, problem.task, config)


def test_a_frozen_agent_walks_too(digit_task: ClassificationTask, tmp_path: Path) -> None:
    assert main(["train", "demo", "--dense-epochs", "0", "--evaluations", "1", "--out", str(tmp_path)]) == 0
    config = dataclasses.replace(QUICK, method="ppo", agent=tmp_path)
    result = prune(plain_network(), digit_task, config)
    assert result.report["method"] == "ppo (frozen, layerwise)"
    assert result.report["ratios"]["macs"] <= 0.5


def test_nothing_to_remove_leaves_the_network_as_it_is(digit_task: ClassificationTask) -> None:
    model = plain_network()
    result = prune(model, digit_task, dataclasses.replace(QUICK, target_macs=1.0))
    assert result.report["ratios"]["macs"] == 1
    assert result.model is not model


def test_the_price_of_a_layers_filters_is_its_share_of_the_networks_size(
    digit_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewards: list[TargetReward] = []
    trained = layerwise.train_agent

    def watched(problems: object, reward: TargetReward, *others: object, **named: object) -> object:
        rewards.append(reward)
        return trained(problems, reward, *others, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(layerwise, "train_agent", watched)
    prune(plain_network(), digit_task, dataclasses.replace(LEARNED, layer_epochs=0))
    assert len(rewards) == 2
    assert all(reward.size == "filters" for reward in rewards)
    assert all(0 < reward.overshoot_price < TargetReward().overshoot_price for reward in rewards)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--procedure", "layer"], "layerwise"),
        (["--procedure", "layerwise", "--layer-epochs", "-1"], "layer_epochs is -1"),
        (["--procedure", "layerwise", "--target-macs", "0.0001"], "cannot be reached"),
        (["--procedure", "layerwise", "--search-images", "0"], "search_images is 0"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_written(
    wrong: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert said in refusal(["prune", *wrong, "--out", str(out)], capsys)
    assert not out.exists()
