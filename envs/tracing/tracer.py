"""Run a network and apply the tracing rule of every ATen operation."""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..io.memory import is_out_of_memory
from ..io.untrusted import with_type
from ..modules.calls import Call as ModelCall
from ..modules.structures import tensors_in
from .propagation import Propagation
from .rules import Call, rule_for
from .size_arguments import SizeArgument, SizeArguments

# With a separator at the end: torchvision is beside torch, and its lines count as the model's code.
_NOT_MODEL_CODE = tuple(str(Path(file).parent) + os.sep for file in (torch.__file__, __file__))


class NotRunningError(ValueError):
    """A network does not run on the inputs of a trace."""


class NotTrainingError(NotRunningError):
    """A network runs on the inputs of a trace in evaluation mode, but not in training mode."""


class Tracer(TorchDispatchMode):
    """Observe every ATen operation of a running network and the module that runs it.

    Args:
        model: A copy of the network, on the CPU.
        batch_size: Number of examples in a batch, at least 2.
        allow_inexact: What may be inexact; see :class:`.Propagation`.
    """

    def __init__(self, model: nn.Module, batch_size: int, allow_inexact: Collection[str] = ()) -> None:
        super().__init__()
        self.model = model
        self._names = {name for name, _ in model.named_modules()}
        self.propagation = Propagation(model, batch_size, _source_line, allow_inexact)

    def run(self, call: ModelCall, *, training: bool, counted: bool = True) -> None:
        """Trace one call of the network.

        Args:
            call: The method and its inputs.
            training: Whether to run it in training mode.
            counted: Whether its MACs are those of the network.

        Raises:
            NotRunningError: If the network does not run so.
            ValueError: If what it gives back cannot be opened.
        """
        propagation = self.propagation
        propagation.training, propagation.counted = training, counted
        with self._tracking_modules(), SizeArguments(self._given), self:
            try:
                self.model.train(training)
                outputs = call.on(self.model)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                leaves = tree_leaves(call.inputs)
                shapes = ", ".join(str(tuple(x.shape)) for x in leaves if isinstance(x, Tensor))
                mode = "training" if training else "evaluation"
                made = sorted({name for name, _ in self.model.named_modules()} - self._names)
                if made:
                    raise NotRunningError(
                        f"the network makes the module {made[0]!r} in its first pass; give it after that, "
                        "model(example)"
                    ) from error
                name = "the network" if call.method == "forward" else f"{call.method}() of the network"
                kind = NotTrainingError if training else NotRunningError
                raise kind(
                    f"{name} does not run on an input of {shapes} in {mode} mode: {_said(error)}"
                ) from error
        propagation.operation = "output"
        for tensor in tensors_in(outputs):
            for axis in propagation.value(tensor).axes:
                propagation.pin(axis, "the network's output")
                propagation.records.outputs += [] if axis is None else [axis]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, then apply its rule."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        call, propagation = Call(func, args, kwargs, result), self.propagation
        if any(output.is_nested for output in call.outputs):
            raise NotImplementedError("nested tensors cannot be followed; use padded ones")
        propagation.operation = call.name
        propagation.records.executed.add((call.name, propagation.modules[-1], _source_line()))
        propagation.reach(call.operands)
        rule_for(func)(propagation, call)
        return result

    def _given(self, sizes: Sequence[SizeArgument]) -> None:
        self.propagation.given = sizes

    def _measure_norm(self, norm: Any, output: Tensor) -> None:
        """Record the size of a norm's channels, which no function of torch gets."""
        self._given(
            [SizeArgument(norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features)]
        )
        self.propagation.measure(self.propagation.value(output).axes[1])
        self._given(())

    @contextmanager
    def _tracking_modules(self) -> Iterator[None]:
        """Keep the names of the running modules up to date."""
        running = self.propagation.modules

        def enter(name: str) -> Callable[..., None]:
            return lambda *_: running.append(name)

        def leave(module: nn.Module, _: Any, output: Any) -> None:
            if _is_bare_norm(module) and isinstance(output, Tensor):
                self._measure_norm(module, output)
            running.pop()

        handles = []
        for name, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _is_bare_norm(module: nn.Module) -> bool:
    """Return whether a norm has a size, its channels, and no tensor that shows it."""
    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
    return isinstance(module, norms) and not [*module.parameters(), *module.buffers()]


def _source_line() -> str:
    """Find the line of the model's own code that runs: the nearest frame outside torch and this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code is not Tracer.run.__code__:
        name = frame.f_code.co_filename
        if not name.startswith((*_NOT_MODEL_CODE, "<")):
            path = Path(name)
            return f"{path.parent.name}/{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _said(error: Exception) -> str:
    """Return the message of an error; its type, too, where that says more, as of a missing key."""
    plain = isinstance(error, RuntimeError | ValueError | TypeError) and str(error)
    return str(error) if plain else with_type(error)
