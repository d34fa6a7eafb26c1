"""What becomes zero where operands are zero: instead of keeping a list, the operation itself is asked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from .registry import Call, outs

_MOST_OTHERS = 3
"""Operands that are not zero: what is tried is every combination of their numbers."""

_SCALES = (0.0, -1.7, 0.6, 2.3)
"""Numbers of both signs, on both sides of one."""


def gives_zero(call: Call, zero: Sequence[bool]) -> bool:
    """Run an elementwise operation on a few numbers, and return whether every result is zero.

    Args:
        call: The operation; its own numbers, such as a slope or a bound, stay as they are.
        zero: For each of its operands, whether it is zero; the others are tried with several numbers.
    """
    others = len(zero) - sum(zero)
    if others == len(zero) or others > _MOST_OTHERS:
        return False
    combinations = list(itertools.product(_SCALES, repeat=others))
    columns = iter(zip(*combinations, strict=True))
    numbers = [[0.0] * len(combinations) if is_zero else next(columns) for is_zero in zero]
    remaining = iter(numbers)

    def stand_in(operand: Tensor) -> Tensor:
        exact = torch.tensor(next(remaining), dtype=torch.float64, device=operand.device)
        return (exact > 0.0 if operand.dtype == torch.bool else exact).to(operand.dtype)

    kwargs = {name: value for name, value in call.kwargs.items() if name not in outs(call.func)}
    args, kwargs = tree_map_only(Tensor, stand_in, (call.args, kwargs))
    into = {name: call.kwargs[name].new_empty(0) for name in outs(call.func) & {*call.kwargs}}
    try:
        result = tree_leaves(call.func(*args, **kwargs, **into))[0]
    except (RuntimeError, TypeError, ValueError):
        return False  # it needs another shape or type, or divides integers by zero
    # Zero divided by the zero among the numbers is undefined; two operands that vanish give nothing else.
    undefined = result.isnan() if others else torch.zeros_like(result, dtype=torch.bool)
    return bool(((result == 0) | undefined).all())
