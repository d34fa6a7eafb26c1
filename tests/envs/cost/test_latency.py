"""Latency from a table: what it predicts, and what is done with it. No test looks at a clock but one.

Shapes: L layers, P cuts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.prune import random_unstructured

from secateur.agent import PruningConfig, prune
from secateur.agent.cli import main
from secateur.agent.procedures.goal import Goal
from secateur.agent.reporting.report import table
from secateur.envs.cost.config import LatencyConfig
from secateur.envs.cost.counts import size_ratio
from secateur.envs.cost.latency_table import LatencyTable
from secateur.envs.cost.profiling import _is_timed, cut_to, random_counts, with_latency
from secateur.envs.cost.timer import measure_latency, timed_copy
from secateur.envs.modules.reparametrization import with_plain_weights
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tracing import TracedNetwork, trace
from support.networks import OWN, Architecture
from support.small import plain_network, pretended_latency

SHAPE = (1, 8, 8)

SIZED = ("unet", "dcgan generator", "shared twice", "tied weights", "conv3d", "grouped both kinds", "segnet")
"""Architectures whose weights get their sizes in different ways."""


def timed(model: nn.Module, shape: tuple[int, ...] = SHAPE) -> tuple[TracedNetwork, LatencyTable]:
    traced = trace_exactly(model, torch.zeros(2, *shape))
    network = with_latency(model, traced, shape, LatencyConfig())
    assert isinstance(network.latency, LatencyTable)
    return network, network.latency


def weights_called(model: nn.Module, example: Tensor) -> float:
    """Count the weights of all calls of modules that a table holds; they are products of two sizes."""
    counts = []
    hooks = [
        module.register_forward_hook(lambda module, *_: counts.append(module.weight.numel()))
        for module in model.modules()
        if _is_timed(module)
    ]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return float(sum(counts))


@pytest.mark.parametrize("architecture", [a for a in OWN if a.name in SIZED], ids=lambda a: a.name)
def test_every_call_of_every_module_is_predicted_at_its_size(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "secateur.envs.cost.profiling.latency_ms", lambda model, x, **_: weights_called(model, x)
    )
    model = architecture.model().eval()
    network, latency = timed(model, architecture.shape)
    example = torch.zeros(1, *architecture.shape)
    for kept in random_counts(network, 2, seed=7):
        assert latency.terms(kept)[1] == pytest.approx(weights_called(cut_to(model, network, kept), example))


@pytest.mark.parametrize("norm", [weight_norm, nn.utils.weight_norm, nn.utils.spectral_norm])
def test_layers_with_masks_or_norms_of_weights_are_predicted_as_they_ship(
    norm: Callable[[nn.Module], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "secateur.envs.cost.profiling.latency_ms", lambda model, x, **_: weights_called(model, x)
    )
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten()
    )
    model.append(nn.Linear(32, 4)).eval()
    random_unstructured(model[0], "weight", 0.5)
    norm(model[4])
    network, latency = timed(model)
    example = torch.zeros(1, *SHAPE)
    for kept in random_counts(network, 3, seed=7):
        smaller = with_plain_weights(cut_to(model, network, kept))
        assert latency.terms(kept)[1] == pytest.approx(weights_called(smaller, example))


@pytest.mark.usefixtures("without_clock")
def test_many_cuts_are_predicted_at_once() -> None:
    network, latency = timed(plain_network())
    kept = random_counts(network, 6, seed=3).reshape(2, 3, -1)
    assert latency(kept).shape == (2, 3)
    for index in np.ndindex(2, 3):
        assert latency(kept)[index] == pytest.approx(float(latency(kept[index])))


def test_timed_sizes_are_predicted_as_they_were_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def erratic(model: nn.Module, example: Tensor, **_: object) -> float:
        if next(model.children(), None) is not None:
            return 1.0
        return 1 + float(np.sin([*itertools.chain(*(p.shape for p in model.parameters()))]).sum()) ** 2

    monkeypatch.setattr("secateur.envs.cost.profiling.latency_ms", erratic)
    monkeypatch.setattr("secateur.envs.cost.profiling._vector_width", lambda device: 4)
    model = plain_network()
    network, latency = timed(model)
    first, second = latency.knots[0, 0].ravel(), latency.knots[2, 0].ravel()  # of both convolutions
    assert {1, 10, 4, 8} <= set(first.tolist())
    for counts in itertools.product(first, second):
        modules = [
            m for m in cut_to(model, network, np.array(counts)) if next(m.parameters(), None) is not None
        ]
        expected = sum(erratic(module, torch.empty(0)) for module in modules)
        assert latency.terms(counts)[1] == pytest.approx(expected)


def test_multiples_of_the_vector_width_are_faster_where_they_were_timed_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def aligned(model: nn.Module, example: Tensor, **_: object) -> float:
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        return sum(m.out_channels * (1.0 if m.out_channels % 4 == 0 else 3.0) for m in convolutions)

    monkeypatch.setattr("secateur.envs.cost.profiling.latency_ms", aligned)
    monkeypatch.setattr("secateur.envs.cost.profiling._vector_width", lambda device: 4)
    model = plain_network()
    network, latency = timed(model)
    for counts in itertools.product(range(1, 11), range(1, 15)):
        whole = aligned(cut_to(model, network, np.array(counts)), torch.empty(0))
        assert float(latency(counts)) == pytest.approx(whole)


@pytest.mark.usefixtures("without_clock")
def test_the_size_of_a_cut_is_its_share_of_the_dense_latency() -> None:
    model = plain_network()
    network, _ = timed(model)
    kept = random_counts(network, 4, seed=1)
    whole = [pretended_latency(cut_to(model, network, one), torch.zeros(1, *SHAPE)) for one in kept]
    dense = pretended_latency(model, torch.zeros(1, *SHAPE))
    assert size_ratio(network, kept, "latency") == pytest.approx(np.array(whole) / dense)
    assert float(size_ratio(network, network.widths, "latency")) == 1


def test_no_other_size_stands_in_for_a_latency_that_nobody_measured() -> None:
    network = trace(plain_network(), torch.zeros(2, *SHAPE))
    with pytest.raises(ValueError, match="the network has no latency; give it one with"):
        size_ratio(network, network.widths, "latency")
    with pytest.raises(ValueError, match="the network has no latency; give it one with"):
        Goal.resolve(PruningConfig(target_latency=1.0), network)


def test_a_network_is_timed_as_it_is_and_left_as_it_was() -> None:
    model = plain_network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert measure_latency(model, SHAPE, LatencyConfig(batch=3, dtype="bfloat16")) > 0
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_batch_and_data_type_are_those_that_were_asked_for() -> None:
    model, batch = timed_copy(plain_network(), SHAPE, LatencyConfig(batch=3, dtype="bfloat16"))
    assert batch.shape == (3, *SHAPE)
    assert {batch.dtype} == {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 0}, "batch is 0; allowed is at least 1"),
        ({"threads": 0}, "threads is 0; allowed is at least 1"),
        ({"dtype": "int4"}, "'int4'; allowed are float32"),
        ({"device": "tpu"}, "'tpu'"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LatencyConfig(**options)  # type: ignore[arg-type]


def test_a_network_that_does_not_run_as_it_should_be_timed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not run on 1 example of \(2, 8, 8\) in float32"):
        measure_latency(plain_network(), (2, 8, 8), LatencyConfig())


@pytest.mark.usefixtures("without_clock")
def test_a_target_in_milliseconds_is_met(problem: PruningProblem) -> None:
    dense = pretended_latency(problem.model, torch.zeros(1, *SHAPE))
    config = PruningConfig(target_latency=0.6 * dense, method="l2-uniform", epochs=0, search_images=64)
    report = prune(problem.model, problem.task, config).report
    assert report["dense"]["predicted_latency_ms"] == pytest.approx(dense)
    assert 0.55 * dense < report["pruned"]["predicted_latency_ms"] <= 0.6 * dense
    assert report["pruned"]["predicted_latency_ms"] == pytest.approx(report["pruned"]["latency_ms"])
    settings = {"threads": 1, "dtype": "float32", "device": "cpu", "busy": False}
    assert report["latency"] == settings | {"batch": 1}
    assert report["throughput"] == settings | {"batch": 128}
    labels = [str(label) for label in table(report).columns[0].cells]
    assert labels[labels.index("latency, batch 1") + 1] == "predicted latency"


@pytest.mark.usefixtures("without_clock")
@pytest.mark.parametrize("target", ["0.6", "1000"])
def test_a_target_that_cannot_be_set_names_the_dense_and_the_smallest_latency(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prune", "--target-latency", target]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the dense network takes 288.1 ms per batch, the smallest possible cut 0.71 ms" in error
    assert not list(tmp_path.iterdir())
