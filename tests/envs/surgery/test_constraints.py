"""Constraints on a cut beside its size: everybody who decides keeps them, and who asks for nonsense is told.

Shapes: L layers, N filters of a layer.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torchvision import models
from torchvision.models.resnet import Bottleneck

from secateur.agent import PruningConfig, prune
from secateur.agent.cli import main
from secateur.agent.deciders.base import Budget, Decider
from secateur.agent.deciders.baselines import Baseline
from secateur.agent.deciders.names import BASELINES
from secateur.envs.cost.counts import smallest_ratio
from secateur.envs.environment.episode import Episode
from secateur.envs.problem.criteria import CRITERIA
from secateur.envs.problem.features import STANDARDISED, static_features
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.problem.reconstruction import Reconstruction
from secateur.envs.surgery.constrained_trace import constrain, trace_constrained
from secateur.envs.surgery.constraints import Constraints
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import Mask, PruningPlan, resize_mask
from secateur.envs.surgery.verification import trace_exactly, verify_cut
from secateur.envs.tasks import ClassificationTask
from secateur.envs.tracing import Cause, Pin, TracedNetwork, trace
from secateur.rewards import TargetReward
from support.command_line import refusal
from support.deciding import counts, ratio, untrained
from support.networks import OWN, Architecture, GroupedBothKinds
from support.small import plain_network

MOBILE = {"num_classes": 4, "width_mult": 0.25, "inverted_residual_setting": [[1, 16, 1, 1], [6, 24, 2, 2]]}
RESNEXT = {"block": Bottleneck, "layers": [1, 1, 1, 1], "num_classes": 4, "groups": 8, "width_per_group": 4}
GROUPED = [
    Architecture("mobilenet", lambda: models.MobileNetV2(**MOBILE), (3, 32, 32)),
    Architecture("shufflenet", lambda: models.ShuffleNetV2([1, 1, 1], [8, 16, 24, 32, 32], 4), (3, 32, 32)),
    Architecture("resnext", lambda: models.ResNet(**RESNEXT), (3, 32, 32)),
]
VARIED = ("demo", "unet", "norms and slopes", "tied weights", "sizes by attribute", "grouped both kinds")
SMALL = [*(architecture for architecture in OWN if architecture.name in VARIED), *GROUPED]
DECIDERS: list[Decider] = [*map(Baseline.from_name, BASELINES[::4]), untrained(samples=1)]


@functools.cache
def traced(name: str) -> tuple[nn.Module, TracedNetwork]:
    architecture = next(a for a in SMALL if a.name == name)
    model = architecture.model()
    return model, trace(model, architecture.example())


def problem_of(model: nn.Module, network: TracedNetwork, seed: int = 0) -> PruningProblem:
    """Make a problem of random scores, for deciders that measure nothing."""
    drawn = np.random.default_rng(seed)
    scores = {
        name: [drawn.random(n) for n in network.widths] for name in dict.fromkeys((*CRITERIA, *STANDARDISED))
    }
    whole = [Reconstruction(np.arange(n), np.linspace(0, 1, n + 1)) for n in network.widths]
    features = static_features(network, scores, whole)
    return PruningProblem("drawn", model, network, None, None, None, scores, features)  # type: ignore[arg-type]


def assert_kept(limits: Constraints, model: nn.Module, network: TracedNetwork, masks: list[Mask]) -> None:
    """Look at the cut network: where a producer had a multiple of the step, it still has one."""
    step, share = limits.round_to.get("*", 1), limits.max_sparsity.get("*", 1.0)
    smaller = dict(cut(model, network, PruningPlan.from_masks(network, masks)).named_parameters())
    dense = dict(model.named_parameters())
    for layer, mask in zip(network.layers, masks, strict=True):
        assert mask.sum() >= max(1, layer.filters * (1 - share) - 1e-9)
        for where in layer.slices:
            size = dense[where.parameter].shape[where.axis] if where.parameter in dense else 0
            if where.role == "producer" and size % step == 0:
                assert smaller[where.parameter].shape[where.axis] % step == 0


@settings(max_examples=25)
@given(
    name=st.sampled_from([a.name for a in SMALL]),
    decider=st.sampled_from(DECIDERS),
    step=st.sampled_from([1, 2, 4, 8]),
    share=st.none() | st.floats(0.3, 0.95),
    room=st.floats(0.0, 1.0),
    seed=st.integers(0, 100),
)
def test_all_that_decides_keeps_limits_and_size(
    name: str, decider: Decider, step: int, share: float | None, room: float, seed: int
) -> None:
    model, free = traced(name)
    limits = Constraints({"*": step}, max_sparsity={} if share is None else {"*": share})
    problem = problem_of(model, constrain(free, model, limits), seed)
    smallest = smallest_ratio(problem.network, "macs")
    target = smallest + room * (1 - smallest)
    candidates = decider.decide(problem, target, "macs")
    assert candidates
    for masks in candidates:
        assert ratio(problem, masks) <= target + 1e-9
        for layer, mask in zip(problem.network.layers, masks, strict=True):
            assert mask.sum() in layer.allowed
        assert_kept(limits, model, problem.network, masks)
        budget = Budget(problem.network, target, "macs")
        for k, layer in enumerate(problem.network.layers):
            more = counts(masks)
            more[k] = min([n for n in layer.allowed if n > more[k]], default=10**9)
            assert more[k] == 10**9 or not budget.allows(more), "there was room for one more step"


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (Constraints(), range(1, 25)),
        (Constraints({"*": 8}), [8, 16, 24]),
        (Constraints({"*": 16}), [16, 24]),  # all is allowed too
        (Constraints({"*": 32}), range(1, 25)),  # too narrow, so left free
        (Constraints({"*": 8, "0": 4}), [4, 8, 12, 16, 20, 24]),
        (Constraints({"0": 4, "*": 8}), [8, 16, 24]),
        (Constraints({"3": 8}), range(1, 25)),
        (Constraints(max_sparsity={"*": 0.75}), range(6, 25)),
        (Constraints(max_sparsity={"*": 0.9}), range(3, 25)),
        (Constraints({"*": 8}, max_sparsity={"*": 0.5}), [16, 24]),
    ],
)
def test_a_layer_may_keep_these_numbers_of_24_filters(limits: Constraints, allowed: Any) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 24, 1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 20, 1), nn.Conv2d(20, 4, 1)
    )
    network = trace_constrained(model, torch.randn(2, 3, 4, 4), limits)
    assert network.layers[0].allowed.tolist() == list(allowed)


class Parts(nn.Module):
    """One convolution, the parts of whose channels have different fates."""

    def __init__(self, *parts: int) -> None:
        super().__init__()
        self.parts = list(parts)
        self.stem = nn.Conv2d(3, sum(parts), 1)
        self.heads = nn.ModuleList(nn.Conv2d(part, 4, 1) for part in parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.split(self.stem(x).relu(), self.parts, 1)
        return torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)])


@pytest.mark.parametrize(
    ("parts", "allowed"),
    [
        ((8, 24), ([8], [8, 16, 24])),
        ((12, 20), ([4, 12], [4, 12, 20])),
        ((4, 16), (range(1, 5), range(1, 17))),  # of 20: a multiple only together, so both are left free
    ],
)
def test_layers_that_share_a_producer_have_a_multiple_together(parts: Any, allowed: Any) -> None:
    network = trace_constrained(Parts(*parts), torch.randn(2, 3, 4, 4), Constraints({"stem": 8}))
    assert [layer.allowed.tolist() for layer in network.layers] == [list(counts) for counts in allowed]


def test_pinned_channels_count_too() -> None:
    model, example = Parts(12, 8), torch.randn(2, 3, 4, 4)
    pin = Pin("stem.weight", 0, np.arange(12, 20), Cause("kept"))
    network = constrain(trace_exactly(model, example, pins=[pin]), model, Constraints({"*": 8}))
    assert network.layers[0].allowed.tolist() == [8, 12]  # of the channels 16, or all 20


def test_channels_count_and_not_slots() -> None:
    model = nn.Sequential(nn.Conv2d(3, 24, 1), nn.GroupNorm(6, 24), nn.ReLU(), nn.Conv2d(24, 4, 1))
    network = trace_constrained(model, torch.randn(2, 3, 4, 4), Constraints({"*": 8}))
    assert (network.layers[0].filters, network.layers[0].allowed.tolist()) == (6, [2, 4, 6])


@settings(max_examples=50)
@given(kept=st.lists(st.booleans(), min_size=1, max_size=12), data=st.data())
def test_resizing_changes_as_little_as_it_can(kept: list[bool], data: st.DataObject) -> None:
    mask, count = np.array(kept), data.draw(st.integers(1, len(kept)))
    priorities = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(kept), max_size=len(kept))))
    changed = resize_mask(mask, count, priorities)
    assert changed.sum() == count
    assert (changed >= mask).all() or (changed <= mask).all()
    came, went = changed & ~mask, mask & ~changed
    if came.any() and not changed.all():
        assert priorities[came].min() >= priorities[~changed].max()
    if went.any():
        assert priorities[went].max() <= priorities[changed].min()


def test_an_action_that_breaks_a_limit_is_repaired_by_taylor(problem: PruningProblem) -> None:
    network = constrain(problem.network, problem.model, Constraints({"*": 8}, max_sparsity={"*": 0.6}))
    rounded = dataclasses.replace(problem, network=network)
    drawn = np.random.default_rng(0)
    episode = Episode(rounded, TargetReward(0.5), slots=96)
    for layer, taylor in zip(network.layers, problem.scores["taylor"], strict=True):
        wanted = drawn.random(layer.filters) < 0.55
        info = episode.decide(wanted)
        mask = episode.masks[-1]
        assert mask.sum() in layer.allowed
        assert info["repaired"] == (wanted.sum() not in layer.allowed)
        assert np.array_equal(mask, resize_mask(wanted, layer.nearest_allowed(int(wanted.sum())), taylor))
    everything = Episode(rounded, TargetReward(0.5), slots=96)
    assert not any(everything.decide(np.ones(96))["repaired"] for _ in network.layers)


def test_what_is_seen_as_spent_is_what_has_to_stay(problem: PruningProblem) -> None:
    network = constrain(problem.network, problem.model, Constraints(max_sparsity={"*": 0.5}))
    episode = Episode(dataclasses.replace(problem, network=network), TargetReward(0.5), slots=96)
    spent = episode.observe()["layer"][-6]
    assert spent == pytest.approx(smallest_ratio(network, "macs"), rel=1e-5)


@pytest.mark.parametrize("architecture", [*SMALL, *OWN[12:14]], ids=lambda a: a.name)
def test_a_layer_never_falls_below_one_filter_a_group(architecture: Architecture) -> None:
    model = architecture.model().eval()
    inputs = architecture.example()
    network = trace_exactly(model, inputs)
    smallest = PruningPlan.from_masks(network, [np.arange(layer.filters) < 1 for layer in network.layers])
    smaller = cut(model, network, smallest)
    for module in smaller.modules():
        if isinstance(module, _ConvNd):
            assert module.groups >= 1
            assert module.in_channels >= module.groups
            assert module.out_channels >= module.groups
            assert module.in_channels % module.groups == module.out_channels % module.groups == 0
    for dense, found in zip(
        *(torch.utils._pytree.tree_leaves(m(*inputs)) for m in (model, smaller)), strict=True
    ):
        assert dense.shape == found.shape
        assert found.isfinite().all()
    verify_cut(model, network, smallest, inputs)


@pytest.mark.parametrize("pattern", ["few", "f?w", "[e-g]ew"])
def test_what_is_protected_is_pinned_with_all_that_is_coupled_to_it(pattern: str) -> None:
    model, example = GroupedBothKinds(), torch.randn(2, 3, 8, 8)
    free = trace_exactly(model, example)
    network = trace_constrained(model, example, Constraints(protect=(pattern,)))
    coupled = next(layer for layer in free.layers if "few" in layer.producers)
    assert {la.name for la in free.layers} - {la.name for la in network.layers} == {coupled.name}
    causes = {p.name: p.cause.reason for p in network.pinned}
    assert {causes[producer] for producer in coupled.producers} == {f"protected by --protect {pattern}"}
    plan = PruningPlan.from_masks(network, [np.arange(la.filters) < 1 for la in network.layers])
    assert cut(model, network, plan).few.out_channels == model.few.out_channels


def test_a_target_that_limits_forbid_names_them_and_the_smallest(problem: PruningProblem) -> None:
    for limits in (Constraints({"*": 8}), Constraints(max_sparsity={"*": 0.5})):
        network = constrain(problem.network, problem.model, limits)
        with pytest.raises(ValueError, match=r"--round-to, --protect and --max-sparsity.*ask for at least"):
            Budget(network, 0.01, "macs")
    with pytest.raises(ValueError, match="with one filter left in each of"):
        Budget(problem.network, 1e-5, "macs")


BRIEF = PruningConfig(
    target_macs=0.5,
    round_to=4,
    max_sparsity=0.7,
    epochs=0,
    search_images=64,
)


@pytest.mark.parametrize(
    "wanted", [{"method": "ppo", "evaluations": 32}, {"target_macs": None, "drop_bound": 90.0}]
)
def test_the_whole_job_keeps_limits_and_says_what_rounding_is_worth(
    digit_task: ClassificationTask, wanted: dict[str, Any]
) -> None:
    config = dataclasses.replace(BRIEF, **{"method": "taylor-global", **wanted})
    result = prune(plain_network(), digit_task, config)
    assert len(result.plan.kept["0"]) in (4, 8, 10)
    assert len(result.plan.kept["3"]) in (8, 12, 14)
    found, other = result.report["ratios"]["macs"], result.report["unrounded"]
    assert other["macs_ratio"] <= (0.5 if config.target_macs else found)
    assert other["latency_ms"] > 0


def test_the_command_line_takes_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "prune",
        "--round-to",
        "8",
        "--round-to",
        "hidden=16",
        "--protect",
        "stem.*",
        "--protect",
        "down.0",
    ]
    words += ["--max-sparsity", "0.9", "--max-sparsity", "hidden=0.5", "demo", "--method", "l2-uniform"]
    assert main([*words, "--epochs", "0", "--dense-epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert "latency without rounding" in capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    kept = {layer["name"]: layer["kept"] for layer in report["layers"]}
    assert set(kept) == {"block1.conv1.0", "block2.conv1.0", "pointwise.0", "hidden"}
    assert kept.pop("hidden") in (32, 48, 64)
    assert all(count % 8 == 0 for count in kept.values())
    assert "latency without rounding" in (tmp_path / "run" / "report.html").read_text()


def test_inspect_shows_what_is_protected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--protect", "hidden", "--json", "demo"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert "hidden" not in {layer["name"] for layer in description["layers"]}
    (row,) = (row for row in description["pinned"] if row["name"] == "hidden")
    assert row["reason"] == "protected by --protect hidden"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protect", "hiden"], "no layer is named like 'hiden', did you mean 'hidden'?"),
        (["--protect", "layer9.*"], "`secateur inspect` lists them"),
        (["--protect", "*"], "leaves no filter to prune; protect less"),
        (["--round-to", "0"], "at least 1"),
        (["--round-to", "eight"], "give a number such as 8, or PATTERN=8"),
        (["--round-to", "hidden="], "give a number such as 8"),
        (["--round-to", "hiden=8"], "did you mean 'hidden'?"),
        (["--max-sparsity", "1"], "above 0 and below 1"),
        (["--max-sparsity", "0"], "above 0 and below 1"),
        (["--max-sparsity", "nan"], "above 0 and below 1"),
        (["--max-sparsity", "hidden=half"], "give a number such as 0.8, or PATTERN=0.8"),
        (["--max-sparsity", "hiden=0.5"], "did you mean 'hidden'?"),
        (["--max-sparsity", "0.1", "--target-macs", "0.5"], "ask for at least"),
    ],
)
@pytest.mark.parametrize("verb", ["prune", "train"])
def test_limits_that_make_no_sense_get_one_helpful_line(
    verb: str,
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refusal([verb, "demo", *words], capsys)
    assert not list(tmp_path.iterdir())
