"""Settings of a latency measurement."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..io.memory import is_out_of_memory
from ..io.ranges import check_whole

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class LatencyConfig:
    """Set how a latency is measured.

    Args:
        batch: Number of examples in one pass, at least 1.
        threads: Number of CPU threads, at least 1.
        dtype: Data type of weights and inputs.
        device: Device such as ``cpu`` or ``cuda``; None is the network's device.

    Raises:
        ValueError: If a number is out of its range, or the data type or device is not available.
    """

    batch: int = 1
    threads: int = 1
    dtype: Precision = "float32"
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "threads"):
            check_whole(f"latency_{name}", getattr(self, name), 1)
        if self.dtype not in get_args(Precision):
            raise ValueError(f"latency_dtype is {self.dtype!r}; allowed are {', '.join(get_args(Precision))}")
        if self.device is None:
            return
        import torch  # imported here, as it takes seconds and no other setting needs it

        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
            if is_out_of_memory(error):
                raise
            raise ValueError(
                f"latency_device is {self.device!r}, which is not available; give one such as 'cpu'"
            ) from error
