"""Compensation: kept channels take over the contribution of removed ones, in closed form, without labels.

A consumer computes a weighted sum over its channels. Each removed channel is fitted by least squares, over
training images, as a linear combination of the kept ones. Every weight on the removed channel is then added
to the weights on the kept channels in these proportions. So the consumer's outputs stay about the same, the
cut network has no additional weights, and no training step is needed. He et al. 2017 (arXiv 1707.06168) fit
the consumer's weights anew for each cut. Fitting channels instead needs one covariance matrix per consumer,
of the dense network, for all candidates.

Shapes: C channels of a consumer, K of them kept and R removed; m positions of a channel on the consumer's
axis (several if feature maps are flattened); N filters of a layer; B images; S samples.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..modules.copying import replica
from ..modules.inputs import first_input, run_on_copy
from ..modules.modes import restored_modes
from ..surgery.plan import Mask
from ..tasks.base import Task
from ..tasks.training_images import drawn_inputs
from ..tracing import TracedNetwork
from .config import COMPENSATION_IMAGES

POSITIONS = 64
"""Sampled positions per image and feature map; the accuracy is the same with 16 or with all of them."""

_MEAN_WEIGHT = 0.05
"""Weight of the residual's squared mean in the fit. A bias corrects the mean, but not at the edges of a
zero-padded map. ResNet-20 and VGG-16 are equally good with 0 to 0.1 and worse with 0.3 or 1; with 0, maps of
a few pixels fail."""

RIDGE = 1e-3
"""Ridge added to the diagonal of a covariance matrix, as a share of its mean, because channels may be
constant or copies of each other."""


class Compensation:
    """Let the kept channels of a network make up for removed ones.

    Consumers are linear layers and convolutions; each group of a convolution is one. A removed channel is not
    compensated for in other modules, in transposed convolutions with groups, nor in a consumer that no image
    reaches.

    Args:
        model: The dense network; it is not changed.
        network: Its trace.
        task: The task with the training images, augmented as in training; labels are not used.
        images: Number of images, at least 0; 0 turns compensation off.
        seed: Seed for the choice of images and their augmentation.
    """

    def __init__(
        self,
        model: nn.Module,
        network: TracedNetwork,
        task: Task,
        *,
        images: int = COMPENSATION_IMAGES,
        seed: int = 0,
    ) -> None:
        self.consumers = _consumers(model, network)
        if images:
            with restored_modes(model), torch.no_grad(), ActivationRecorder(model, self.consumers):
                model.eval()
                for inputs in drawn_inputs(task, images, seed):
                    run_on_copy(model, inputs)

    def apply(self, parameters: Mapping[str, Tensor], masks: Sequence[Mask]) -> None:
        """Move the weights on removed channels to the kept ones, in place.

        Args:
            parameters: Parameters by name, with the values of the dense network. Only those in
                :attr:`parameters` are needed.
            masks: One keep mask (N,) per layer.
        """
        with torch.no_grad():
            for consumer in self.consumers:
                if consumer.weight in parameters:
                    consumer.apply(parameters, masks)

    def compensated_copy(self, model: nn.Module, masks: Sequence[Mask]) -> nn.Module:
        """Copy the dense network and apply the compensation for a cut to the copy.

        Args:
            model: The dense network.
            masks: One keep mask (N,) per layer.
        """
        copied = replica(model)
        self.apply(dict(copied.named_parameters()), masks)
        return copied

    @property
    def parameters(self) -> set[str]:
        """Names of the parameters that :meth:`apply` may change; biases among them need not exist."""
        return {name for consumer in self.consumers for name in (consumer.weight, consumer.bias)}


class ActivationRecorder:
    """Record the inputs of consumers, and whether batch-norm follows each, while a network runs.

    Args:
        model: The network.
        consumers: The consumers of its channels.
    """

    def __init__(self, model: nn.Module, consumers: Sequence["Consumer"]) -> None:
        self._consumers = {  # by the weight's identity, as modules may share it
            id(parameter): [consumer for consumer in consumers if consumer.weight == name]
            for name, parameter in model.named_parameters()
        }
        self._unnormalised: dict[int, tuple[Tensor, list[Consumer]]] = {}  # by the output's identity
        self._handles = [model.register_forward_hook(self._finish_pass)]
        for module in model.modules():
            if isinstance(module, nn.Linear) or (isinstance(module, _ConvNd) and _is_followed(module)):
                self._handles.append(module.register_forward_hook(self._record, with_kwargs=True))
            elif isinstance(module, _BatchNorm):
                self._handles.append(
                    module.register_forward_pre_hook(self._mark_normalised, with_kwargs=True)
                )

    def __enter__(self) -> None:
        """Do nothing: the hooks are registered already."""

    def __exit__(self, *error: object) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _record(self, module: nn.Module, given: Any, named: Any, output: Tensor) -> None:
        consumers = self._consumers.get(id(module.weight), [])
        for consumer in consumers:
            consumer.accumulate(
                first_input(given, named).movedim(1 if isinstance(module, _ConvNd) else -1, 0)
            )
        self._unnormalised[id(output)] = (output, consumers)

    def _mark_normalised(self, _: nn.Module, given: Any, named: Any) -> None:
        self._unnormalised.pop(id(first_input(given, named)), None)

    def _finish_pass(self, *arguments: object) -> None:
        for _, consumers in self._unnormalised.values():
            for consumer in consumers:
                consumer.normalised = False
        self._unnormalised.clear()


def _consumers(model: nn.Module, network: TracedNetwork) -> list["Consumer"]:
    """List the consumers; channels with equally many positions on a weight's axis are fitted together."""
    parameters = dict(model.named_parameters())
    grouped = {  # by the weight's identity
        id(module.weight): module.groups
        for module in model.modules()
        if isinstance(module, _ConvNd) and _is_followed(module)
    }
    groups: dict[tuple[str, int, int], list[tuple[int, Tensor]]] = {}
    for number, layer in enumerate(network.layers):
        for slice_ in layer.slices:
            if slice_.role == "input_channel" and slice_.parameter in parameters:
                index = torch.from_numpy(slice_.index)
                groups.setdefault((slice_.parameter, slice_.axis, index.shape[1]), []).append((number, index))
    consumers = []
    for (weight, axis, _), members in groups.items():
        layers, indices = zip(*members, strict=True)
        count = grouped.get(id(parameters[weight]), 1)
        consumers += [
            Consumer(weight, axis, layers, indices, parameters[weight].shape[axis], (number, count))
            for number in range(count)
        ]
    return consumers


