"""Parameters that no traced call reached, and the channels that they may share with what was reached.

Another branch for larger inputs, or a method beside ``forward``, reads channels that the trace knows, by
weights that it did not see. Their sizes have to fit, so channels of such sizes are pinned.
"""

from collections.abc import Iterable, Iterator, Mapping, Set

from torch import nn

from ..io.wording import counted
from .labels import Cause, LabelVector
from .naming import abbreviated

UNREACHED = "unreached"
"""Value of :attr:`.Cause.operation` for channels that unreached parameters may share."""


def widths_of(model: nn.Module) -> dict[str, frozenset[int]]:
    """Return, by parameter name, the numbers of channels, above 1, that it may read or produce."""
    found = {}
    for name, tensor in model.named_parameters():
        module = model.get_submodule(name.rpartition(".")[0])
        found[name] = frozenset(n for n in _widths(module, tensor.shape) if n > 1)
    return found


def _widths(module: nn.Module, shape: tuple[int, ...]) -> Iterable[int]:
    if isinstance(module, nn.modules.conv._ConvNd) and len(shape) > 1:
        return int(module.in_channels), int(module.out_channels)
    return shape


def modules_of(parameters: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the modules that hold parameters; the network's own go by their names."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in parameters))


def shared(
    unreached: Mapping[str, Set[int]], by_width: Mapping[int, Iterable[LabelVector]]
) -> Iterator[tuple[LabelVector, Cause]]:
    """Find the channels that unreached parameters may share, and the cause to pin them.

    Args:
        unreached: By name of an unreached parameter, the numbers of channels that it may read or produce.
        by_width: Labels of the channels of reached tensors, by their number.
    """
    reason = "may share channels with parameters that no traced call reached"
    for name, widths in unreached.items():
        (module,) = modules_of([name])
        for width in sorted(widths & by_width.keys()):
            for labels in by_width[width]:
                yield labels, Cause(reason, UNREACHED, module)


def advice(modules: Iterable[str], pinned: int) -> str:
    """Say what no traced call reached, what follows, and what to do.

    Args:
        modules: Names of the modules.
        pinned: Number of filters that stay because they may share channels with them.
    """
    stay = "no filter stays for it"
    if pinned:
        stay = counted(
            pinned,
            "filter, which may share channels with them, stays",
            "filters, which may share channels with them, stay",
        )
    return (
        f"no traced call reaches the parameters of {abbreviated(modules, 6)}; {stay}; trace another call "
        "that does (--also-trace 3x64x64 or --also-trace METHOD), or delete the modules if nothing uses them"
    )
