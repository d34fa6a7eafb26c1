"""Which positions of each tensor stay when filters are removed.

Shapes: N filters of a layer; m positions of a filter on an axis.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..tracing import TracedNetwork
from .plan import Mask

_Parts = list[tuple[int, npt.NDArray[np.int64]]]
"""Numbers of layers, each with the positions of its filters on an axis, (N, m)."""


class TensorSlicer:
    """Cut the tensors of one network by many masks.

    Axes on which the same filters have the same positions, as those of a convolution, its bias and the
    batch-norm after it, get one common index.

    Args:
        network: The trace.
        shapes: Shapes of all parameters and buffers by name.
    """

    def __init__(self, network: TracedNetwork, shapes: Mapping[str, Sequence[int]]) -> None:
        parts: dict[tuple[str, int], _Parts] = {}
        for number, layer in enumerate(network.layers):
            for slice_ in layer.slices:
                parts.setdefault((slice_.parameter, slice_.axis), []).append((number, slice_.index))
        alike: dict[object, tuple[int, _Parts, list[tuple[str, int]]]] = {}
        for (name, axis), found in parts.items():
            size = shapes[name][axis]
            key = size, *((number, index.shape, index.tobytes()) for number, index in found)
            alike.setdefault(key, (size, found, []))[2].append((name, axis))
        self._groups = list(alike.values())

    def kept(self, masks: Sequence[Mask]) -> Iterator[tuple[str, int, Tensor]]:
        """Yield name, axis and kept positions, ascending, of each axis from which something goes.

        Args:
            masks: One keep mask (N,) per layer.
        """
        removed = [~mask for mask in masks]
        some = [bool(gone.any()) for gone in removed]
        for size, parts, places in self._groups:
            if not any(some[number] for number, _ in parts):
                continue
            keep = np.ones(size, np.bool_)
            for number, index in parts:
                keep[index[removed[number]].ravel()] = False
            positions = torch.from_numpy(np.flatnonzero(keep))
            yield from ((name, axis, positions) for name, axis in places)
