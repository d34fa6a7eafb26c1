"""The records that a tracer makes while a network runs."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .labels import Cause, Labels, LabelVector
from .tracked_int import Polynomial

ALL_OR_NONE = "all its channels can only be removed together, and at least one has to stay"


class ParameterAxis(NamedTuple):
    """An axis of a parameter or buffer; its labels are ``first`` to ``first + size - 1``."""

    name: str
    axis: int
    first: int
    size: int
    rank: int


class ProductSum(NamedTuple):
    """A convolution or matrix product; ``produced`` holds the labels of the filters that it computes."""

    factor: float
    axes: tuple[LabelVector, ...]
    produced: LabelVector | None
    module: str
    training: bool
    counted: bool


class SizeReading(NamedTuple):
    """A size that forward code computed from attributes and gave to an operation.

    Args:
        number: The size as a polynomial in the attributes.
        size: The labels that it counts, or a fixed size.
        cause: Where it was given.
    """

    number: Polynomial
    size: LabelVector | int
    cause: Cause


@dataclass
class Records:
    """All records of a trace."""

    labels: Labels = field(default_factory=Labels)
    axes: list[ParameterAxis] = field(default_factory=list)
    product_sums: list[ProductSum] = field(default_factory=list)
    runs: list[LabelVector] = field(default_factory=list)
    """Channels that an operation treats as a unit, such as one part of a split."""
    size_readings: list[SizeReading] = field(default_factory=list)
    outputs: list[LabelVector] = field(default_factory=list)
    executed: set[tuple[str, str, str]] = field(default_factory=set)
    """Operations that ran: their names, modules and lines of the model's code."""
    inexact: dict[str, None] = field(default_factory=dict)
    """Names of modules whose channels were tied though a cut changes their statistics."""
    couplings: list[tuple[LabelVector, Cause]] = field(default_factory=list)
    """Labels of channels of one tensor that an operation joined, with that operation."""
    units: dict[tuple[str, str], str | None] = field(default_factory=dict)
    """By module and operation, the unit of what it joined; None if one operation had several."""
    reached: set[str] = field(default_factory=set)
    """Names of the parameters that an operation has read."""
    by_width: dict[int, dict[bytes, LabelVector]] = field(default_factory=dict)
    """Labels of the channels of tensors, by their number; a vector of labels stands by its bytes."""

    @cached_property
    def producing(self) -> npt.NDArray[np.bool_]:
        """Whether each label belongs to a computed filter, shape (labels,)."""
        produced = [use.produced for use in self.product_sums if use.produced is not None]
        flags = np.zeros(self.labels.count, np.bool_)
        flags[np.concatenate([np.empty(0, np.int64), *produced])] = True
        return flags
