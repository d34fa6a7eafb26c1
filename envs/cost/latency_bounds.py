"""Bounds of the latencies that cuts of a network can have, from a timing of a second."""

from torch import nn

from ..surgery.unreachable import TargetUnreachableError
from ..tracing import TracedNetwork
from .config import LatencyConfig
from .profiling import cut_to
from .timer import latency_ms, timed_copy

_MARGIN = 1.25
"""Factor by which a target has to miss the bounds to be refused; the latency table decides more closely."""


def check_latency_target(
    model: nn.Module, network: TracedNetwork, shape: tuple[int, ...], config: LatencyConfig, target: float
) -> None:
    """Refuse a target latency that is far out of reach, before a latency table is made.

    Args:
        model: The dense network; it is not changed.
        network: Its trace, with at least one layer.
        shape: Shape of one example.
        config: Settings of the measurement.
        target: The target, ms per batch.

    Raises:
        ValueError: If the smallest allowed cut takes far longer, or the dense network far less; or the
            network does not run on such examples.
    """
    smaller = cut_to(model, network, network.min_widths)
    dense, smallest = (
        latency_ms(placed, batch, threads=config.threads)
        for placed, batch in (timed_copy(each, shape, config) for each in (model, smaller))
    )
    check_between(target, smallest, dense, margin=_MARGIN)


def check_between(target: float, smallest: float, dense: float, *, margin: float = 1.0) -> None:
    """Check that a target latency is between that of the smallest cut and that of the dense network.

    Args:
        target: The target, ms per batch.
        smallest: Latency of the smallest allowed cut, ms per batch.
        dense: Latency of the dense network, ms per batch.
        margin: Factor by which the target may miss the bounds, at least 1.

    Raises:
        TargetUnreachableError: If the target is outside.
    """
    if smallest / margin <= target <= dense * margin:
        return
    if smallest >= dense:
        raise TargetUnreachableError(
            f"the target of {target:g} ms is out of range, and no cut is faster here: the dense network "
            f"takes {dense:.4g} ms per batch, the smallest possible cut {smallest:.4g} ms; time larger "
            "batches (--latency-batch), or give --target-macs instead"
        )
    raise TargetUnreachableError(
        f"the target of {target:g} ms is out of range: the dense network takes {dense:.4g} ms per "
        f"batch, the smallest possible cut {smallest:.4g} ms; give a target between the two"
    )
