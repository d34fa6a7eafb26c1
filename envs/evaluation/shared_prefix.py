"""Compute once what several candidates share: all operations before the first one that differs.

Candidates whose masks agree on all layers before some layer run the same operations on the same numbers, up
to the first operation that reads a tensor which that layer's mask changes. The first candidate, the leader,
stores its results up to that operation. The others run the same Python code, but get the leader's results
until they differ. This needs no knowledge of the network and changes no number.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_LARGEST = 2**30
"""Largest allowed memory for the prefix on all batches together, bytes; above it nothing is shared."""


class SharedPrefix:
    """Share the common prefix of candidates that run on the same batches in the same order.

    Args:
        differing: Names of the parameters and buffers in which the candidates differ.
    """

    def __init__(self, differing: Collection[str]) -> None:
        self._differing = differing
        self._leaders: list[_Leader] = []
        self._led = False

    def passes(self, named: Sequence[tuple[str, Tensor]]) -> Iterator[AbstractContextManager[Any]]:
        """Yield a dispatch mode for each forward pass of a candidate; the first candidate is the leader.

        Args:
            named: The candidate's parameters and buffers with their names, and tensors computed from them
                with the names of all those. The leader's passes end before another's begin.
        """
        differing = {id(tensor) for name, tensor in named if name in self._differing}
        own = {_memory(tensor) for _, tensor in named}
        leads, self._led = not self._led, True
        while leads and self._worth_sharing():
            self._leaders.append(_Leader(differing, own))
            yield self._leaders[-1]
        # All passes are shared or none: the batch-norm statistics of the prefix come from all of the
        # leader's.
        if not self._worth_sharing():
            self._leaders.clear()
        for leader in self._leaders:
            yield _Follower(differing, leader)
        yield from repeat(nullcontext())

    def _worth_sharing(self) -> bool:
        spoilt = any(leader.spoilt for leader in self._leaders)
        return not spoilt and sum(leader.size for leader in self._leaders) <= _LARGEST


class _Leader(TorchDispatchMode):
    """Store the results of the prefix that later operations read.

    Args:
        differing: Ids of the tensors in which candidates differ; reading one of them ends the prefix.
        own: Addresses of the memory of the network's parameters and buffers.
    """

    def __init__(self, differing: Collection[int], own: set[int]) -> None:
        super().__init__()
        self.known: list[tuple[Any, Any]] = []  # operations of the prefix with their results
        self.size = 0  # bytes
        # Whether a stored result was overwritten later, as ``shortcut += x`` does, or the prefix overwrote a
        # tensor that it did not compute: its input, of which each follower has its own copy.
        self.spoilt = False
        self._differing, self._own = differing, own
        self._over = False
        self._needed: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and store its result if it belongs to the prefix."""
        read = _tensors((args, kwargs))
        self._over = self._over or _reads(read, self._differing)
        if self._over:
            self._needed |= {id(tensor): tensor for tensor in read}
        if func._schema.is_mutable:
            made = {_memory(tensor) for _, result in self.known for tensor in _tensors(result)}
            written = {_memory(tensor) for tensor in written_tensors(func, args, kwargs or {})}
            self.spoilt = self.spoilt or bool(written & made if self._over else written - made - self._own)
        result = func(*args, **kwargs or {})
        if not self._over:
            self.known.append((func, result))
        return result

    def __exit__(self, *error: Any) -> None:
        """Reduce results that no later operation reads to their shapes and strides."""
        super().__exit__(*error)
        scratch = torch.UntypedStorage(0)

        def emptied(tensor: Tensor) -> Tensor:
            if id(tensor) in self._needed:
                return tensor
            if scratch.nbytes() < tensor.untyped_storage().nbytes():
                scratch.resize_(tensor.untyped_storage().nbytes())
            place = tensor.storage_offset(), tensor.shape, tensor.stride()
            return torch.empty(0, dtype=tensor.dtype).set_(scratch, *place)

        self.known = [(func, tree_map_only(Tensor, emptied, result)) for func, result in self.known]
        kept = {
            _memory(x): x.untyped_storage().nbytes() for _, result in self.known for x in _tensors(result)
        }
        self.size = sum(kept.values())
        self._needed = {}


class _Follower(TorchDispatchMode):
    """Return the leader's results until the candidate differs.

    Args:
        differing: Ids of the candidate's tensors that may differ from the leader's.
        leader: The leader's pass on the same images.
    """

    def __init__(self, differing: Collection[int], leader: _Leader) -> None:
        super().__init__()
        self._differing = differing
        self._known = iter(leader.known)
        self._over = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the leader's result of an operation, or compute it."""
        self._over = self._over or _reads(_tensors((args, kwargs)), self._differing)
        if self._over:
            return func(*args, **kwargs or {})
        operation, result = next(self._known)
        assert operation is func, f"the leader ran {operation}, not {func}"
        return result


def _reads(tensors: list[Tensor], differing: Collection[int]) -> bool:
    return any(id(tensor) in differing for tensor in tensors)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def written_tensors(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Find the tensors that an operation overwrites."""
    arguments = func._schema.arguments
    given = {argument.name: value for argument, value in zip(arguments, args, strict=False)} | kwargs
    return _tensors([given.get(a.name) for a in arguments if a.alias_info and a.alias_info.is_write])


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
