"""The outcome of a candidate: its accuracy, loss and size beside those of the dense network."""

from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

Size = Literal["filters", "params", "macs", "latency"]


def is_number(value: object) -> bool:
    """Return whether a value is a real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_size(size: str) -> None:
    """Refuse an unknown size.

    Raises:
        ValueError: If ``size`` is not one of :data:`Size`.
    """
    if size not in get_args(Size):
        raise ValueError(f"unknown size {size!r}; allowed are filters, params, macs and latency")


@dataclass(frozen=True)
class Outcome:
    """Compare a candidate with the dense network, both measured on the same held-out data.

    Args:
        accuracy: The task's metric for the candidate, percent, higher is better.
        dense_accuracy: The task's metric for the dense network, percent.
        loss: Mean loss of the candidate.
        dense_loss: Mean loss of the dense network.
        constant_prediction_loss: Mean loss of a constant prediction, the mean of the dense network's outputs.
        macs_ratio: Multiply-accumulate operations, pruned / dense, in [0, 1].
        params_ratio: Parameters, pruned / dense, in [0, 1].
        filters_ratio: Prunable filters, pruned / dense, in [0, 1].
        latency_ratio: Milliseconds of a forward pass, pruned / dense, above 1 where fewer filters are slower;
            None if the latency was not measured.
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
        """Loss increase as a share of the dense network's gain over a constant prediction.

        0 is as good as dense, 1 no better than a constant prediction, negative means that pruning helped.
        The gain counts as at least a tenth of the constant prediction's loss, so that the share stays bounded
        for a dense network that is hardly better than a constant prediction.
        """
        gain = max(
            self.constant_prediction_loss - self.dense_loss, 0.1 * abs(self.constant_prediction_loss), 1e-9
        )
        return (self.loss - self.dense_loss) / gain

    def ratio(self, size: Size) -> float:
        """Return the candidate's size, pruned / dense, in [0, 1]; a latency ratio may be above 1.

        Raises:
            ValueError: If ``size`` is unknown, or is the latency and the latency was not measured.
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
