"""Constraints on a cut beside its size: what is protected, how few filters stay, and which numbers of them.

They are kept by the trace, and so by all that decide about it.

Shapes: N filters of a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..io.ranges import check_whole

PROTECTED = "protection"
"""Stands where the cause of a pin names the operation at fault."""


@dataclass(frozen=True)
class Constraints:
    """What a cut has to respect beside its size.

    Patterns such as ``layer1.*`` are matched against the module names of a layer's producers, ``*`` matches
    all; of several that match one layer the last one counts.

    Raises:
        ValueError: If a number is out of its range.
    """

    round_to: Mapping[str, int] = field(default_factory=dict)
    """By pattern, what the producers' channels are to be a multiple of, at least 1. Kernels are made for some
    widths: a MobileNetV2 of half the MACs is 1.7 times faster in onnxruntime with multiples of 8 than without
    (``benchmarks/latency.py``). Not rounded by default: it coarsens the choice, and the pruned network may
    run elsewhere than here."""
    protect: tuple[str, ...] = ()
    """Patterns of layers that keep all their filters."""
    max_sparsity: Mapping[str, float] = field(default_factory=dict)
    """By pattern, the largest share of a layer's filters that may go, in (0, 1)."""

    def __post_init__(self) -> None:
        for step in self.round_to.values():
            check_whole("the multiple that filters are rounded to", step, 1)
        for share in self.max_sparsity.values():
            if not 0 < share < 1:
                raise ValueError(
                    f"the largest sparsity is {share}; it has to be above 0 and below 1 (--protect keeps all)"
                )

    @property
    def rounding(self) -> bool:
        """Whether any layer is rounded."""
        return any(step > 1 for step in self.round_to.values())
