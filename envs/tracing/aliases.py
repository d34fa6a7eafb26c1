"""Which tensors share memory, so that a write into one of them changes another."""

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class _Place(NamedTuple):
    """Where the elements of a tensor lie in their storage."""

    itemsize: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


class Aliases:
    """Tensors by the memory that they lie in; none of them is kept alive."""

    def __init__(self) -> None:
        self._places: defaultdict[int, WeakTensorKeyDictionary] = defaultdict(WeakTensorKeyDictionary)

    def add(self, tensor: Tensor) -> None:
        """Note where a tensor lies."""
        if tensor.layout == torch.strided:
            self._places[tensor.untyped_storage()._cdata][tensor] = _place(tensor)

    def overlapping(self, tensor: Tensor) -> list[Tensor]:
        """Return all noted tensors that have an element in common with ``tensor``."""
        strided = tensor.layout == torch.strided
        places = self._places.get(tensor.untyped_storage()._cdata) if strided else None
        if not places:
            return []
        here = _place(tensor)
        marks = torch.zeros(
            tensor.untyped_storage().nbytes() // here.itemsize, dtype=torch.bool, device="cpu"
        )
        marks.as_strided(*here[1:]).fill_(True)
        return [
            other
            for other, place in places.items()
            if place.itemsize != here.itemsize or bool(marks.as_strided(*place[1:]).any())
        ]


def _place(tensor: Tensor) -> _Place:
    return _Place(tensor.itemsize, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))
