"""The latency of a network: measured as a whole, or read from a table for any kept counts.

:mod:`.timing` makes the table.

Shapes: C calls of timed modules, L layers, K knots; a call has two axes, those of its weight.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..tracing.network import Floats, Ints


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
