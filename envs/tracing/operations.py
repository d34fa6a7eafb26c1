"""What one pass of a network does: its operations, what each depends on, and which modules run them.

Sets of operations are whole numbers whose bit k stands for operation k; inputs of the network are operations,
too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from ..modules.calls import Call
from ..modules.copying import replica
from ..modules.inputs import first_input
from ..modules.precision import converted
from ..modules.randomness import fixed_randomness
from ..modules.structures import tensors_in
from .rules import Call as Operation

_ADDITIONS = (torch.ops.aten.add, torch.ops.aten.add_)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


_COUNTERS: dict[Any, Callable[..., float]] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,  # which torch leaves out
}
"""Functions that count the floating-point operations of an operation, by its packet."""


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module.

    Args:
        given: Operations that computed the tensors among its arguments.
        returned: The operation that computed what it returns; None if that is not a single tensor.
        shape: Shape of its first argument, () if that is no tensor.
        begun: Number of operations before it.
    """

    given: int
    returned: int | None
    shape: tuple[int, ...]
    begun: int


@dataclass(frozen=True)
class Addition:
    """An addition of two tensors of the same shape that operations computed.

    Args:
        number: The operation.
        operands: The operations that computed them.
        shape: Shape of the sum.
        is_in_place: Whether it overwrites the first operand.
        module: Name of the module that adds.
    """

    number: int
    operands: tuple[int, int]
    shape: tuple[int, ...]
    is_in_place: bool
    module: str


@dataclass
class Operations:
    """The operations of one pass.

    Args:
        count: How many there are.
        origins: By operation, all that it depends on, itself included.
        readers: By operation, those that read its result.
        macs: By operation, multiply-accumulate operations of the whole batch.
        parameters: By name, the operations that read a parameter or buffer.
        rows: By name, the first side of a parameter or buffer.
        modules: By name, the operations that run while a module runs.
        calls: By name, the calls of a module, in the order of their ends.
        ended: By name, the time when the last call of a module ended.
        additions: All additions.
        inputs: The operations that are inputs of the network.
        outputs: Those that computed what the network gives back.
    """

    count: int = 0
    origins: list[int] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)
    macs: list[float] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    modules: dict[str, int] = field(default_factory=dict)
    calls: dict[str, list[ModuleCall]] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    additions: list[Addition] = field(default_factory=list)
    inputs: int = 0
    outputs: int = 0

    def add(self, needed: int, macs: float = 0.0) -> int:
        """Add an operation that reads the results of others, and return its number."""
        number, self.count = self.count, self.count + 1
        origin = 1 << number
        for k in bits(needed):
            origin |= self.origins[k]
            self.readers[k] |= 1 << number
        self.origins.append(origin)
        self.readers.append(0)
        self.macs.append(macs)
        return number

    @property
    def used(self) -> int:
        """Operations on which an output depends; others make tensors that a kernel writes to, for one."""
        used = 0
        for number in bits(self.outputs):
            used |= self.origins[number]
        return used

    def parameters_of(self, numbers: int) -> list[str]:
        """Return the names of the parameters and buffers that some operations read."""
        return [name for name, readers in self.parameters.items() if readers & numbers]


def bits(numbers: int) -> Iterator[int]:
    """Yield the members of a set."""
    while numbers:
        lowest = numbers & -numbers
        yield lowest.bit_length() - 1
        numbers ^= lowest


def record_operations(model: nn.Module, call: Call) -> Operations:
    """Run a network once in evaluation mode and record what it does.

    Args:
        model: Any network; a float32 copy of it runs on the CPU.
        call: What to run.

    Raises:
        ValueError: If the network does not run.
    """
    copied = converted(replica(model).cpu(), torch.float32).eval()
    given = call.to(torch.float32)
    recorder = _Recorder(copied)
    with torch.no_grad(), fixed_randomness():
        return recorder.run(given)


