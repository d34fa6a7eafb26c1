"""What importance scores promise: the numbers of the literature, whatever the order of the filters.

Shapes: N filters of a layer, D weights of a filter.
"""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.problem.criteria import CRITERIA
from secateur.envs.problem.importance import Scores, importance
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network

IMAGES = 64


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    network = plain_network()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in (network[1], network[4]):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            norm.weight[::3] *= -1
            norm.bias[::2] *= -1
    return network


def scored(model: nn.Module, task: ClassificationTask) -> dict[str, Scores]:
    network = trace_exactly(model, torch.zeros(2, *task.input_shape))
    return importance(model, network, task, images=IMAGES, batch_size=IMAGES)


@pytest.fixture(scope="module")
def scores(model: nn.Sequential, digit_task: ClassificationTask) -> dict[str, Scores]:
    return scored(model, digit_task)


def rows(model: nn.Sequential, k: int) -> npt.NDArray[np.float64]:
    """Give the weights of a convolution as (N, D)."""
    return model[k].weight.detach().double().flatten(1).numpy()


def test_norms_are_those_of_the_filters_weights(model: nn.Sequential, scores: dict[str, Scores]) -> None:
    for layer, k in enumerate((0, 3)):
        np.testing.assert_allclose(scores["l1"][layer], np.abs(rows(model, k)).sum(1), rtol=1e-5)
        np.testing.assert_allclose(scores["l2"][layer], np.sqrt((rows(model, k) ** 2).sum(1)), rtol=1e-5)


def test_batch_norm_scores_are_the_scale_without_sign_and_the_shift_with_it(
    model: nn.Sequential, scores: dict[str, Scores]
) -> None:
    for layer, k in enumerate((1, 4)):
        np.testing.assert_allclose(scores["bn"][layer], model[k].weight.detach().abs().numpy(), rtol=1e-6)
        np.testing.assert_allclose(scores["bn_bias"][layer], model[k].bias.detach().numpy(), rtol=1e-6)


def test_fpgm_is_the_sum_of_distances_to_the_other_filters(
    model: nn.Sequential, scores: dict[str, Scores]
) -> None:
    for layer, k in enumerate((0, 3)):
        w = rows(model, k)
        distances = np.sqrt(((w[:, None] - w[None]) ** 2).sum(-1)).sum(1)
        np.testing.assert_allclose(scores["fpgm"][layer], distances, rtol=1e-5)


def test_fpgm_of_equal_filters_is_zero_however_many_there_are(digit_task: ClassificationTask) -> None:
    wide = nn.Sequential(
        nn.Conv2d(1, 40, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 10)
    )
    with torch.no_grad():
        wide[0].weight.copy_(wide[0].weight[:1].expand(40, -1, -1, -1))
    assert not scored(wide, digit_task)["fpgm"][0].any()


def test_consumer_is_the_norm_of_the_weights_that_read_the_channel(
    model: nn.Sequential, scores: dict[str, Scores]
) -> None:
    for layer, k in enumerate((3, 8)):
        read = model[k].weight.detach().double().transpose(0, 1).flatten(1).numpy()
        np.testing.assert_allclose(scores["next_layer_l2"][layer], np.sqrt((read**2).sum(1)), rtol=1e-5)


def gated_loss(
    model: nn.Sequential, task: ClassificationTask, gates: dict[int, torch.Tensor]
) -> torch.Tensor:
    """Give the loss with gates (N,) on some modules' outputs, on the images that Taylor scores come from."""
    chosen = torch.randperm(task.size("train"), generator=torch.Generator().manual_seed(0))[:IMAGES]
    x, targets = task.batch("train", chosen)
    x = x.to(next(model.parameters()).dtype)
    for k, module in enumerate(model):
        x = module(x)
        if k in gates:
            x = x * gates[k].view(1, -1, 1, 1)
    return F.cross_entropy(x, targets)


def test_taylor_is_the_squared_derivative_of_the_loss_by_a_gate_on_the_channel(
    model: nn.Sequential, digit_task: ClassificationTask, scores: dict[str, Scores]
) -> None:
    gates = {2: torch.ones(10, requires_grad=True), 5: torch.ones(14, requires_grad=True)}
    found = torch.autograd.grad(gated_loss(model, digit_task, gates), list(gates.values()))
    for score, derivative in zip(scores["taylor"], found, strict=True):
        np.testing.assert_allclose(score, derivative.square().numpy(), rtol=2e-3, atol=1e-9)


def test_taylor_is_what_a_small_step_of_the_gate_changes(
    model: nn.Sequential, digit_task: ClassificationTask, scores: dict[str, Scores]
) -> None:
    double = copy.deepcopy(model).double()
    step = 1e-4
    for filter_ in range(0, 10, 3):
        losses = []
        for sign in (1, -1):
            gate = torch.ones(10, dtype=torch.float64)
            gate[filter_] += sign * step
            with torch.no_grad():
                losses.append(float(gated_loss(double, digit_task, {2: gate})))
        change = ((losses[0] - losses[1]) / (2 * step)) ** 2
        assert scores["taylor"][0][filter_] == pytest.approx(change, rel=1e-3, abs=1e-7)


