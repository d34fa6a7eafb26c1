"""What the pictures of an agent promise: they show what it looks at, and nothing else."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from secateur.agent.learning.policy import FilterScorer
from secateur.envs.problem.features import FILTER_FEATURES, LAYER_FEATURES, PRIOR
from secateur.envs.problem.problem import PruningProblem

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # scripts import each other
    return importlib.import_module("agent_view")


@pytest.fixture
def untrained() -> FilterScorer:
    return FilterScorer(len(FILTER_FEATURES), len(LAYER_FEATURES), hidden=8)


def test_only_what_an_untrained_agent_looks_at_changes_its_decisions(
    view: ModuleType, problem: PruningProblem, untrained: FilterScorer
) -> None:
    torch.nn.init.zeros_(untrained.score[-1].weight)  # else other features decide between equal filters
    _, changed = view.look(problem, untrained)
    own = {f"filter: {FILTER_FEATURES[PRIOR]}", "layer: needed_keep_ratio", "filter: all", "layer: all"}
    assert {name for name, share in changed.items() if share > 0} == own
    assert len(changed) == len(FILTER_FEATURES) + len(LAYER_FEATURES) + 2


def test_an_agent_that_looks_at_the_target_is_seen_to_do_so(
    view: ModuleType, problem: PruningProblem, untrained: FilterScorer
) -> None:
    target = len(FILTER_FEATURES) + LAYER_FEATURES.index("target")
    with torch.no_grad():
        untrained.embed[0].weight[0, target] = 5.0
        untrained.score[0].weight[0, 0] = 5.0
        untrained.score[-1].weight[0, 0] = 5.0
        untrained.embed[0].weight[0, PRIOR] = 5.0
    _, changed = view.look(problem, untrained)
    assert changed["layer: target"] > 0


def test_curves_are_means_of_keep_probabilities(
    view: ModuleType, problem: PruningProblem, untrained: FilterScorer
) -> None:
    tables, _ = view.look(problem, untrained)
    (own,) = (table for table in tables if table["target"][0] == 0.25)
    (point,) = (point for point in view.curve(own, "target"))
    _, probabilities, left = view.own_episode(problem, untrained, 0.25)
    assert point["keep"] == pytest.approx(np.mean([each.mean() for each in probabilities]), abs=1e-4)
    assert point["macs_left"] == pytest.approx(left, abs=1e-4)

    by_rank = [point["keep"] for point in view.curve(own, "reconstruction")]
    assert by_rank[0] < by_rank[-1]  # the prior has the order of reconstruction


def test_families_are_known_by_the_names_of_networks(view: ModuleType) -> None:
    names = {"resnet20": "ResNet", "mobilenet1": "MobileNetV1", "vgg16": "VGG", "mine": "mine"}
    assert {name: view.family_of(name) for name in names} == names


def test_the_page_shows_the_numbers_of_the_file(view: ModuleType) -> None:
    numbers = json.loads((BENCHMARKS / "agent-view.json").read_text())
    page = (BENCHMARKS.parent / "docs" / "results" / "what-the-agent-looks-at.md").read_text()
    assert [table in page for table in view.tables(**numbers)] == [True, True, True]
