"""How well consumers do without some filters of a layer, if the kept channels make up for the removed ones.

Saliency criteria look at one filter at a time. With compensation, what counts is what the other channels
cannot take over, and that changes with each removal. So the filters of a layer are removed one after the
other, each time the one that costs its consumers least, and the weights on the kept channels are corrected
(Hassibi and Stork 1993, "Optimal Brain Surgeon", for channels and a layer's own output as in He et al. 2017,
arXiv 1707.06168). Nothing but the covariance of the channels is needed, so a network takes a second.

Shapes: N filters of a layer, C channels of a consumer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..recovery.compensation import Compensation, Consumer
from ..tracing import TracedNetwork

Floats = npt.NDArray[np.float64]

_STEPS = 64
"""Removals for which the costs are computed anew; wide layers lose several filters in each."""

_LEAST = 1e-12
"""Smallest variance that the other channels leave, as a share of a channel's own: copies leave none."""


@dataclass(frozen=True)
class Reconstruction:
    """The order in which the filters of a layer are removed, and what that costs.

    Args:
        order: Filters in the order of their removal, (N,).
        errors: Error of the consumers' outputs after each number of removals, (N + 1,): the variance of the
            difference as a share of the variance of the outputs, mean of the consumers. It starts at 0 and
            does not fall.
    """

    order: npt.NDArray[np.int64]
    errors: Floats

    @property
    def ranks(self) -> npt.NDArray[np.int64]:
        """The rank of each filter, (N,): 0 for the one that is removed first."""
        return np.argsort(self.order)


def reconstructions(
    model: nn.Module, network: TracedNetwork, compensation: Compensation
) -> list[Reconstruction]:
    """Remove the filters of each layer one after the other, the other layers being whole.

    Args:
        model: The dense network; it is not changed.
        network: Its trace.
        compensation: The compensation with the channels' covariances. Without images, channels count as
            uncorrelated with variance 1.
    """
    blocks: list[list[tuple[Tensor, Tensor]]] = [[] for _ in network.layers]
    parameters = dict(model.named_parameters())
    for consumer in compensation.consumers:
        for number, block in _blocks(consumer, parameters, network.widths.tolist()):
            blocks[number].append(block)
    return [_remove_all(layer.filters, own) for layer, own in zip(network.layers, blocks, strict=True)]


def _blocks(
    consumer: Consumer, parameters: Mapping[str, Tensor], widths: Sequence[int]
) -> Iterable[tuple[int, tuple[Tensor, Tensor]]]:
    """Give each layer's part of the weights' products and of the inverse covariance, both (N, N).

    Only these parts change when filters of the layer go and other channels stay.
    """
    weight = consumer.own(parameters[consumer.weight]).detach().double().cpu()
    weights = (
        weight.movedim(consumer.axis, -1)[..., consumer.index].movedim(-2, 0).flatten(1)
    )  # (C, outputs * positions)
    products = weights @ weights.T
    covariance = consumer.covariance
    covariance = torch.eye(len(products)).double() if covariance is None else covariance.cpu()
    products /= (products * covariance).sum().clamp_min(1e-300)
    inverse = torch.linalg.inv(covariance)
    first = 0
    for number in consumer.layers:
        own = slice(first, first + widths[number])
        yield number, (products[own, own].clone(), inverse[own, own].clone())
        first = own.stop


def _remove_all(filters: int, blocks: list[tuple[Tensor, Tensor]]) -> Reconstruction:
    """Remove the filters of a layer, always those that cost least."""
    alive = torch.ones(filters, dtype=torch.bool)
    order: list[int] = []
    steps: list[float] = []
    at_once = -(-filters // _STEPS)
    while len(order) < filters:
        costs = torch.zeros(filters, dtype=torch.float64)
        for products, inverse in blocks:
            costs += products.diagonal().clamp_min(0) / inverse.diagonal().clamp_min(_LEAST)
        costs = (costs / max(1, len(blocks))).masked_fill(~alive, torch.inf)
        gone = torch.argsort(costs, stable=True)[: min(at_once, filters - len(order))]
        for products, inverse in blocks:
            _remove(products, inverse, gone)
        alive[gone] = False
        order += gone.tolist()
        steps += costs[gone].tolist()
    errors = np.concatenate([[0.0], np.cumsum(steps)])
    return Reconstruction(np.array(order, np.int64), errors)


def _remove(products: Tensor, inverse: Tensor, gone: Tensor) -> None:
    """Remove channels from both matrices, in place, with the weights on the others corrected."""
    pivot = torch.linalg.inv(inverse[gone][:, gone])
    coefficients = inverse[:, gone] @ pivot  # of the removed channels' weights in all, (N, removed)
    moved = coefficients @ products[gone]  # (N, N)
    products -= moved + moved.T - coefficients @ products[gone][:, gone] @ coefficients.T
    inverse -= coefficients @ inverse[gone]
    inverse[gone, gone] = 1.0  # their own entries are 0 now
