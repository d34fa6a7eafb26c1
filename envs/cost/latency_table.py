"""The latency of a network, predicted from a table for any kept counts.

:mod:`.profiling` makes the table.

Shapes: C calls of timed modules, L layers, K knots; a call has two axes, those of its weight.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..tracing.network import Floats, Ints


@dataclass(frozen=True)
class LatencyTable:
    """Predict milliseconds per batch from kept counts.

    Args:
        fixed: Size of each axis without any kept filter, (C, 2).
        slope: Size that each kept filter adds to an axis, (C, 2, L).
        vector: SIMD width in channels. Multiples of it are interpolated separately from other sizes, which
            can take twice as long.
        knots: Timed sizes, (C, 2, 2, K): along each axis first those that are no multiples, then multiples.
        values: Milliseconds at the knots, (C, 2K, 2K).
        activations: Millions of outputs per unit of an axis, (C, 2).
        coefficients: Milliseconds per pass, scale of the table, and milliseconds per million outputs.
    """

    fixed: Ints
    slope: Ints
    vector: int
    knots: Ints
    values: Floats
    activations: Floats
    coefficients: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return a dict that JSON can hold, for :meth:`from_dict`."""
        return {
            field.name: value.tolist() if isinstance(value, np.ndarray) else value
            for field in fields(self)
            for value in (getattr(self, field.name),)
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Rebuild a table from :meth:`to_dict`."""
        arrays = {
            name: np.array(value) if isinstance(value, list) else value for name, value in content.items()
        }
        return cls(**arrays | {"coefficients": tuple(content["coefficients"])})

    def __call__(self, kept: npt.ArrayLike) -> Floats:
        """Predict milliseconds per batch, shape (...), for kept filters of each layer, shape (..., L)."""
        terms = self.terms(kept)
        return np.asarray(terms @ np.array(self.coefficients))

    def terms(self, kept: npt.ArrayLike) -> Floats:
        """Return the terms of the fit, (..., 3): 1, milliseconds of the table, millions of outputs."""
        sizes = np.tensordot(np.asarray(kept), self.slope, axes=(-1, -1)) + self.fixed  # (..., C, 2)
        outputs = (sizes * self.activations).sum(axis=(-1, -2))
        return np.stack([np.ones_like(outputs), self._interpolated(sizes), outputs], axis=-1)

    def _interpolated(self, sizes: npt.NDArray[np.generic]) -> Floats:
        """Sum the calls' milliseconds, each interpolated bilinearly between the knots of its sizes."""
        calls, axes = np.arange(len(self.fixed))[:, None], np.arange(2)
        kind = (sizes % self.vector == 0).astype(np.int64)  # (..., C, 2)
        knots = self.knots[calls, axes, kind]  # (..., C, 2, K)
        below = np.clip((knots <= sizes[..., None]).sum(axis=-1) - 1, 0, knots.shape[-1] - 2)
        low = np.take_along_axis(knots, below[..., None], axis=-1)[..., 0]
        high = np.take_along_axis(knots, below[..., None] + 1, axis=-1)[..., 0]
        fraction = (sizes - low) / np.maximum(high - low, 1)
        row, column = np.moveaxis(kind * knots.shape[-1] + below, -1, 0)  # (..., C)
        down, right = np.moveaxis(fraction, -1, 0)
        call = calls[:, 0]
        upper = self.values[call, row, column] * (1 - right) + self.values[call, row, column + 1] * right
        lower = (
            self.values[call, row + 1, column] * (1 - right) + self.values[call, row + 1, column + 1] * right
        )
        return np.asarray((upper * (1 - down) + lower * down).sum(axis=-1))
