"""Tracing rules: the effect of each ATen operation on labels.

A rule is called after the operation ran, as ``rule(propagation, call)``. It ties or pins the labels of the
arguments and sets those of the result. An operation without a rule pins all labels of its arguments.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from ..propagation import Propagation
from . import (
    constants,
    elementwise,
    noise,
    norms,
    positions,
    products,
    recurrent,
    reductions,
    refused,
    shapes,
    slices,
    spatial,
    spectra,
)
from .registry import FIXED, RULES, Call, Rule

__all__ = ["Call", "rule_for"]

_RULE_MODULES = (
    constants,
    elementwise,
    noise,
    norms,
    positions,
    products,
    recurrent,
    reductions,
    refused,
    shapes,
    slices,
    spatial,
    spectra,
)  # importing registers rules


@functools.cache
def rule_for(func: Any) -> Rule:
    """Find the rule of an operation: by name, else by its pointwise tag, else :func:`pin_everything`."""
    name = func._schema.name.removeprefix("aten::")
    rule = RULES.get(name) or RULES.get(name.rstrip("_"))
    if rule is None:
        rule = elementwise.pointwise if _is_pointwise(func, name) else pin_everything
    changes_elements = func._schema.is_mutable and torch.Tag.inplace_view not in func.tags
    return _writing(rule) if changes_elements else rule


def _writing(rule: Rule) -> Rule:
    """Wrap the rule of an operation that writes: what it writes into gets tied to what is written."""

    @functools.wraps(rule)
    def write(propagation: Propagation, call: Call) -> None:
        targets = [propagation.value(tensor) for tensor in call.written]
        with propagation.writing(call.written):
            rule(propagation, call)
        for target, tensor in zip(targets, call.written, strict=True):
            if target.shape == tensor.shape:  # an empty tensor given as ``out`` has grown
                for old, new in zip(target.axes, propagation.value(tensor).axes, strict=True):
                    propagation.tie(old, new, FIXED)

    return write


def _is_pointwise(func: Any, name: str) -> bool:
    """Look for torch's tag, also that of the operation without ``_``; in place, many operations lack it.

    Random operations need a rule of their own, which names the constant that stands for them.
    """
    out_of_place = getattr(getattr(torch.ops.aten, name.rstrip("_"), None), func._overloadname, func)
    tags = {*func.tags, *out_of_place.tags}
    return torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags


def pin_everything(propagation: Propagation, call: Call) -> None:
    """Pin all labels of the operands of an operation without a rule."""
    propagation.pin_all(call.operands, f"{call.name} has no tracing rule")
