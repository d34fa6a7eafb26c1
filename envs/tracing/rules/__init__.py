"""What each ATen operation does to labels.

A rule is called after the operation ran, as ``rule(propagation, call)``; it ties or pins the labels of the
arguments and sets those of the result. Operations without a rule pin whatever they touch.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from ..propagation import Propagation
from . import elementwise, noise, norms, products, reductions, shapes, slices, spatial
from .registry import RULES, Call, Rule

__all__ = ["Call", "rule_for"]

_ROOMS = (
    elementwise,
    noise,
    norms,
    products,
    reductions,
    shapes,
    slices,
    spatial,
)  # importing registers rules


@functools.cache
def rule_for(func: Any) -> Rule:
    """Find the rule of an operation: by name, else by its pointwise tag, else pin what it touches."""
    name = func._schema.name.removeprefix("aten::")
    rule = RULES.get(name) or RULES.get(name.rstrip("_"))
    if rule is not None:
        return rule
    return elementwise.pointwise if _is_pointwise(func, name) else pin_everything


def _is_pointwise(func: Any, name: str) -> bool:
    """Look for the tag; many operations in place lack that of the operation that they are."""
    tagged = getattr(getattr(torch.ops.aten, name.rstrip("_"), None), func._overloadname, func)
    return torch.Tag.pointwise in {*func.tags, *tagged.tags}


def pin_everything(propagation: Propagation, call: Call) -> None:
    """Pin all channels that meet an operation without a rule."""
    propagation.pin_all(call.operands, f"{call.name} has no tracing rule")