def _is_followed(module: _ConvNd) -> bool:
    """Return whether the inputs of a convolution's groups are known; transposed ones order them otherwise."""
    return module.groups == 1 or not module.transposed


class Consumer:
    """A weight that consumes channels, and the statistics of these channels.

    Args:
        weight: Name of the parameter.
        axis: Axis of the channels.
        layers: Numbers of the layers whose channels it consumes.
        indices: Positions of these channels on the axis, one array (N, m) per layer.
        positions: Length of the axis; channels of no layer always stay.
        group: Number of the group of a convolution, from 0, and how many there are. A group has its own
            inputs and outputs, and the same channels of each are removed.
    """

    def __init__(
        self,
        weight: str,
        axis: int,
        layers: tuple[int, ...],
        indices: tuple[Tensor, ...],
        positions: int,
        group: tuple[int, int] = (0, 1),
    ) -> None:
        self.weight = weight
        self.bias = f"{weight.rpartition('.')[0]}.bias".lstrip(".")
        self.layers = layers
        self.normalised = True
        self._group = group
        index = torch.cat(indices)
        self.axis = axis
        self._removable = len(index)
        if index.shape[1] == 1:
            rest = np.setdiff1d(np.arange(positions), index.numpy())
            index = torch.cat([index, torch.from_numpy(rest)[:, None]])
        self.index = index  # (C, m)
        self._generator = torch.Generator().manual_seed(0)
        self._samples = 0
        self._sum = self._products = torch.zeros(())  # become (C,) and (C, C), on the network's device

    def accumulate(self, channels: Tensor) -> None:
        """Add the inputs of one forward pass to the statistics.

        Args:
            channels: Inputs of the consumer, shape (positions on the axis, B, ...).
        """
        number, count = self._group
        channels = channels.unflatten(0, (count, -1))[number]
        images = channels.shape[1]
        samples = channels[self.index.to(channels.device).flatten()].reshape(len(self.index), -1)
        if samples.shape[1] > images * POSITIONS:
            chosen = torch.randint(samples.shape[1], (images * POSITIONS,), generator=self._generator)
            samples = samples[:, chosen.to(samples.device)]
        samples = samples.double()  # (C, S); float32 would lose the variance of channels far from zero
        self._samples += samples.shape[1]
        self._sum = self._sum.to(samples) + samples.sum(1)
        self._products = self._products.to(samples) + samples @ samples.T

    def own(self, tensor: Tensor) -> Tensor:
        """Return the group's part of a weight or bias, a view."""
        number, count = self._group
        return tensor.unflatten(0, (count, -1))[number] if count > 1 else tensor

    def apply(self, parameters: Mapping[str, Tensor], masks: Sequence[Mask]) -> None:
        """Move the weights on removed channels to the kept ones, in place.

        Args:
            parameters: Parameters by name; among them the consumer's weight, and its bias if it has one.
            masks: One keep mask (N,) per layer of the network.
        """
        keep = np.ones(len(self.index), np.bool_)
        keep[: self._removable] = np.concatenate([masks[layer] for layer in self.layers])
        if keep.all():
            return
        weight, bias = self.own(parameters[self.weight]), parameters.get(self.bias)
        bias = None if bias is None else self.own(bias)
        gone, stays = (torch.from_numpy(np.flatnonzero(mask)) for mask in (~keep, keep))
        removed, kept = self.index[gone].to(weight.device), self.index[stays].to(weight.device)
        weights = weight.movedim(self.axis, -1)  # a view (outputs, ..., positions)
        # At least float32: a bfloat16 product has a set-up for each new shape.
        wide = torch.promote_types(weight.dtype, torch.float32)
        removed_weights = weights.index_select(-1, removed.flatten()).to(wide)
        removed_weights = removed_weights.unflatten(-1, removed.shape)  # (outputs, ..., R, m)
        weights.index_fill_(-1, removed.flatten(), 0.0)
        if not self._samples:
            return
        gone, stays = gone.to(weight.device), stays.to(weight.device)
        centred = bias is not None or self.normalised
        coefficients = self._fit(stays, gone, centred=centred)
        moved = removed_weights.transpose(-1, -2) @ coefficients.to(removed_weights).T  # (outputs, ..., m, K)
        weights.index_add_(-1, kept.flatten(), moved.transpose(-1, -2).flatten(-2).to(weights.dtype))
        if bias is not None:
            residual_means = (self._mean[gone] - coefficients.T @ self._mean[stays]).float()
            grouped = removed_weights.reshape(len(removed_weights), -1, *removed.shape)
            sums = grouped.sum((1, 3))  # (outputs, R)
            bias += (sums @ residual_means.to(sums)).to(bias.dtype)

    def _fit(self, kept: Tensor, removed: Tensor, *, centred: bool) -> Tensor:
        """Fit removed channels by kept ones.

        Args:
            kept: Numbers of the kept channels, shape (K,).
            removed: Numbers of the removed channels, shape (R,).
            centred: Whether to fit mainly the deviations from the mean. A bias or re-estimated batch-norm
                statistics then have to correct the mean.

        Returns:
            The coefficients of the kept channels in each removed one (K, R).
        """
        rows = (self._covariance if centred else self._moments).index_select(0, kept)
        factor = torch.linalg.cholesky(rows.index_select(1, kept))
        return torch.cholesky_solve(rows.index_select(1, removed), factor)

    def _with_ridge(self, moments: Tensor) -> Tensor:
        """Make moments (C, C) invertible, even for constant channels."""
        rounding = 1e-9 * (self._products / self._samples).diagonal().mean() + 1e-30
        ridge = RIDGE * moments.diagonal().mean().clamp(min=0.0) + rounding
        return moments + ridge * torch.eye(len(moments), device=moments.device)

    @property
    def covariance(self) -> Tensor | None:
        """Covariance of the channels, with a ridge, (C, C); None if no image has reached the consumer."""
        return self._covariance if self._samples else None

    @functools.cached_property
    def _mean(self) -> Tensor:
        return self._sum / self._samples

    @functools.cached_property
    def _moments(self) -> Tensor:
        return self._with_ridge(self._products / self._samples)

    @functools.cached_property
    def _covariance(self) -> Tensor:
        mean = (1 - _MEAN_WEIGHT) * torch.outer(self._mean, self._mean)
        return self._with_ridge(self._products / self._samples - mean)
