"""Random tensors: they are as large as the tensor they are made for, so their labels are not pinned."""

from __future__ import annotations

from ..propagation import Propagation
from .registry import Call, rule


@rule("native_dropout", "_fused_dropout", "dropout", "rand_like", "randn_like", "rand", "randn")
@rule("bernoulli", "uniform", "normal", "exponential", "random", "randint", "randint_like")
def noise(propagation: Propagation, call: Call) -> None:
    """Keep the operand's labels if it has any, else set new ones.

    ``dropout2d`` draws one number per channel into an empty tensor of fixed size, which must not pin them.
    """
    like = propagation.value(call.operands[0]).axes if call.operands else ()
    if any(axis is not None for axis in like):
        for out in call.outputs:
            propagation.set(out, like)
        return
    for out in call.outputs:
        propagation.set(out, [propagation.labels.fresh(size) if size > 1 else None for size in out.shape])
