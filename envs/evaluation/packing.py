"""Pickle what measures candidates, for other processes on any device.

Functions and classes that were defined in a notebook or a script go by value (cloudpickle). Tensors on a GPU
arrive on the other process's own.
"""

import io
import pickle
from collections.abc import Sequence
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..io.untrusted import first_line
from ..tasks.base import Task

_LARGEST_TENSOR, _LONGEST = 2**20, 10_000
"""Tensors and arrays of more bytes, and lists of more entries, are data, of which a loss is not expected to
read more than the shape and the type."""

_SAMPLE = 2
"""Entries of the data that go along."""


def pack(thing: Any, *, data: bool = True) -> bytes:
    """Pickle an object.

    Args:
        thing: The object.
        data: Whether data go along as a whole; else the first entries of what is large, and no data sets.

    Raises:
        ValueError: If the object cannot be pickled.
    """
    content = io.BytesIO()
    try:
        _Pickler(content, None if data else thing).dump(thing)
    except Exception as error:  # objects may raise anything
        raise ValueError(
            f"{type(thing).__name__} cannot be sent to another process ({first_line(error)}); give what "
            "pickle accepts, or let this process measure alone"
        ) from error
    return content.getvalue()


def unpack(content: bytes) -> Any:
    """Restore what :func:`pack` has pickled."""
    return _Unpickler(io.BytesIO(content)).load()


def pack_scoring(task: Task, pieces: Sequence[tuple[Tensor, Any]]) -> bytes:
    """Pickle the loss and the metric of a task, without the task's data if they do not read them.

    Args:
        task: The task.
        pieces: Outputs and targets of pieces of val, on which that is tried.

    Raises:
        ValueError: If the task cannot be pickled.
    """
    try:
        content = pack(task, data=False)
        sent = unpack(content)
        if all(_scores(sent, *piece) == _scores(task, *piece) for piece in pieces):
            return content
    except Exception:  # whatever the task does without its data
        pass
    return pack(task)


def _scores(task: Task, outputs: Tensor, targets: Any) -> list[str]:
    with torch.inference_mode():
        statistics = task.statistics(outputs, targets)
        scores = [float(task.loss(outputs, targets)), task.metric(statistics), statistics.tolist()]
    return [*map(repr, scores)]  # as texts, undefined numbers are equal


class _Pickler(cloudpickle.Pickler):
    """Pickle tensors of a GPU as such of any; optionally leave out data.

    Args:
        file: Where to write.
        without_data_of: The object whose data are left out; None leaves out nothing.
    """

    def __init__(self, file: io.BytesIO, without_data_of: Any) -> None:
        self._bare = without_data_of
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)

    def persistent_id(self, thing: Any) -> tuple[Any] | None:
        """Return what goes along in the place of data; None for other objects."""
        return None if self._bare is None or thing is self._bare else _sample_of(thing)

    def reducer_override(self, thing: Any) -> Any:
        """Reduce a tensor on a GPU to one on the CPU."""
        if type(thing) is Tensor and thing.is_cuda:
            return _to_gpu, (thing.detach().cpu(),)
        return super().reducer_override(thing)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, sample: tuple[Any]) -> Any:
        return sample[0]


def _sample_of(thing: Any) -> tuple[Any] | None:
    """Return the first entries of data, in a tuple; None for what is no data."""
    if isinstance(thing, (Dataset, DataLoader)):
        return (None,)
    if isinstance(thing, (Tensor, np.ndarray)):
        if thing.nbytes <= _LARGEST_TENSOR or len(thing) <= _SAMPLE:
            return None
        first = thing[:_SAMPLE]  # a view, whose pickle would have the whole storage
        return (first.clone() if isinstance(first, Tensor) else first.copy(),)
    return (thing[:_SAMPLE],) if isinstance(thing, (list, tuple)) and len(thing) > _LONGEST else None


def _to_gpu(tensor: Tensor) -> Tensor:
    return tensor.cuda() if torch.cuda.is_available() else tensor
