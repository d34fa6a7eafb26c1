"""The table of rules by operation name, and the call that a rule gets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..propagation import Propagation

FIXED = "channels meet a tensor whose size is fixed"
BROADCAST = "one channel is broadcast to many"
SELECTED = "channels are selected by position"


@dataclass(frozen=True)
class Call:
    """One operation that has just run.

    Args:
        func: The operation's overload.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        result: Its result.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """The operation's name without namespace ``aten``, such as ``relu_``."""
        return str(self.func._schema.name).removeprefix("aten::")

    @property
    def operands(self) -> list[Tensor]:
        """All tensors among the arguments, but for those that the result is written into (``out=``)."""
        read = {name: value for name, value in self.kwargs.items() if name not in outs(self.func)}
        return [x for x in tree_leaves((self.args, read)) if isinstance(x, Tensor)]

    @property
    def written(self) -> list[Tensor]:
        """All tensors that the operation writes into."""
        if not self.func._schema.is_mutable:
            return []
        given = (self[a.name] for a in self.func._schema.arguments if a.is_write)
        return [x for x in tree_leaves(list(given)) if isinstance(x, Tensor)]

    @property
    def outputs(self) -> list[Tensor]:
        """All tensors in the result."""
        return [x for x in tree_leaves(self.result) if isinstance(x, Tensor)]

    def has(self, name: str) -> bool:
        """Return whether this overload has an argument of this name."""
        return any(parameter.name == name for parameter in self.func._schema.arguments)

    def __getitem__(self, name: str) -> Any:
        """Return an argument by its schema name, or its default."""
        for position, parameter in enumerate(self.func._schema.arguments):
            if parameter.name == name:
                if position < len(self.args):
                    return self.args[position]
                return self.kwargs.get(name, parameter.default_value)
        raise AssertionError(f"{self.func} has no argument {name}")


@functools.cache
def outs(func: Any) -> frozenset[str]:
    """Return the names of the arguments that an operation writes its result into, such as ``out``."""
    return frozenset(argument.name for argument in func._schema.arguments if argument.is_out)


Rule: TypeAlias = Callable[[Propagation, Call], None]
RuleT = TypeVar("RuleT", bound=Callable[..., None])

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[RuleT], RuleT]:
    """Register a rule for ATen operations; ``relu`` covers ``relu_`` too."""

    def register(function: RuleT) -> RuleT:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return register
