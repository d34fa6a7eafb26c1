"""Calls of a network: the pass of an example, and others that a trace has to know, such as ``embed(x)``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..io.suggestions import did_you_mean

AlsoTrace: TypeAlias = Tensor | str | tuple[Any, ...]
"""One more call: a batch of another size or a tuple of arguments, the name of a method, which takes the
example, or a tuple of that name and a batch or arguments."""


@dataclass(frozen=True)
class Call:
    """One call of a network.

    Args:
        method: Name of the called method.
        inputs: Its positional arguments.
        trains: Whether it runs in training mode, too. Detectors then need targets, and do not.
    """

    method: str = "forward"
    inputs: tuple[Any, ...] = ()
    trains: bool = True

    def on(self, model: nn.Module) -> Any:
        """Call a network with copies of the inputs, and return what it gives back.

        Raises:
            ValueError: If the network has no such method.
        """
        inputs = tree_map_only(Tensor, torch.clone, self.inputs)
        if self.method == "forward":
            return model(*inputs)  # with the hooks of the network itself
        method = getattr(model, self.method, None)
        if not callable(method) or isinstance(method, nn.Module):
            own = [name for name in sorted({*dir(model)} - {*dir(nn.Module)}) if not name.startswith("_")]
            meant = did_you_mean(self.method, own)
            raise ValueError(f"the network has no method {self.method!r}{meant}; give one of its methods")
        return method(*inputs)

    def to(self, dtype: torch.dtype) -> Call:
        """Return the call with floating-point tensors in another data type."""

        def convert(x: Tensor) -> Tensor:
            return x.to(dtype) if x.is_floating_point() else x

        return replace(self, inputs=tree_map_only(Tensor, convert, self.inputs))

    def __str__(self) -> str:
        shapes = ", ".join("x".join(map(str, x.shape)) for x in tree_leaves(self.inputs) if _is_tensor(x))
        return f"{self.method}({shapes})"


def as_calls(
    example: Tensor | tuple[Any, ...], also_trace: AlsoTrace | Iterable[AlsoTrace] = ()
) -> tuple[Call, ...]:
    """Make the calls of a trace, with inputs on the CPU.

    Args:
        example: A batch of inputs, or the tuple of the forward's positional arguments; the first call.
        also_trace: More calls; a tuple or list of them, or a single batch or name.

    Raises:
        ValueError: If there is no tensor in an example, such as in the shape of an input.
    """
    first = Call("forward", as_inputs(example))
    calls = [also_trace] if isinstance(also_trace, str | Tensor) else also_trace
    return (first, *(_as_call(more, first.inputs) for more in calls))


def _as_call(more: AlsoTrace, inputs: tuple[Any, ...]) -> Call:
    if isinstance(more, str):
        return Call(more, inputs)
    if isinstance(more, tuple) and more and isinstance(more[0], str):
        method, *arguments = more
        given = arguments[0] if len(arguments) == 1 else tuple(arguments)
        return Call(method, as_inputs(given) if arguments else inputs)
    return Call("forward", as_inputs(more))


def as_inputs(example: Any) -> tuple[Any, ...]:
    """Convert an example to positional arguments on the CPU.

    Args:
        example: A batch of inputs, or the tuple of positional arguments.

    Raises:
        ValueError: If there is no tensor in it, such as in the shape of an input, or a number is undefined.
    """
    tensors = [leaf for leaf in tree_leaves(example) if _is_tensor(leaf)]
    if not tensors:
        raise ValueError(f"the example is {_named(example)}; give a batch of inputs, a tensor{_of(example)}")
    if any(bool(tensor.isnan().any()) for tensor in tensors if tensor.is_floating_point()):
        raise ValueError("the example holds numbers that are undefined (NaN); give a batch without them")
    arguments = example if isinstance(example, tuple) else (example,)
    return tuple(tree_map_only(Tensor, lambda x: x.detach().cpu(), argument) for argument in arguments)


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, Tensor)


def _named(example: Any) -> str:
    return f"the shape {tuple(example)}" if _is_shape(example) else type(example).__name__


def _of(example: Any) -> str:
    """Say which shape a batch has if the shape of an image, or of a batch, was given instead."""
    if not _is_shape(example):
        return ""
    batch = (2,) if len(example) == 3 else ()
    return f" of shape {(*batch, *example)}"


def _is_shape(example: Any) -> bool:
    return isinstance(example, (tuple, list)) and all(isinstance(side, int) for side in example)
