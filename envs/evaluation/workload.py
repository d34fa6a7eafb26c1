"""How many images a candidate is measured on.

Shapes: S images for statistics, V images for validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from ..tasks.base import SplitName, Task
from .candidate_network import tracked_norms

_MOST_BYTES = {"cpu": 2**29, "cuda": 2**32}
"""Largest memory for the images of a subset of ``val``, as float32, and for those for statistics: on a CPU
891 images of 224x224 pixels."""

_FEW_STATISTICS_IMAGES, _MAX_STATISTICS_IMAGES = 128, 512
"""Images for batch-norm statistics beside 512 and 2,048 images for measuring. Beside 512, ResNet-20's
candidates at half the MACs rank alike with 128, 256 and 512 (Spearman with the loss on test 0.71, 0.70 and
0.73, mean of two sets of 48 candidates and three seeds), and worse with 64 (0.67)."""


@dataclass(frozen=True)
class Workload:
    """The images that pass through a candidate.

    Args:
        from_each: Images for measuring from each of the splits; V is as many times their number.
        splits: Number of the splits.
        statistics: S, images for batch-norm statistics; 0 keeps the dense statistics.
    """

    from_each: int
    splits: int
    statistics: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        task: Task,
        example: Tensor,
        images: int,
        *,
        splits: Sequence[SplitName] = ("val",),
        statistics: int | None = None,
    ) -> Self:
        """Count the images that there are, and that fit in memory, of those that are wanted.

        Args:
            model: The network.
            task: The data.
            example: At least one image of the task, (1, C, H, W).
            images: Images for measuring, at most.
            splits: Where they are from, as many from each.
            statistics: Images for batch-norm statistics, at most. None takes half as many as ``images`` up to
                128, or a quarter if that is more, at most 512.
        """
        if statistics is None:
            few = min(_FEW_STATISTICS_IMAGES, -(-images // 2))
            statistics = max(few, min(_MAX_STATISTICS_IMAGES, images // 4))
        most = max(1, _MOST_BYTES[example.device.type] // example[0].nbytes)
        images, statistics = min(images, most), min(statistics, most, task.size("train"))
        from_each = min(max(1, images // len(splits)), *map(task.size, splits))
        return cls(from_each, len(splits), statistics if tracked_norms(model) else 0)

    @property
    def passes(self) -> int:
        """Images that pass through the network for one candidate."""
        return self.from_each * self.splits + self.statistics