def test_taylor_is_the_mean_over_batches(model: nn.Sequential, digit_task: ClassificationTask) -> None:
    network = trace_exactly(model, torch.zeros(2, *digit_task.input_shape))
    chosen = torch.randperm(digit_task.size("train"), generator=torch.Generator().manual_seed(0))[:IMAGES]
    squares = []
    for part in chosen.split(IMAGES // 2):
        gate = torch.ones(10, requires_grad=True)
        x, targets = digit_task.batch("train", part)
        loss = F.cross_entropy(model[3:](model[:3](x) * gate.view(1, -1, 1, 1)), targets)
        squares.append(torch.autograd.grad(loss, [gate])[0].numpy() ** 2)
    found = importance(model, network, digit_task, images=IMAGES, batch_size=IMAGES // 2)["taylor"][0]
    np.testing.assert_allclose(found, np.mean(squares, axis=0), rtol=1e-2, atol=1e-10)


def test_taylor_of_a_stream_counts_all_that_read_it(problem: PruningProblem) -> None:
    """A residual stream of the demo CNN is read by the next block and by the convolution after it."""
    model, task = problem.model, problem.task
    gate = torch.ones(32, requires_grad=True)
    chosen = torch.randperm(task.size("train"), generator=torch.Generator().manual_seed(0))[:IMAGES]
    x, targets = task.batch("train", chosen)
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args: (args[0] * gate.view(1, -1, 1, 1),)
        )
        for name in ("block1.conv1", "down")
    ]
    try:
        (derivative,) = torch.autograd.grad(F.cross_entropy(model(x), targets), [gate])
    finally:
        for hook in hooks:
            hook.remove()
    found = importance(model, problem.network, task, images=IMAGES, batch_size=IMAGES)["taylor"][0]
    np.testing.assert_allclose(found, derivative.square().numpy(), rtol=2e-3, atol=1e-8)


def test_scores_of_coupled_producers_add_up(problem: PruningProblem) -> None:
    layer = next(k for k, one in enumerate(problem.network.layers) if len(one.producers) == 3)
    producers = [problem.model.get_submodule(name) for name in problem.network.layers[layer].producers]
    total = sum(producer.weight.detach().flatten(1).norm(dim=1) for producer in producers)
    np.testing.assert_allclose(problem.scores["l2"][layer], total.numpy(), rtol=1e-5)


def test_permuting_the_filters_permutes_the_scores(
    model: nn.Sequential, digit_task: ClassificationTask, scores: dict[str, Scores]
) -> None:
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    permuted = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (permuted[0].weight, *permuted[1].state_dict().values()):
            if tensor.dim():
                tensor.copy_(tensor[order].clone())
        permuted[3].weight.copy_(model[3].weight[:, order])
    found = scored(permuted, digit_task)
    for criterion in (*CRITERIA, "next_layer_l2", "bn_bias"):
        np.testing.assert_allclose(
            found[criterion][0], scores[criterion][0][order.numpy()], rtol=1e-3, atol=1e-7, err_msg=criterion
        )
        np.testing.assert_allclose(found[criterion][1], scores[criterion][1], rtol=1e-3, atol=1e-7)


def test_scoring_leaves_the_model_as_it_was(model: nn.Sequential, digit_task: ClassificationTask) -> None:
    frozen = copy.deepcopy(model).train()
    frozen[1].eval()
    frozen[3].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    modes = [module.training for module in frozen.modules()]
    scored(frozen, digit_task)
    assert all(torch.equal(before[name], tensor) for name, tensor in frozen.state_dict().items())
    assert [module.training for module in frozen.modules()] == modes
    assert not frozen[3].weight.requires_grad
    assert frozen[0].weight.requires_grad
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_an_error_in_the_loss_leaves_the_model_as_it_was(
    model: nn.Sequential, digit_task: ClassificationTask
) -> None:
    class Lossless(ClassificationTask):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            raise RuntimeError("no loss today")

    task = copy.copy(digit_task)
    object.__setattr__(task, "__class__", Lossless)
    frozen = copy.deepcopy(model).train().requires_grad_(False)
    with pytest.raises(RuntimeError, match="no loss today"):
        scored(frozen, task)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(module.training for module in frozen.modules())


def test_scores_are_finite_and_one_a_filter(problem: PruningProblem) -> None:
    assert set(CRITERIA) <= set(problem.scores)
    for by_layer in problem.scores.values():
        assert [len(score) for score in by_layer] == problem.network.widths.tolist()
        assert all(np.isfinite(score).all() for score in by_layer)
