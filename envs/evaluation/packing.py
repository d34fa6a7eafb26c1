"""Pickle what measures candidates, for other processes on any device.

Functions and classes that were defined in a notebook or a script go by value (cloudpickle). Tensors on a GPU
arrive on the other process's own.
"""

import io
import pickle
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..io.untrusted import first_line
from ..tasks.base import Task

_LARGEST = 2**20
"""Tensors and arrays of more bytes are data, which a loss is not expected to read."""


def pack(thing: Any, *, data: bool = True) -> bytes:
    """Pickle an object.

    Args:
        thing: The object.
        data: Whether data sets, and tensors and arrays that are large, go along.

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


def pack_scoring(task: Task, outputs: Tensor, targets: Tensor) -> bytes:
    """Pickle the loss and the metric of a task, without the task's data if they do not read them.

    Args:
        task: The task.
        outputs: Some outputs, on which that is tried.
        targets: Their targets.

    Raises:
        ValueError: If the task cannot be pickled.
    """
    try:
        content = pack(task, data=False)
        if _scores(unpack(content), outputs, targets) == _scores(task, outputs, targets):
            return content
    except Exception:  # whatever the task does without its data
        pass
    return pack(task)


def _scores(task: Task, outputs: Tensor, targets: Tensor) -> list[str]:
    with torch.inference_mode():
        statistics = task.statistics(outputs, targets)
        scores = [float(task.loss(outputs, targets)), task.metric(statistics), statistics.tolist()]
    return [*map(repr, scores)]  # as texts, undefined numbers are equal


class Withheld:
    """Stand in the place of data that stayed in the process that has them."""


class _Pickler(cloudpickle.Pickler):
    """Pickle tensors of a GPU as such of any; optionally leave out data.

    Args:
        file: Where to write.
        without_data_of: The object whose data are left out; None leaves out nothing.
    """

    def __init__(self, file: io.BytesIO, without_data_of: Any) -> None:
        self._bare = without_data_of
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)

    def persistent_id(self, thing: Any) -> str | None:
        """Name what is left out."""
        return "data" if self._bare is not None and thing is not self._bare and _is_data(thing) else None

    def reducer_override(self, thing: Any) -> Any:
        """Reduce a tensor on a GPU to one on the CPU."""
        if type(thing) is Tensor and thing.is_cuda:
            return _to_gpu, (thing.detach().cpu(),)
        return super().reducer_override(thing)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, name: str) -> Withheld:
        return Withheld()


def _is_data(thing: Any) -> bool:
    if isinstance(thing, (Tensor, np.ndarray)):
        return thing.nbytes > _LARGEST
    return isinstance(thing, (Dataset, DataLoader))


def _to_gpu(tensor: Tensor) -> Tensor:
    return tensor.cuda() if torch.cuda.is_available() else tensor
