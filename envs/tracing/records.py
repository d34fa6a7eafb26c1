"""What a tracer writes down while a network runs."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .labels import Cause, Labels, LabelVector
from .sizes import Measure

ALL_OR_NONE = "all its channels can only go together, and one has to stay"


class ParameterAxis(NamedTuple):
    """An axis of a parameter or buffer, and the run of labels it was given."""

    name: str
    axis: int
    first: int
    size: int
    rank: int


class UseOfWeights(NamedTuple):
    """A product-sum met while tracing; ``produced`` are the labels of the filters that it computes."""

    factor: float
    axes: tuple[LabelVector, ...]
    produced: LabelVector | None
    module: str
    training: bool


@dataclass
class Records:
    """All that a tracer writes down while a network runs."""

    labels: Labels = field(default_factory=Labels)
    axes: list[ParameterAxis] = field(default_factory=list)
    uses: list[UseOfWeights] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    outputs: list[LabelVector] = field(default_factory=list)
    couplings: list[tuple[LabelVector, Cause]] = field(default_factory=list)
    """Channels of one tensor that an operation joined, and which."""

    @cached_property
    def producing(self) -> npt.NDArray[np.bool_]:
        """Say of each label whether it is that of a filter that is computed."""
        produced = [use.produced for use in self.uses if use.produced is not None]
        flags = np.zeros(self.labels.count, np.bool_)
        flags[np.concatenate([np.empty(0, np.int64), *produced])] = True
        return flags
