"""What removed channels contributed, given back by the channels that stay: in closed form, without labels.

What reads channels reads a weighted sum over them. Over training images a removed channel is fitted by least
squares as a sum of those that stay, and every weight that read it is shared out among theirs in these
proportions. So the readers get about what they got before, the cut network has no more weights than without,
and no step of training is taken. He et al. 2017 (arXiv 1707.06168) fit the readers' weights anew for each
cut; fitting channels instead needs one covariance matrix a reader, of the dense network, for all candidates.

Shapes: C channels that a reader reads, K of them kept and R removed, m positions of a channel on the reader's
axis (several where feature maps are flattened), N filters of a layer, B images, S samples.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..modules.copying import copy_model
from ..modules.modes import restored_modes
from ..surgery.plan import Mask
from ..tasks.base import Task
from ..tasks.optional_members import measuring_batch
from ..tracing import TracedNetwork

COMPENSATION_IMAGES = 512
"""Enough: with 256 or 2048, six candidates of ResNet-20 are as accurate within 0.2 points in the mean."""

POSITIONS = 64
"""Of each image's feature map that are looked at; with 16, or all of them, likewise."""

_MEAN = 0.05
"""Share of the squared mean of what remains that counts as error though a bias makes up for it: at the edges
of a map that is padded with zeros none does. ResNet-20 and VGG-16 are as good with 0 to 0.1 and worse with
0.3 or 1; with 0, maps of a few pixels go wrong."""

RIDGE = 1e-3
"""Added to the diagonal of a covariance, as a share of its mean: channels may be constant, or copies of each
other."""


