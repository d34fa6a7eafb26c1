"""What one candidate cost and kept."""

from dataclasses import dataclass
from typing import Literal, get_args

Size = Literal["filters", "params", "macs", "latency"]


def check_size(size: str) -> None:
    """Refuse a size that nobody knows.

    Raises:
        ValueError: If it is none of :data:`Size`.
    """
    if size not in get_args(Size):
        raise ValueError(f"unknown size {size!r}; allowed are filters, params, macs and latency")


@dataclass(frozen=True)
class Outcome:
    """A candidate beside the dense network, both measured on the same held-out data.

    Args:
        accuracy: The task's metric, percent, higher is better.
        dense_accuracy: The same for the dense network.
        loss: Mean loss.
        dense_loss: The same for the dense network.
        constant_prediction_loss: The same for one answer to all examples, the mean of the dense network's.
        macs_ratio: Multiply-accumulate operations, pruned / dense, in [0, 1].
        params_ratio: Parameters, pruned / dense, in [0, 1].
        filters_ratio: Prunable filters, pruned / dense, in [0, 1].
        latency_ratio: Milliseconds of a forward pass, pruned / dense, above 1 where fewer filters are slower;
            None where nobody timed the network.
    """

    accuracy: float
    dense_accuracy: float
    loss: float
    dense_loss: float
    constant_prediction_loss: float
    macs_ratio: float
    params_ratio: float
    filters_ratio: float
    latency_ratio: float | None = None

    @property
    def accuracy_drop(self) -> float:
        """Dense minus pruned accuracy, percentage points; negative where pruning helped."""
        return self.dense_accuracy - self.accuracy

    @property
    def excess_loss(self) -> float:
        """Share of what the dense network knows that is lost, by the loss.

        0 is as good as dense, 1 no better than answering blindly; negative where pruning helped. Of a dense
        network that knows next to nothing, a tenth of the blind loss stands for what it knows.
        """
        known = max(
            self.constant_prediction_loss - self.dense_loss, 0.1 * abs(self.constant_prediction_loss), 1e-9
        )
        return (self.loss - self.dense_loss) / known

    def ratio(self, size: Size) -> float:
        """Give the candidate's size, pruned / dense, in [0, 1]; that of a latency may be above 1.

        Raises:
            ValueError: If the size is the latency and it was not measured, or nobody knows it.
        """
        check_size(size)
        match size:
            case "filters":
                return self.filters_ratio
            case "params":
                return self.params_ratio
            case "macs":
                return self.macs_ratio
            case "latency" if self.latency_ratio is not None:
                return self.latency_ratio
            case "latency":
                raise ValueError("the outcome has no latency; measure it or count filters, params or macs")
