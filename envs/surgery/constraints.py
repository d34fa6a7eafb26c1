"""Constraints on a cut: protected layers, largest sparsities, and rounding of widths.

The trace enforces them, so every decider respects them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..io.ranges import check_whole
from ..io.suggestions import unknown_name
from ..modules.inexact import INEXACT

PROTECTED = "protection"
"""Value of :attr:`.Cause.operation` for protected layers."""


@dataclass(frozen=True)
class Constraints:
    """Set the constraints on a cut.

    Patterns such as ``layer1.*`` are matched against the module names of a layer's producers; ``*`` matches
    all. If several match a layer, the last one counts.

    Raises:
        ValueError: If a number is out of its range.
    """

    round_to: Mapping[str, int] = field(default_factory=dict)
    """By pattern, the number that the producers' channels have to be a multiple of, at least 1. Some widths
    have faster kernels: a MobileNetV2 with half the MACs is 1.7 times faster in onnxruntime with multiples of
    8 (``benchmarks/latency.py``). There is no rounding by default: it makes the choice coarser, and the best
    multiple depends on the hardware."""
    protect: tuple[str, ...] = ()
    """Patterns of layers that keep all their filters."""
    max_sparsity: Mapping[str, float] = field(default_factory=dict)
    """By pattern, the largest allowed sparsity of a layer, in (0, 1)."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """Attributes that forward code reads in a way that no trace can see, such as ``cfg.dim``, each with the
    name of the layer whose filters it counts. A cut changes them with the layer."""

    allow_inexact: tuple[str, ...] = ()
    """What a cut may change beyond removing channels; see :data:`.INEXACT`."""
    also_trace: tuple[str, ...] = ()
    """More calls to trace and to check, as :func:`parse_call` reads them."""

    def __post_init__(self) -> None:
        for word in self.also_trace:
            parse_call(word)
        for name in self.allow_inexact:
            if name not in INEXACT:
                raise ValueError(unknown_name("allow_inexact", name, INEXACT))
        for step in self.round_to.values():
            check_whole("the multiple that filters are rounded to", step, 1)
        for sparsity in self.max_sparsity.values():
            if not 0 < sparsity < 1:
                raise ValueError(
                    f"the largest sparsity is {sparsity}; it has to be above 0 and below 1 (or use --protect)"
                )

    @property
    def rounding(self) -> bool:
        """Whether any layer is rounded."""
        return any(step > 1 for step in self.round_to.values())


def parse_call(word: str) -> tuple[str, tuple[int, ...]]:
    """Read a call of a network from a word.

    Args:
        word: The size of an input, such as ``3x40x40``; a method, such as ``embed``; or ``embed:3x40x40``.

    Returns:
        The method, and the shape of one input, () for that of the example.

    Raises:
        ValueError: If the word is none of these.
    """
    method, colon, size = word.rpartition(":")
    if not colon and not size[:1].isdigit():
        method, size = word, ""
    sides = size.split("x") if size or colon else []
    if not (method or "forward").isidentifier() or not all(side.isdecimal() and int(side) for side in sides):
        raise ValueError(
            f"--also-trace is {word!r}; give the size of an input such as 3x40x40, a method such as embed, "
            "or both as embed:3x40x40"
        )
    return method or "forward", tuple(map(int, sides))
