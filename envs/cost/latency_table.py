"""The latency of a network: measured as a whole, or read from a table for any kept counts.

:mod:`.timing` makes the table.

Shapes: C calls of timed modules, L layers, K knots; a call has two axes, those of its weight.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..modules.copying import copy_model
from ..tracing.network import Floats, Ints
from .timer import latency_ms

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class LatencyConfig:
    """What a latency is the latency of.

    Args:
        batch: Examples in one pass, at least 1.
        threads: Of the processor, at least 1.
        dtype: Data type of weights and inputs.
        device: Such as ``cpu`` or ``cuda``; None is the network's own.

    Raises:
        ValueError: If a number is out of its range, the data type is unknown or the device is not there.
    """

    batch: int = 1
    threads: int = 1
    dtype: Precision = "float32"
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"the latency's {name} is {getattr(self, name)}; allowed is at least 1")
        if self.dtype not in get_args(Precision):
            raise ValueError(
                f"the latency's data type is {self.dtype!r}; allowed are {', '.join(get_args(Precision))}"
            )
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
            raise ValueError(
                f"the latency's device is {self.device!r}, which is not there; give another, such as 'cpu'"
            ) from error

    def place(self, model: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
        """Copy a network to where and how it is timed, and make a batch for it.

        Args:
            model: Any network.
            shape: Of one example.

        Raises:
            ValueError: If the network does not run on such a batch.
        """
        device = torch.device(self.device) if self.device else next(model.parameters()).device
        dtype = getattr(torch, self.dtype)
        placed = copy_model(model).to(device, dtype).eval()
        batch = torch.zeros(self.batch, *shape, device=device, dtype=dtype)
        try:
            with torch.inference_mode():
                placed(batch)
        except RuntimeError as error:
            raise ValueError(
                f"the network does not run on {self.batch} examples of {shape} in {self.dtype} on {device}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return placed, batch


def measure_latency(model: nn.Module, shape: tuple[int, ...], config: LatencyConfig) -> float:
    """Time a whole network.

    Args:
        model: Any network; it is copied.
        shape: Of one example.
        config: What is timed.

    Returns:
        Milliseconds a batch; see :func:`.latency_ms`.
    """
    placed, batch = config.place(model, shape)
    return latency_ms(placed, batch, threads=config.threads)


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds a batch by kept counts.

    Args:
        fixed: What stays of an axis, (C, 2).
        slope: What each kept filter adds to an axis, (C, 2, L).
        vector: Multiples of it are sizes of a kind of their own: kernels for others can take twice as long.
        knots: The sizes that were timed, (C, 2, 2, K): along each axis, first those that are no multiples.
        values: Milliseconds at the knots, (C, 2K, 2K).
        activations: Millions of outputs for each unit of an axis, (C, 2).
        coefficients: Milliseconds a pass, the scale of the table, and milliseconds for a million outputs.
    """

    fixed: Ints
    slope: Ints
    vector: int
    knots: Ints
    values: Floats
    activations: Floats
    coefficients: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold, for :meth:`from_dict`."""
        return {
            field.name: value.tolist() if isinstance(value, np.ndarray) else value
            for field in fields(self)
            for value in (getattr(self, field.name),)
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Make the same table again."""
        arrays = {
            name: np.array(value) if isinstance(value, list) else value for name, value in content.items()
        }
        return cls(**arrays | {"coefficients": tuple(content["coefficients"])})

    def __call__(self, kept: npt.ArrayLike) -> Floats:
        """Predict milliseconds a batch, shape (...), for kept filters of each layer, shape (..., L)."""
        terms = self.terms(kept)
        return np.asarray(terms @ np.array(self.coefficients))

    def terms(self, kept: npt.ArrayLike) -> Floats:
        """Give what the coefficients weigh: one, milliseconds of the table, millions of outputs; (..., 3)."""
        sizes = np.tensordot(np.asarray(kept), self.slope, axes=(-1, -1)) + self.fixed  # (..., C, 2)
        outputs = (sizes * self.activations).sum(axis=(-1, -2))
        return np.stack([np.ones_like(outputs), self._interpolated(sizes), outputs], axis=-1)

    def _interpolated(self, sizes: npt.NDArray[np.generic]) -> Floats:
        """Sum the calls' milliseconds, each bilinear between the knots of its sizes' kinds."""
        calls, axes = np.arange(len(self.fixed))[:, None], np.arange(2)
        kind = (sizes % self.vector == 0).astype(np.int64)  # (..., C, 2)
        knots = self.knots[calls, axes, kind]  # (..., C, 2, K)
        below = np.clip((knots <= sizes[..., None]).sum(axis=-1) - 1, 0, knots.shape[-1] - 2)
        low = np.take_along_axis(knots, below[..., None], axis=-1)[..., 0]
        high = np.take_along_axis(knots, below[..., None] + 1, axis=-1)[..., 0]
        part = (sizes - low) / np.maximum(high - low, 1)
        row, column = np.moveaxis(kind * knots.shape[-1] + below, -1, 0)  # (..., C)
        down, right = np.moveaxis(part, -1, 0)
        call = calls[:, 0]
        upper = self.values[call, row, column] * (1 - right) + self.values[call, row, column + 1] * right
        lower = (
            self.values[call, row + 1, column] * (1 - right) + self.values[call, row + 1, column + 1] * right
        )
        return np.asarray((upper * (1 - down) + lower * down).sum(axis=-1))
