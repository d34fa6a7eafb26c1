"""Operations along an axis: over pixels they keep labels, over channels they pin most of them."""

from __future__ import annotations

from ..propagation import Propagation
from .elementwise import pointwise
from .registry import Call, rule

_SUMS = ("sum", "nansum", "norm", "linalg_vector_norm", "any", "count_nonzero")
"""What more zeros do not change."""

_ZERO_OF_ZEROS = (*_SUMS, "mean", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "prod")


@rule("argmax", "argmin", "all", "median", "mode", "aminmax", "logsumexp", "nanmedian")
@rule(*_ZERO_OF_ZEROS)
def reduction(propagation: Propagation, call: Call) -> None:
    """Drop the reduced axes and pin their labels, unless what they stand for vanishes and is added up."""
    if call.has("other"):  # max.other(x, y)
        pointwise(propagation, call)
        return
    source = propagation.value(call.args[0])
    rank = len(source.axes)
    dims = call["dim"] if call.has("dim") else None
    if isinstance(dims, int):
        dims = [dims]
    if rank == 0:
        return
    reduced = {dim % rank for dim in dims or range(rank)}
    if not (source.vanishes and _adds_up(call)):
        for dim in sorted(reduced):
            propagation.pin(source.axes[dim], f"{call.name} reduces over channels")
    zero = source.vanishes and call.name in _ZERO_OF_ZEROS
    for number, out in enumerate(call.outputs):
        if out.ndim == rank:
            axes = [None if dim in reduced else axis for dim, axis in enumerate(source.axes)]
        else:
            axes = [axis for dim, axis in enumerate(source.axes) if dim not in reduced]
        # The second result of a maximum says where it is.
        propagation.set(
            out, axes, weight=source.weight, vanishes=zero and (number == 0 or "mean" in call.name)
        )


def _adds_up(call: Call) -> bool:
    """Return whether zeros change nothing: those of a sum, and of a norm but for one of negative order."""
    order = next((call[name] for name in ("ord", "p") if call.has(name)), None)
    return call.name in _SUMS and (order is None or order > 0.0)


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp")
@rule("sort", "topk", "argsort", "cummax", "cummin", "_safe_softmax", "kthvalue")
def along_one_axis(propagation: Propagation, call: Call) -> None:
    """Pin the axis that is mixed, and keep the labels of the others."""
    axes = list(propagation.value(call.args[0]).axes)
    dim = call["dim"]
    propagation.pin(axes[dim], f"{call.name.strip('_')} mixes the channels")
    axes[dim] = None
    for out in call.outputs:
        propagation.set(out, axes)


@rule("glu")
def glu(propagation: Propagation, call: Call) -> None:
    """Couple the two halves of an axis: the first is multiplied by a gate made of the second."""
    source = propagation.value(call.args[0])
    axes, dim = list(source.axes), call["dim"]
    labels = axes[dim]
    if labels is not None:
        half = len(labels) // 2
        propagation.couple(labels[half:], labels[:half])
        axes[dim] = labels[:half]
    propagation.set(call.result, axes, vanishes=source.vanishes)