class _Recorder(TorchDispatchMode):
    """Record the operations of a running network.

    A tensor has a maker, the operation that made it; an operation in place on a tensor that shares its memory
    changes it, too.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found = Operations()
        self._model = model
        self._makers: dict[int, int] = {}
        self._writers: dict[int, int] = {}  # by memory, the last operation in place
        self._alive: list[Tensor] = []  # so that no two tensors have the same id
        self._running: list[tuple[str, int]] = []  # with the number of operations before the call
        self._clock = 0
        both = (model.named_parameters(), model.named_buffers())
        self._named = {id(tensor): name for named in both for name, tensor in named}

    def run(self, call: Call) -> Operations:
        """Run a call."""
        call = Call(call.method, call.inputs)
        with self._tracking_modules(), self:
            for tensor in tensors_in(call.inputs):
                number = self.found.add(0)
                self.found.inputs |= 1 << number
                self._made(tensor, number)
            method = self._model if call.method == "forward" else getattr(self._model, call.method)
            outputs = method(*call.inputs)  # not copies: these tensors are known
        for tensor in tensors_in(outputs):
            self.found.outputs |= self._needed([tensor])
        return self.found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and record it."""
        kwargs = kwargs or {}
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        needed, operands = self._needed(read), [self._maker(x) for x in read[:2]]
        shapes = [tuple(x.shape) for x in read[:2]]
        result = func(*args, **kwargs)
        counter = _COUNTERS.get(func._overloadpacket)
        number = self.found.add(needed, counter(*args, **kwargs, out_val=result) / 2 if counter else 0.0)
        for name, _ in self._running:
            self.found.modules[name] = self.found.modules.get(name, 0) | 1 << number
        for tensor in read:
            if (held := self._named.get(id(tensor))) is not None:
                self.found.parameters[held] = self.found.parameters.get(held, 0) | 1 << number
                self.found.rows[held] = tensor.shape[0] if tensor.ndim else 1
        written = Operation(func, args, kwargs, result).written
        for tensor in written:
            self._writers[_memory(tensor)] = number
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._made(tensor, number)
        if func._overloadpacket in _ADDITIONS and len(read) == 2 and shapes[0] == shapes[1]:
            one, other = operands
            if one is not None and other is not None:
                module = self._running[-1][0] if self._running else ""
                self.found.additions.append(Addition(number, (one, other), shapes[0], bool(written), module))
        return result

    def _made(self, tensor: Tensor, number: int) -> None:
        self._makers[id(tensor)] = number
        self._alive.append(tensor)

    def _maker(self, tensor: Tensor) -> int | None:
        """Return the last operation that made or changed a tensor; None for parameters and constants."""
        made, written = self._makers.get(id(tensor)), self._writers.get(_memory(tensor))
        if made is None or written is None:
            return made if written is None else written
        return max(made, written)

    def _needed(self, tensors: list[Tensor]) -> int:
        needed = 0
        for tensor in tensors:
            for number in (self._makers.get(id(tensor)), self._writers.get(_memory(tensor))):
                needed |= 0 if number is None else 1 << number
        return needed

    @contextmanager
    def _tracking_modules(self) -> Iterator[None]:
        def enter(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any) -> None:
                self._running.append((name, self.found.count))

            return hook

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            name, begun = self._running.pop()
            first = first_input(args, kwargs)
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.found.calls.setdefault(name, []).append(
                ModuleCall(
                    self._needed(tensors),
                    self._maker(output) if isinstance(output, Tensor) else None,
                    tuple(first.shape) if isinstance(first, Tensor) else (),
                    begun,
                )
            )
            self._clock += 1
            self.found.ended[name] = self._clock

        handles = []
        for name, module in self._model.named_modules():
            handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _memory(tensor: Tensor) -> int:
    """Return what tells the memory of a tensor; that of an empty tensor is its own."""
    return tensor.untyped_storage()._cdata
