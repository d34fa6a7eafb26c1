"""Operations along an axis: over pixels they keep labels, over channels they pin them all."""

from __future__ import annotations

from ..propagation import Propagation
from .elementwise import pointwise
from .registry import Call, rule


@rule("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "logsumexp", "prod")
@rule("argmax", "argmin", "any", "all", "norm", "linalg_vector_norm", "median", "mode", "aminmax", "nansum")
def reduction(propagation: Propagation, call: Call) -> None:
    """Drop the reduced axes and pin their labels."""
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
    for dim in sorted(reduced):
        propagation.pin(source.axes[dim], f"{call.name} reduces over channels")
    for out in call.outputs:
        if out.ndim == rank:
            propagation.set(out, [None if dim in reduced else axis for dim, axis in enumerate(source.axes)])
        else:
            propagation.set(out, [axis for dim, axis in enumerate(source.axes) if dim not in reduced])


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp")
@rule("glu", "sort", "topk", "argsort", "cummax", "cummin", "_safe_softmax")
def along_one_axis(propagation: Propagation, call: Call) -> None:
    """Pin the axis that is mixed, and keep the labels of the others."""
    axes = list(propagation.value(call.args[0]).axes)
    dim = call["dim"]
    propagation.pin(axes[dim], f"{call.name.strip('_')} mixes the channels")
    axes[dim] = None
    for out in call.outputs:
        propagation.set(out, axes)
