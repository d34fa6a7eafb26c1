"""Find attributes that count a layer's filters although no call showed it, by changing them.

The way of a number is lost in ``int(self.width)`` of a NumPy integer, for one. If the cut of a layer does not
run, whole numbers of the network that could count its filters are changed one by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from torch import nn

from ..modules.numbers import set_numbers
from ..tracing import Layer, TracedNetwork
from .probe import Probe

_MOST = 8
"""Largest number of attributes that are changed for a layer."""


def find_hidden_sizes(
    probe: Probe,
    solve: Callable[[Sequence[tuple[str, str]]], TracedNetwork],
    is_exact: Callable[[TracedNetwork, str], bool],
    layer: Layer,
    numbers: Mapping[str, int],
) -> list[tuple[str, str]]:
    """Find the attributes with which the cut of a layer runs and is exact.

    Args:
        probe: Runs copies of the network.
        solve: Traces the network with sizes: attributes, each with the layer whose filters it counts.
        is_exact: Tries the cut of one layer alone, by the name of a producer.
        layer: The layer.
        numbers: The whole numbers that the network holds, by path.

    Returns:
        The sizes; none if no attribute helps, or the layer can be cut alone without.
    """
    producer = layer.producers[0]
    if is_exact(solve([]), producer):
        return []
    read = [
        path
        for path in islice(_candidates(layer, numbers), _MOST)
        if probe.depends_on(lambda model, path=path: _decrease(model, path, numbers[path]))  # type: ignore[misc]
    ]
    for chosen in ([path] for path in read) if len(read) < 2 else (*([path] for path in read), read):
        sizes = [(path, producer) for path in chosen]
        try:
            network = solve(sizes)
        except ValueError:  # no multiple of all filters of the producer, of which the layer has a part
            continue
        if is_exact(network, producer):
            return sizes
    return []


def _candidates(layer: Layer, numbers: Mapping[str, int]) -> Iterator[str]:
    """Yield numbers that may count the filters: equal ones first, and those of the producer's parent."""
    parent = layer.name.rpartition(".")[0]
    fitting = (path for path, value in numbers.items() if value and value % layer.filters == 0)
    yield from sorted(
        fitting,
        key=lambda path: (numbers[path] != layer.filters, bool(parent) and not path.startswith(f"{parent}.")),
    )


def _decrease(model: nn.Module, path: str, value: int) -> None:
    set_numbers(model, {path: max(1, value - 1)})
