"""Record the operations of a network once, so that they run on the tensors of any cut without its modules.

A network runs under a dispatch mode that writes each operation into a ``torch.fx.Graph``. Sizes in the
arguments are plain numbers there. Which of them depend on the number of images or on a cut shows in a
comparison of several recordings: of the dense network with two numbers of images, and of two cuts. What
cannot be recorded so, such as a decision that depends on numbers, is refused.

Shapes: P images of a piece, C channels.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from .shared_prefix import written_tensors

_RESHAPES = (torch.ops.aten.view.default, torch.ops.aten.reshape.default)
_CONVOLUTION = torch.ops.aten.conv2d.default
_GROUPS = 6  # position of a convolution's groups among its arguments

_UNKNOWN = object()

PIECE = "piece"
"""Name of the images among a graph's inputs; the others have the names of parameters and buffers."""


class NotRecordableError(Exception):
    """The network does something that a graph of its operations cannot hold."""


class GraphRecorder(TorchDispatchMode):
    """Write the operations of one forward pass into a graph.

    Each input of the graph is a node with the name of its tensor in ``meta["name"]``. All nodes of tensors
    have a ``meta["shape"]`` and ``meta["dtype"]``. Operations in place are written as those that return a new
    tensor.

    Args:
        named: The network's parameters and buffers, by name.
        piece: The images, (P, ...).
    """

    def __init__(self, named: Mapping[str, Tensor], piece: Tensor) -> None:
        super().__init__()
        self.graph = Graph()
        self._nodes: dict[int, Node] = {}
        self._alive: list[Tensor] = []  # so that no two tensors have the same id
        self._own = {_memory(tensor) for tensor in (piece, *named.values())}
        for name, tensor in ((PIECE, piece), *named.items()):
            if id(tensor) in self._nodes:  # shared; the trace knows it by its first name, too
                continue
            node = self.graph.placeholder(f"tensor_{len(self._nodes)}")
            node.meta["name"] = name
            self._define(node, tensor)

    def finish(self, output: Tensor) -> Graph:
        """Return the graph that computes ``output``, without inputs that nothing reads."""
        self.graph.output(self._node(output))
        erase_unused(self.graph)
        return self.graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and write it down."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags or torch.Tag.data_dependent_output in func.tags:
            raise NotRecordableError(f"{func} depends on chance or on numbers")
        written = written_tensors(func, args, kwargs)
        target = self._functional(func, written) if written else func
        node = self.graph.call_function(target, *tree_map_only(Tensor, self._node, (args, kwargs)))
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self._define(node, result)
        elif isinstance(result, (tuple, list)) and all(isinstance(part, Tensor) for part in result):
            for k, part in enumerate(result):
                self._define(self.graph.call_function(operator.getitem, (node, k)), part)
        else:
            raise NotRecordableError(f"{func} returns more than tensors")
        return result

    def _functional(self, func: Any, written: Sequence[Tensor]) -> Any:
        """Return the operation that returns what another one writes into its first argument."""
        places = [_memory(tensor) for tensor in written]
        shared = sum(_memory(tensor) in places for tensor in {id(x): x for x in self._alive}.values())
        name = func._schema.name.removeprefix("aten::")
        packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
        twin = getattr(packet, func._overloadname, None)
        if len(written) > 1 or shared != 1 or self._own & set(places) or not name.endswith("_") or not twin:
            raise NotRecordableError(f"{func} overwrites a tensor")
        return twin

    def _define(self, node: Node, tensor: Tensor) -> None:
        node.meta["shape"], node.meta["dtype"] = tensor.shape, tensor.dtype
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)

    def _node(self, tensor: Tensor) -> Node:
        if id(tensor) not in self._nodes:
            raise NotRecordableError("an operation reads a tensor of unknown origin")
        return self._nodes[id(tensor)]


