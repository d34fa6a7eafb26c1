"""What the order of reconstruction promises: the errors that least squares gives.

Shapes: N filters of a layer, C channels of a consumer.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secateur.envs.problem.problem import PruningProblem
from secateur.envs.problem.reconstruction import Reconstruction, reconstructions
from secateur.envs.recovery.compensation import Compensation, Consumer
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import ClassificationTask
from support.small import plain_network


def only_consumers(compensation: Compensation, layer: int) -> list[Consumer]:
    return [consumer for consumer in compensation.consumers if layer in consumer.layers]


def error_by_least_squares(model: nn.Module, consumer: Consumer, gone: list[int]) -> float:
    """Fit the outputs of a consumer anew on the channels that stay, and return the share that is lost."""
    weight = dict(model.named_parameters())[consumer.weight].detach().movedim(consumer.axis, -1).double()
    rows = weight[..., consumer.index].movedim(-2, 0).flatten(1)  # (C, outputs)
    assert consumer.covariance is not None
    stays = [k for k in range(len(rows)) if k not in gone]
    covariance = consumer.covariance.numpy()
    inside = covariance[np.ix_(gone, gone)]
    across = covariance[np.ix_(gone, stays)]
    left = inside - across @ np.linalg.solve(covariance[np.ix_(stays, stays)], across.T) if stays else inside
    lost = rows[gone].numpy()
    total = np.einsum("ko,kl,lo->", rows.numpy(), covariance, rows.numpy())
    return float(np.einsum("ko,kl,lo->", lost, left, lost) / total)


@pytest.fixture(scope="module")
def made(digit_task: ClassificationTask) -> tuple[nn.Module, Compensation, list[Reconstruction]]:
    model = plain_network().eval()
    network = trace_exactly(model, torch.zeros(2, *digit_task.input_shape))
    compensation = Compensation(model, network, digit_task, images=128)
    return model, compensation, reconstructions(model, network, compensation)


def test_errors_are_those_of_a_new_fit_on_the_channels_that_stay(
    made: tuple[nn.Module, Compensation, list[Reconstruction]],
) -> None:
    model, compensation, found = made
    for layer, reconstruction in enumerate(found):
        consumers = only_consumers(compensation, layer)
        assert len(consumers) == 1
        for removed in (1, len(reconstruction.order) // 2, len(reconstruction.order) - 1):
            gone = sorted(reconstruction.order[:removed].tolist())
            expected = error_by_least_squares(model, consumers[0], gone)
            assert reconstruction.errors[removed] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_first_filter_to_go_is_the_one_that_costs_least(
    made: tuple[nn.Module, Compensation, list[Reconstruction]],
) -> None:
    model, compensation, found = made
    for layer, reconstruction in enumerate(found):
        (consumer,) = only_consumers(compensation, layer)
        errors = [error_by_least_squares(model, consumer, [k]) for k in range(len(reconstruction.order))]
        assert int(np.argmin(errors)) == reconstruction.order[0]


def test_errors_start_at_nothing_and_never_fall(problem: PruningProblem) -> None:
    for reconstruction in reconstructions(problem.model, problem.network, problem.compensation):
        assert reconstruction.errors[0] == 0
        assert (np.diff(reconstruction.errors) >= -1e-9).all()
        assert sorted(reconstruction.order) == list(range(len(reconstruction.order)))
        assert (np.argsort(reconstruction.ranks) == reconstruction.order).all()


def test_a_copy_of_a_channel_goes_first_and_costs_nothing(digit_task: ClassificationTask) -> None:
    model = plain_network().eval()
    with torch.no_grad():
        model[0].weight[5] = model[0].weight[2]
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(model[1], name)[5] = getattr(model[1], name)[2]
    network = trace_exactly(model, torch.zeros(2, *digit_task.input_shape))
    compensation = Compensation(model, network, digit_task, images=128)
    first = reconstructions(model, network, compensation)[0]
    assert first.order[0] in (2, 5)
    assert first.errors[1] < 0.05 * first.errors[2]


def test_without_images_the_norm_of_the_consumers_weights_decides(digit_task: ClassificationTask) -> None:
    model = plain_network().eval()
    network = trace_exactly(model, torch.zeros(2, *digit_task.input_shape))
    compensation = Compensation(model, network, digit_task, images=0)
    norms = model[3].weight.detach().transpose(0, 1).flatten(1).norm(dim=1)
    first = reconstructions(model, network, compensation)[0]
    assert first.order.tolist() == torch.argsort(norms, stable=True).tolist()
