"""Find where tensors have to be rounded so that a runtime can compute a network's layers in whole numbers.

What enters a layer is rounded. What leaves a convolution, after its batch-norm, is rounded, too, where it
does not enter other layers at once: a runtime computes a convolution in whole numbers only between two
roundings. One pass is recorded by operation; a layer or batch-norm counts as one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..modules.inputs import first_input, run_on_copy
from ..modules.modes import restored_modes
from .fake import STAND_INS, kind_of

_RELU = {"relu", "relu_"}

_CLIPS = {"hardtanh", "hardtanh_", "clamp", "clamp_"}

_MOVES = {
    "view",
    "_unsafe_view",
    "reshape",
    "flatten",
    "permute",
    "transpose",
    "t",
    "alias",
    "detach",
    "clone",
}
"""Operations that only move values, so that a rounding may be before or after them."""

_LARGEST = {"max_pool2d_with_indices", "max_pool2d", "max_pool1d"}
"""Operations that choose among values: as those that move them."""


@dataclass(eq=False)
class _Value:
    """A tensor of the pass.

    Args:
        uses: Who reads it, with what comes out of that: "layer" and "norm" with the module's name, or the
            name of an operation.
    """

    uses: list[tuple[str, str, list[_Value]]] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """What follows a layer.

    Args:
        norm: Name of the batch-norm that alone reads what leaves the layer, and reads nothing else; or None.
        rounds_output: Whether what leaves the layer, and the batch-norm, has to be rounded.
        rectified: Whether nothing but ReLU reads it.
    """

    norm: str | None = None
    rounds_output: bool = False
    rectified: bool = False


def find_places(model: nn.Module, example: Tensor) -> dict[str, Place]:
    """Find the layers that can be quantised, and what follows each.

    Args:
        model: A network; it is not changed.
        example: A batch of inputs.

    Returns:
        The places by the names of the layers that ran.
    """
    with restored_modes(model), torch.no_grad(), _Recording(model) as recording:
        run_on_copy(model.eval(), example)
    return {name: _place(name, values, recording) for name, values in recording.outputs.items()}


def _place(name: str, outputs: Sequence[_Value], recording: _Recording) -> Place:
    module = recording.modules[name]
    norm, ends = None, list(outputs)
    if len(outputs) == 1 and len(outputs[0].uses) == 1 and outputs[0].uses[0][0] == "norm":
        _, norm, after = outputs[0].uses[0]
        foldable = isinstance(recording.modules[norm], _BatchNorm) and recording.calls[norm] == 1
        norm, ends = (norm, after) if foldable else (None, ends)
    if isinstance(module, nn.Linear):
        return Place(norm)  # runtimes have a linear layer of whole numbers whose outputs are float
    return Place(
        norm,
        rounds_output=not all(end.uses and _is_rounded(end) for end in ends),
        rectified=all(end.uses and all(use in _RELU for use, _, _ in end.uses) for end in ends),
    )


def _is_rounded(value: _Value, *, relu_allowed: bool = True) -> bool:
    """Return whether all that is done with a tensor before it is rounded is a ReLU, or moves its values."""
    for use, _, after in value.uses:
        if use == "layer":
            continue
        moves = use in _MOVES or (use in _LARGEST and len(value.uses) == 1)
        if not (moves or (relu_allowed and use in _RELU and len(value.uses) == 1)) or not after[0].uses:
            return False
        if not _is_rounded(after[0], relu_allowed=relu_allowed and moves):
            return False
    return True


class _Recording(TorchDispatchMode):
    """Record which operation, layer or batch-norm reads which tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.modules = dict(model.named_modules())
        self.outputs: dict[str, list[_Value]] = {}
        self.calls: dict[str, int] = {}
        self._values: dict[int, _Value] = {}
        self._kept: list[Tensor] = []
        self._inside = 0
        self._hooks = contextlib.ExitStack()

    def __enter__(self) -> _Recording:
        for name, module in self.modules.items():
            kind = (
                "layer" if kind_of(module) in STAND_INS else "norm" if isinstance(module, _BatchNorm) else ""
            )
            if kind:
                self._hooks.enter_context(self._watched(name, kind, module))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._hooks.close()
        super().__exit__(*error)

    @contextlib.contextmanager
    def _watched(self, name: str, kind: str, module: nn.Module) -> Iterator[None]:
        def begin(_: nn.Module, given: Any) -> None:
            self._inside += 1

        def end(_: nn.Module, given: Any, named: Any, output: Tensor) -> None:
            self._inside -= 1
            after = self._new(output)
            self._value(first_input(given, named)).uses.append((kind, name, [after]))
            self.calls[name] = self.calls.get(name, 0) + 1
            if kind == "layer":
                self.outputs.setdefault(name, []).append(after)

        handles = [
            module.register_forward_pre_hook(begin),
            module.register_forward_hook(end, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        read = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        before = [self._value(tensor) for tensor in read]
        result = func(*args, **(kwargs or {}))
        if not self._inside:
            after = [self._new(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            for value in before:
                value.uses.append((_name_of(func, args), "", after or [value]))
        return result

    def _value(self, tensor: Tensor) -> _Value:
        return self._values.get(id(tensor)) or self._new(tensor)

    def _new(self, tensor: Tensor) -> _Value:
        """Begin a new value; an operation in place gives the same tensor another one."""
        value = self._values[id(tensor)] = _Value()
        self._kept.append(tensor)  # so that no other tensor gets its identity
        return value


def _name_of(func: Any, args: Sequence[Any]) -> str:
    """Return the name of an operation; a clip at zero, such as ReLU6, is a ReLU."""
    name: str = func.overloadpacket.__name__
    return "relu" if name in _CLIPS and len(args) > 1 and args[1] == 0 else name
