"""Watch which sizes forward code gives to torch's functions, before they become plain numbers in C++."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode

from .tracked_int import TrackedInt


class SizeArgument(NamedTuple):
    """A whole number given to a function of torch.

    Args:
        number: The number.
        dim: If it is a position on an axis, as in a slice, that axis; None if it is a size. A negative
            position counts from the end.
    """

    number: int
    dim: int | None = None


class SizeArguments(TorchFunctionMode):
    """Report the sizes among the arguments of each call of torch from Python.

    Args:
        report: Called with the sizes of a call before it runs, and with none after it.
    """

    def __init__(self, report: Callable[[Sequence[SizeArgument]], None]) -> None:
        super().__init__()
        self._report = report

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function; what it calls in turn is not seen."""
        kwargs = kwargs or {}
        find = _SIZES.get(getattr(func, "__name__", ""))
        if find is None:
            return func(*args, **kwargs)
        found = list(find(args, kwargs))
        if any(isinstance(size.number, TrackedInt) for size in found):
            self._report(found)
        try:
            return func(*args, **kwargs)
        finally:
            self._report(())


_Finder = Callable[[Sequence[Any], Mapping[str, Any]], Iterable[SizeArgument]]


def _given(*names: str, first: int, last: int | None = None) -> _Finder:
    """Make a function that finds sizes at positions of the arguments or under names."""

    def find(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[SizeArgument]:
        for value in (*args[first:last], *(kwargs[name] for name in names if name in kwargs)):
            yield from map(SizeArgument, _numbers(value))

    return find


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)


def _indices(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[SizeArgument]:
    """Find the ends of slices, each with the axis that it slices: ``x[..., a:b]``, and so on."""
    tensor, index = args[:2]
    items = index if isinstance(index, tuple) else (index,)
    named = sum(_axes(item) for item in items)
    dim = 0
    for item in items:
        if item is Ellipsis:
            dim += tensor.ndim - named
        elif isinstance(item, slice):
            for end in (item.start, item.stop):
                if isinstance(end, int):
                    yield SizeArgument(end, dim)
            dim += 1
        elif isinstance(item, bool) or not isinstance(item, int):  # a whole number removes its axis
            dim += 1


def _axes(item: Any) -> int:
    """Return how many axes of a tensor one item of an index is for."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return item.ndim if isinstance(item, Tensor) and str(item.dtype) in ("torch.bool", "torch.uint8") else 1


def _narrow(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[SizeArgument]:
    names = ("input", "dim", "start", "length")
    tensor, dim, start, length = (*args, *(kwargs[name] for name in names[len(args) :]))
    if isinstance(start, int) and isinstance(length, int):
        start = start + tensor.shape[dim] if start < 0 else start
        yield SizeArgument(start, dim % tensor.ndim)
        yield SizeArgument(start + length, dim % tensor.ndim)


def _cuts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[SizeArgument]:
    """Find the positions at which ``tensor_split`` cuts."""
    cuts = args[1] if len(args) > 1 else kwargs.get("indices", ())
    dim = args[2] if len(args) > 2 else kwargs.get("dim", 0)
    if isinstance(cuts, list | tuple):
        yield from (SizeArgument(cut, dim % args[0].ndim) for cut in _numbers(cuts))


_SIZES: dict[str, _Finder] = {
    **dict.fromkeys(
        ("view", "reshape", "expand", "repeat", "broadcast_to"), _given("size", "shape", "repeats", first=1)
    ),
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty"), _given("size", first=1)),
    "new_full": _given("size", first=1, last=2),
    **dict.fromkeys(("zeros", "ones", "empty", "rand", "randn"), _given("size", first=0)),
    "full": _given("size", first=0, last=1),
    **dict.fromkeys(
        ("split", "split_with_sizes", "unsafe_split"),
        _given("split_size", "split_size_or_sections", "split_sizes", first=1, last=2),
    ),
    "unflatten": _given("sizes", first=2),
    **dict.fromkeys(("__getitem__", "__setitem__"), _indices),
    "narrow": _narrow,
    "tensor_split": _cuts,
    **{f"conv{dims}d": _given("groups", first=6, last=7) for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _given("groups", first=6, last=7) for dims in (1, 2, 3)},
    "group_norm": _given("num_groups", first=1, last=2),
}
"""Where functions take sizes of channels, by their names; other numbers, such as strides, are none."""
