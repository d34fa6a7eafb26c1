"""Copies of networks.

``copy.deepcopy`` alone is not enough. It refuses tensors that were computed from parameters. And it shares
functions with the original, together with what they hold: a hook ``lambda *_: self.seen.append(_)`` of the
copy would write to the original.
"""

import copy
import functools
import pickle
import types
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from ..io.memory import is_out_of_memory
from ..io.untrusted import first_line
from .held_objects import held_objects, is_proxy
from .structures import ATOMS, CODE, contents_of, is_plain_object


def replica(model: nn.Module, replacements: Mapping[Tensor, Tensor] | None = None) -> nn.Module:
    """Copy a network with all that it holds; running the copy does not change the original.

    Functions, such as hooks and a ``forward`` that was set on a module, hold the copies of what they held in
    their closures, defaults and attributes; weak references lead to the copy. Tensors that were computed from
    parameters are copied by value. What cannot be copied, such as a lock or a generator, is shared.

    Args:
        model: Any network; it is not changed.
        replacements: Maps tensors of the network, compared by identity, to the tensors that the copy holds in
            their place. Shapes may differ.

    Raises:
        ValueError: If an object of the network refuses to be copied.
    """
    try:
        with _ComputedTensorsByValue():
            return copy.deepcopy(model, _Memo(model, replacements or {}))
    except Exception as error:  # the network's code may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"the network cannot be copied ({type(error).__name__}: {first_line(error)}); give a network "
            "that copy.deepcopy accepts"
        ) from error


class _ComputedTensorsByValue(TorchFunctionMode):
    """Let ``copy.deepcopy`` copy the values of tensors with a gradient function, which it refuses."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch."""
        if func is Tensor.__deepcopy__ and args[0].grad_fn is not None:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))


class _Memo(dict[int, Any]):
    """The memo of ``copy.deepcopy``, which is asked first for each object: it copies what that would share.

    Args:
        model: The network to copy.
        replacements: As for :func:`replica`.
    """

    def __init__(self, model: nn.Module, replacements: Mapping[Tensor, Tensor]) -> None:
        super().__init__({id(old): new for old, new in replacements.items()})
        self._held = {id(value): value for value in held_objects(model)}

    def get(self, key: int, default: Any = None) -> Any:
        """Return the copy of the object with an id."""
        if key not in self and key in self._held:
            copied = self._copy(self._held[key])
            if copied is not None:
                self.setdefault(key, copied)
        return super().get(key, default)

    def _copy(self, value: Any) -> Any:
        """Copy an object of a kind that ``copy.deepcopy`` would share or refuse; return None for others."""
        if is_proxy(value) or isinstance(value, weakref.ref):
            return self._copy_weak(value)
        match value:
            case types.FunctionType():
                return self._copy_function(value) if _holds_state(value) else None
            case types.CellType():
                return self._copy_cell(value)
            case types.MethodType():
                return types.MethodType(self._deepcopy(value.__func__), self._deepcopy(value.__self__))
            case types.BuiltinFunctionType() if not isinstance(value.__self__, ATOMS):
                return getattr(self._deepcopy(value.__self__), value.__name__)
        return value if _is_uncopiable(value) else None

    def _copy_function(self, function: types.FunctionType) -> Any:
        cells = tuple(self._deepcopy(cell) for cell in function.__closure__ or ())
        if id(function) in self:  # it holds itself, and was copied with its cells
            return super().get(id(function))
        copied = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
        self[id(function)] = copied
        functools.update_wrapper(copied, function, updated=())
        copied.__defaults__ = self._deepcopy(function.__defaults__)
        copied.__kwdefaults__ = self._deepcopy(function.__kwdefaults__)
        copied.__dict__ = self._deepcopy(vars(function))
        return copied

    def _copy_cell(self, cell: types.CellType) -> types.CellType:
        self[id(cell)] = copied = types.CellType()
        for contents in contents_of(cell):
            copied.cell_contents = self._deepcopy(contents)
        return copied

    def _copy_weak(self, reference: Any) -> Any:
        """Let a weak reference or proxy lead to the copy of its referent, if that is copied, too."""
        try:
            referent = reference.__repr__.__self__ if is_proxy(reference) else reference()
        except ReferenceError:
            return reference
        owner = referent.__self__ if isinstance(referent, types.MethodType) else referent
        if id(owner) not in self._held:
            return reference
        kind = weakref.proxy if is_proxy(reference) else type(reference)
        return kind(self._deepcopy(referent))

    def _deepcopy(self, value: Any) -> Any:
        return copy.deepcopy(value, self)


def _holds_state(function: types.FunctionType) -> bool:
    """Return whether a function, or one that it holds, holds anything but code and constants."""
    for value in held_objects(function):
        parts = contents_of(value) if isinstance(value, types.CellType) else [value]
        if not all(isinstance(part, CODE | tuple | frozenset) for part in parts):
            return True
    return False


def _is_uncopiable(value: Any) -> bool:
    if isinstance(value, list | dict | tuple | set | frozenset | Tensor | nn.Module):
        return False
    if is_plain_object(value) or hasattr(value, "__deepcopy__"):
        return False
    try:
        value.__reduce_ex__(4)  # as copy.deepcopy does
    except (TypeError, pickle.PicklingError):
        return True
    return False


def with_own_state(model: nn.Module) -> nn.Module:
    """Copy a network except its parameters, which both have: passes of the copy do not change the network."""
    return replica(model, {parameter: parameter for parameter in model.parameters()})


def without_numbers(model: nn.Module) -> nn.Module:
    """Move the parameters and buffers of a network to the meta device, in place; what is shared stays so."""
    moved: dict[Tensor, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = moved.setdefault(tensor, on_meta(tensor))
    return model


def on_meta(tensor: Tensor) -> Tensor:
    """Return a parameter or tensor of the same shape and type without numbers."""
    meta = tensor.detach().to("meta")
    return nn.Parameter(meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else meta


def refresh_masked_weights(model: nn.Module) -> None:
    """Recompute weights that hooks mask (``torch.nn.utils.prune``) or normalise, without a forward pass."""
    with torch.no_grad():
        for module in model.modules():
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, BasePruningMethod | WeightNorm):
                    hook(module, ())
                elif isinstance(hook, SpectralNorm):  # without the power iteration of training mode
                    setattr(module, hook.name, hook.compute_weight(module, do_power_iteration=False))
