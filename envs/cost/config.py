"""What a latency is the latency of."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..io.ranges import check_whole

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
            check_whole(f"the latency's {name}", getattr(self, name), 1)
        if self.dtype not in get_args(Precision):
            raise ValueError(
                f"the latency's data type is {self.dtype!r}; allowed are {', '.join(get_args(Precision))}"
            )
        if self.device is None:
            return
        import torch  # here, as no other setting needs it and it takes seconds

        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
            raise ValueError(
                f"the latency's device is {self.device!r}, which is not there; give another, such as 'cpu'"
            ) from error
