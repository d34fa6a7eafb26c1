"""Unusual networks, plans and folders, in all systems of pruning: right numbers, or one clear line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.agent.systems.registry import SYSTEMS
from secateur.envs.cost.config import LatencyConfig
from secateur.envs.cost.profiling import with_latency
from secateur.envs.models import get_model
from secateur.envs.modules.copying import replica
from secateur.envs.modules.modes import fastest_layout
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.sparsity import apply_masks
from secateur.envs.sparsity.filters import filter_masks, kept_filters, unmasked_state
from secateur.envs.surgery import save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import ClassificationTask
from support.pruning_jobs import job_of
from support.small import plain_network


class Shared(nn.Module):
    """Use one convolution under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = self.first
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)).mean((2, 3)))


class Volume(nn.Module):
    """Convolve images as volumes of one plane."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv3d(3, 4, (1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.unsqueeze(2)).mean((2, 3, 4))


class Keywords(nn.Module):
    """Call layers by position, or as ``layer(input=x)``."""

    def __init__(self, *, by_keyword: bool) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.one, self.two, self.scale = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)
        self.by_keyword = by_keyword

    def forward(self, x: Tensor) -> Tensor:
        x = self.call(self.norm, self.call(self.stem, x)).relu()
        x = x + self.call(self.scale, self.call(self.two, self.call(self.one, x).relu()))
        return self.call(self.head, x.mean((2, 3)))

    def call(self, layer: nn.Module, x: Tensor) -> Tensor:
        return layer(input=x) if self.by_keyword else layer(x)


@pytest.mark.parametrize("name", ["agent", "blocks", "rank", "fpgm-int8"])
def test_layers_that_are_called_by_keyword_are_pruned_as_all_others(
    name: str, digit_task: ClassificationTask
) -> None:
    found = []
    for by_keyword in (False, True):
        torch.manual_seed(0)
        model = Keywords(by_keyword=by_keyword)
        problem = PruningProblem.build("keywords", model, digit_task, images=32, compensation_images=32)
        job = job_of(problem, 0.8, epochs=1, effort="quick", search_images=32, compensation_images=32)
        found.append(SYSTEMS[name](job).model.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(*(each.values() for each in found), strict=True))
    assert list(found[0]) == list(found[1])


def test_layers_that_are_called_by_keyword_are_timed(without_clock: None) -> None:
    example = torch.zeros(2, 1, 8, 8)
    models = [Keywords(by_keyword=by_keyword).eval() for by_keyword in (False, True)]
    one, other = (
        with_latency(model, trace_exactly(model, example), (1, 8, 8), LatencyConfig()) for model in models
    )
    assert one.latency is not None
    assert other.latency is not None
    assert np.array_equal(one.latency([8] * len(one.layers)), other.latency([8] * len(one.layers)))


def test_masks_of_a_module_with_two_names_come_off_once() -> None:
    model = Shared()
    plain = replica(model)
    apply_masks(model, {"first.weight": torch.ones(3, 3, 1, 1, dtype=torch.bool)})
    plain.load_state_dict(unmasked_state(model))
    assert torch.equal(plain.second.weight, model.first.weight_orig)


def test_filters_are_found_by_masks_of_vectors_alone(problem: PruningProblem) -> None:
    model, network = replica(problem.model), problem.network
    masks = PruningPlan.dense(network).masks(network)
    masks[0][: len(masks[0]) // 2] = False
    vectors = {name: mask for name, mask in filter_masks(model, network, masks).items() if mask.dim() == 1}
    apply_masks(model, vectors)
    assert all((one == other).all() for one, other in zip(kept_filters(model, network), masks, strict=True))


def test_a_weight_that_is_computed_from_others_gets_no_mask() -> None:
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match=r"^0\.weight is computed from other parameters.*remove_param"):
        apply_masks(model, {"0.weight": torch.ones(3, 3, dtype=torch.bool)})


def test_kernels_of_volumes_keep_their_layout() -> None:
    assert fastest_layout(Volume().eval(), torch.zeros(2, 3, 8, 8)) == torch.contiguous_format


def test_a_plan_with_blocks_names_an_input_on_which_the_network_runs(tmp_path: Path) -> None:
    model = get_model("demo", num_classes=10, in_channels=1).eval()
    network = trace_exactly(model, torch.zeros(2, 1, 8, 8))
    save_pruned(model, PruningPlan.dense(network), tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text()) | {"blocks": ["block1"], "input_shape": [2, 8, 8]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=r"does not run on the plan's input_shape \(2, 8, 8\): "):
        secateur.load(model, tmp_path)


def test_an_input_of_a_plan_is_bounded_before_memory_is_taken() -> None:
    plan = json.loads(PruningPlan.dense(trace_exactly(plain_network(), torch.zeros(2, 1, 8, 8))).to_json())
    huge = json.dumps(plan | {"input_shape": [2**20, 2**20, 8]})
    with pytest.raises(ValueError, match="input_shape of the plan may have 16 sizes and 67,108,864 values"):
        PruningPlan.from_json(huge)


def test_a_network_without_blocks_is_told_so(plain_problem: PruningProblem) -> None:
    with pytest.raises(ValueError, match="demo has no block that can go; take a system that"):
        SYSTEMS["blocks"](job_of(plain_problem, 0.5))


def test_a_training_that_is_shorter_than_the_rounds_has_fewer_of_them(problem: PruningProblem) -> None:
    result = SYSTEMS["iterative"](job_of(problem, 0.5, epochs=1, batch_size=96))  # two steps, four rounds
    assert result.epochs == 1
    assert result.details["rounds"] == 2


def test_a_masked_network_has_a_small_one_without_masks(problem: PruningProblem) -> None:
    job = job_of(problem, 0.5, epochs=0)
    name = next(name for name, weight in job.model.named_parameters() if weight.dim() == 4)
    masked = replica(job.model)
    apply_masks(masked, {name: torch.rand_like(masked.get_parameter(name)) > 0.5})
    network = trace_exactly(masked, torch.zeros(2, 1, 8, 8))
    small = SYSTEMS["small-dense"](dataclasses.replace(job, model=masked, network=network)).model
    assert not nn.utils.prune.is_pruned(small)