class Compensation:
    """How the channels that a network reads follow from each other.

    Readers are linear layers and convolutions without groups. Where something else reads a channel, or no
    image reaches the reader, a removed channel just goes.

    Args:
        model: The dense network; it is left as it is.
        network: Its trace.
        task: Training images, augmented as in training; nobody looks at their labels.
        images: How many; with 0 every removed channel just goes.
        seed: Of the choice of images and their augmentation.
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
        self._readers = _readers(model, network)
        if images:
            with restored_modes(model), torch.no_grad(), _ActivationRecorder(model, self._readers):
                model.eval()
                generator = torch.Generator().manual_seed(seed)
                chosen = torch.randperm(task.size("train"), generator=generator)[:images]
                for part in chosen.split(measuring_batch(task, 128)):
                    inputs, _ = task.batch("train", part, augment=True, generator=generator)
                    model(inputs)

    def apply(self, parameters: Mapping[str, Tensor], masks: Sequence[Mask]) -> None:
        """Zero, in place, what reads a removed channel, and share it out among the kept ones.

        Args:
            parameters: By name, with the values of the dense network; those that read no channel may be
                missing.
            masks: One keep mask (N,) a layer.
        """
        tensors = [torch.from_numpy(mask) for mask in masks]
        with torch.no_grad():
            for reader in self._readers:
                if reader.weight in parameters:
                    reader.apply(parameters, tensors)

    def applied(self, model: nn.Module, masks: Sequence[Mask]) -> nn.Module:
        """Copy a dense network and make it ready for a cut.

        Args:
            model: The dense network.
            masks: One keep mask (N,) a layer.
        """
        copied = copy_model(model)
        self.apply(dict(copied.named_parameters()), masks)
        return copied

    @property
    def parameters(self) -> set[str]:
        """Names of all that :meth:`apply` may change; a reader need not have a bias."""
        return {name for reader in self._readers for name in (reader.weight, reader.bias)}


class _ActivationRecorder:
    """Take down what readers read, and which of them batch-norm follows, while a network runs.

    Args:
        model: The network.
        readers: Of its channels.
    """

    def __init__(self, model: nn.Module, readers: Sequence["_Reader"]) -> None:
        self._readers = {  # by the weight's identity, as modules may share it
            id(parameter): [reader for reader in readers if reader.weight == name]
            for name, parameter in model.named_parameters()
        }
        self._unnormalised: dict[int, tuple[Tensor, list[_Reader]]] = {}  # by the output's identity
        self._handles = [model.register_forward_hook(self._settle)]
        for module in model.modules():
            if isinstance(module, nn.Linear) or (isinstance(module, _ConvNd) and module.groups == 1):
                self._handles.append(module.register_forward_hook(self._note))
            elif isinstance(module, _BatchNorm):
                self._handles.append(module.register_forward_pre_hook(self._normalise))

    def __enter__(self) -> None:
        """They watch from the beginning."""

    def __exit__(self, *error: object) -> None:
        """Let them go."""
        for handle in self._handles:
            handle.remove()

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        own = self._readers.get(id(module.weight), [])
        for reader in own:
            reader.note(inputs[0].movedim(1 if isinstance(module, _ConvNd) else -1, 0))
        self._unnormalised[id(output)] = (output, own)

    def _normalise(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._unnormalised.pop(id(inputs[0]), None)

    def _settle(self, *passed: object) -> None:
        for _, own in self._unnormalised.values():
            for reader in own:
                reader.normalised = False
        self._unnormalised.clear()


def _readers(model: nn.Module, network: TracedNetwork) -> list["_Reader"]:
    """List the weights that read channels; those with as many positions a channel are fitted together."""
    parameters = dict(model.named_parameters())
    parts: dict[tuple[str, int, int], list[tuple[int, Tensor]]] = {}
    for number, layer in enumerate(network.layers):
        for where in layer.slices:
            if where.role == "input_channel" and where.parameter in parameters:
                index = torch.from_numpy(where.index)
                parts.setdefault((where.parameter, where.axis, index.shape[1]), []).append((number, index))
    readers = []
    for (weight, axis, _), members in parts.items():
        layers, indices = zip(*members, strict=True)
        readers.append(_Reader(weight, axis, layers, indices, parameters[weight].shape[axis]))
    return readers


class _Reader:
    """A weight that reads channels, and what it reads there.

    Args:
        weight: The parameter's name.
        axis: Of the channels.
        layers: Numbers of the layers whose channels it reads.
        indices: Where these are on the axis, one array (N, m) a layer.
        positions: The length of the axis; other channels than the layers' stay always.
    """

    def __init__(
        self, weight: str, axis: int, layers: tuple[int, ...], indices: tuple[Tensor, ...], positions: int
    ) -> None:
        self.weight = weight
        self.bias = f"{weight.rpartition('.')[0]}.bias".lstrip(".")
        self.layers = layers
        self.normalised = True
        index = torch.cat(indices)
        self._axis = axis
        self._removable = len(index)
        if index.shape[1] == 1:
            rest = np.setdiff1d(np.arange(positions), index.numpy())
            index = torch.cat([index, torch.from_numpy(rest)[:, None]])
        self._index = index  # (C, m)
        self._generator = torch.Generator().manual_seed(0)
        self._samples = 0
        self._sum = self._products = torch.zeros(())  # become (C,) and (C, C), where the network is

    def note(self, channels: Tensor) -> None:
        """Count in what a pass gave the reader.

        Args:
            channels: Shape (positions on the axis, B, ...).
        """
        images = channels.shape[1]
        samples = channels[self._index.to(channels.device).flatten()].reshape(len(self._index), -1)
        if samples.shape[1] > images * POSITIONS:
            drawn = torch.randint(samples.shape[1], (images * POSITIONS,), generator=self._generator)
            samples = samples[:, drawn.to(samples.device)]
        samples = samples.double()  # (C, S); in float32 channels far from zero would drown in rounding errors
        self._samples += samples.shape[1]
        self._sum = self._sum.to(samples) + samples.sum(1)
        self._products = self._products.to(samples) + samples @ samples.T

    def apply(self, parameters: Mapping[str, Tensor], masks: Sequence[Tensor]) -> None:
        """Give the weights of removed channels to the kept ones, in place.

        Args:
            parameters: The reader's weight, and its bias where it has one.
            masks: One keep mask (N,) a layer of the network.
        """
        kept = torch.cat([masks[layer] for layer in self.layers])
        if kept.all():
            return
        kept = torch.cat([kept, kept.new_ones(len(self._index) - self._removable)])
        weight, bias = parameters[self.weight], parameters.get(self.bias)
        gone, staying = self._index[~kept].to(weight.device), self._index[kept].to(weight.device)
        by_channel = weight.movedim(self._axis, -1)  # a view (outputs, ..., positions)
        lost = by_channel.index_select(-1, gone.flatten()).unflatten(-1, gone.shape)  # (outputs, ..., R, m)
        by_channel.index_fill_(-1, gone.flatten(), 0.0)
        if not self._samples:
            return
        shares, missing = self._fit(kept, centred=bias is not None or self.normalised)
        given = lost.transpose(-1, -2) @ shares.to(lost).T  # (outputs, ..., m, K)
        by_channel.index_add_(-1, staying.flatten(), given.transpose(-1, -2).flatten(-2))
        if bias is not None:
            sums = lost.float().reshape(len(lost), -1, *gone.shape).sum((1, 3))  # (outputs, R)
            bias += (sums @ missing.to(sums)).to(bias.dtype)

    def _fit(self, kept: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
        """Fit removed channels by kept ones.

        Args:
            kept: Which channels stay, shape (C,).
            centred: Fit mainly deviations from the mean; a bias, or batch-norm statistics that are taken
                anew, have to make up for the rest.

        Returns:
            What each kept channel takes over of each removed one (K, R), and the mean of what remains (R,).
        """
        mean, moments = self._mean, self._covariance if centred else self._products / self._samples
        staying, gone = (mask.nonzero().flatten().to(mean.device) for mask in (kept, ~kept))
        rows = moments[staying]
        of_kept, crossed = rows[:, staying], rows[:, gone]
        factor = torch.linalg.cholesky(of_kept + self._ridge(moments, len(of_kept)))
        shares = torch.cholesky_solve(crossed, factor)
        missing = mean[gone] - shares.T @ mean[staying] if centred else torch.zeros_like(mean[gone])
        return shares.float(), missing.float()

    def _ridge(self, moments: Tensor, channels: int) -> Tensor:
        """Give what makes (K, K) moments invertible, of constant channels too, but for rounding errors 0."""
        rounding = 1e-9 * (self._products / self._samples).diagonal().mean() + 1e-30
        return (RIDGE * moments.diagonal().mean().clamp(min=0.0) + rounding) * torch.eye(
            channels, device=moments.device
        )

    @functools.cached_property
    def _mean(self) -> Tensor:
        return self._sum / self._samples

    @functools.cached_property
    def _covariance(self) -> Tensor:
        return self._products / self._samples - (1 - _MEAN) * torch.outer(self._mean, self._mean)