def record_graph(forward: Callable[[nn.Module, Tensor], Tensor], model: nn.Module, piece: Tensor) -> Graph:
    """Record what a network does with a piece (P, ...).

    Raises:
        NotRecordableError: If a graph cannot hold it.
    """
    with GraphRecorder(named_tensors(model), piece) as recorder:
        output = forward(model, piece)
    return recorder.finish(output)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name; those of modules that share them have several names."""
    parameters, buffers = model.named_parameters, model.named_buffers
    return dict(parameters(remove_duplicate=False)) | dict(buffers(remove_duplicate=False))


def erase_unused(graph: Graph) -> None:
    """Erase inputs of a graph that nothing reads."""
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.meta["name"] != PIECE and not node.users:
            graph.erase_node(node)


def generalise(recordings: Sequence[Graph]) -> Graph:
    """Make one graph for any number of images and any cut.

    Args:
        recordings: Of the dense network, of the same with another number of images, and of cuts with the
            first number of images. The first one is changed.

    Returns:
        The first recording, with computed sizes in place of those that differ.

    Raises:
        NotRecordableError: If operations differ, or a size that differs follows from nothing known.
    """
    graph, *others = recordings
    images = [_input(recorded).meta["shape"][0] for recorded in recordings]
    orders = [{node: k for k, node in enumerate(recorded.nodes)} for recorded in recordings]
    if any(len(order) != len(orders[0]) for order in orders):
        raise NotRecordableError("a cut runs other operations")
    count: Node | None = None
    for node, *same in list(zip(graph.nodes, *(other.nodes for other in others), strict=True)):
        if any(_operation(other) != _operation(node) for other in same):
            raise NotRecordableError("a cut runs other operations")
        arguments = list(_arguments(node))
        leaves = [_arguments(one, order) for one, order in zip((node, *same), orders, strict=True)]
        columns = zip(*leaves, strict=True)
        for k, column in enumerate(columns):
            if column.count(column[0]) == len(column):
                continue
            if list(column) == images:
                if count is None:
                    with graph.inserting_after(_input(graph)):
                        count = graph.call_function(len, (_input(graph),))
                arguments[k] = count
            else:
                arguments[k] = _UNKNOWN
        node.args, node.kwargs = _derived(graph, node, arguments)
    return graph


def _operation(node: Node) -> tuple[Any, ...]:
    """Return what a node does, without the values of its arguments."""
    target = node.target if node.op == "call_function" else node.meta.get("name")
    return node.op, target, tree_flatten((node.args, node.kwargs))[1]


def _arguments(node: Node, order: Mapping[Node, int] | None = None) -> list[Any]:
    """List a node's arguments; with an order, nodes among them by their number."""
    leaves = tree_flatten((node.args, node.kwargs))[0]
    return [("node", order[x]) if order and isinstance(x, Node) else x for x in leaves]


def _derived(graph: Graph, node: Node, leaves: list[Any]) -> Any:
    """Return a node's arguments with the size that differs between cuts, if one does, filled in."""
    args, kwargs = tree_unflatten(leaves, tree_flatten((node.args, node.kwargs))[1])
    if not any(leaf is _UNKNOWN for leaf in leaves):
        return args, kwargs
    if node.target in _RESHAPES:
        sizes = [-1 if size is _UNKNOWN else size for size in args[1]]
        if sizes.count(-1) == 1:
            return (args[0], sizes), kwargs
    if node.target is _CONVOLUTION and [k for k, x in enumerate(args) if x is _UNKNOWN] == [_GROUPS]:
        with graph.inserting_before(node):
            return (*args[:_GROUPS], graph.call_function(_groups, tuple(args[:2]))), kwargs
    raise NotRecordableError(f"{node.target} has sizes that depend on the cut")


def _groups(inputs: Tensor, weight: Tensor) -> int:
    return inputs.shape[1] // weight.shape[1]


def _input(graph: Graph) -> Node:
    return next(iter(graph.nodes))


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
