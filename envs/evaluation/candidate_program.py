"""Run candidates as a list of operations on their tensors, with batch-norm folded into convolutions.

A batch-norm with known statistics is an affine map of each channel. So the convolution before it can compute
it, and the sum and the ReLU that follow as well, without another pass through memory. The operations of most
CNNs are fewer than half as many then. What stands alone is computed as the network does.

Shapes: P images of a piece, N filters of a convolution.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from ..io.tensor_files import is_finite
from ..modules.batchnorm_folding import EPS, MOMENTUM, TRAINING, affine_of_batchnorm
from .operation_graph import (
    PIECE,
    NotRecordableError,
    erase_unused,
    generalise,
    named_tensors,
    record_graph,
)

_aten = torch.ops.aten
_DEFAULTS: list[Any] = [None, None, None, [1, 1], [0, 0], [1, 1], 1]  # of a convolution's arguments
_SUMS, _RELUS = (_aten.add.Tensor,), (_aten.relu.default,)
_FUSED_DIMENSIONS = 4

_FOLDING_ERROR = {torch.bfloat16: 0.1, torch.float32: 1e-3}
"""Largest relative error of the outputs from folding; a wrong fold errs by about 1."""


@dataclass(frozen=True)
class Folding:
    """A convolution that computes the batch-norm after it.

    Args:
        convolution: Names of the convolution's weight and bias; a bias may be missing.
        norm: Names of the batch-norm's weight, bias, mean and variance; the first two may be missing.
        eps: Added to the variance.
    """

    convolution: tuple[str, str | None]
    norm: tuple[str | None, str | None, str, str]
    eps: float

    @property
    def names(self) -> list[str]:
        """Names of all tensors that the folded ones depend on."""
        return [name for name in (*self.convolution, *self.norm) if name is not None]

    def empty(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Allocate the folded weight and bias (N,)."""
        weight = tensors[self.convolution[0]]
        return torch.empty_like(weight), weight.new_empty(len(weight))

    def compute(self, tensors: Mapping[str, Tensor], folded: tuple[Tensor, Tensor]) -> None:
        """Fill in the folded weight and bias.

        Args:
            tensors: The candidate's tensors by name, statistics included.
            folded: What :meth:`empty` returned.
        """
        weight, bias, gain, offset, mean, variance = (
            None if name is None else tensors[name].float() for name in (*self.convolution, *self.norm)
        )
        assert weight is not None
        assert mean is not None
        assert variance is not None
        scale, shift = affine_of_batchnorm(gain, offset, mean, variance, self.eps, bias)
        folded[0].copy_(weight * scale.view(-1, *(1,) * (weight.dim() - 1)))
        folded[1].copy_(shift)


class CandidateProgram:
    """Take a candidate's batch-norm statistics and compute its outputs from its tensors.

    Args:
        graph: The network's operations in evaluation mode, for any cut.
        norms: Names of the means and variances that are re-estimated.
        fold: Whether to fold batch-norm into convolutions.
    """

    def __init__(self, graph: Graph, norms: Sequence[tuple[str, str]], *, fold: bool = True) -> None:
        self._means = {mean for mean, _ in norms}
        self._variances = {variance for _, variance in norms}
        self._statistics = _Compiled(_statistics_graph(graph, self._means))
        folded, self._foldings = _fold(graph) if fold else (graph, [])
        self.outputs = _Compiled(folded)

    @property
    def names(self) -> set[str]:
        """Names of the parameters and buffers that are read."""
        read = {*self._statistics.names, *self.outputs.names}
        return {name for name in read if isinstance(name, str)}.union(*(one.names for one in self._foldings))

    def prepared(
        self, tensors: Mapping[str, Tensor], statistics: Sequence[Tensor], shared: Any = None
    ) -> Callable[[Tensor], Tensor]:
        """Re-estimate batch-norm statistics.

        Args:
            tensors: The candidate's parameters and buffers by name.
            statistics: Images for the statistics, pieces (P, ...); without any, the given ones stay.
            shared: The prefix shared with other candidates, or None.

        Returns:
            Computes the outputs for a piece. Without a shared prefix, several threads may call it.
        """
        inputs: dict[str | int, Tensor] = {name: tensor for name, tensor in tensors.items()}
        if statistics:
            inputs |= {name: torch.zeros_like(tensors[name]) for name in self._means}
            inputs |= {name: torch.ones_like(tensors[name]) for name in self._variances}
        folded = [folding.empty(tensors) for folding in self._foldings]
        for k, (weight, bias) in enumerate(folded):
            inputs[2 * k], inputs[2 * k + 1] = weight, bias
        passes: Iterator[AbstractContextManager[Any]] = itertools.repeat(contextlib.nullcontext())
        if shared:
            passes = shared.passes([*_named(inputs), *self._named_folded(folded)])
        for count, piece in enumerate(statistics, start=1):
            with next(passes):
                self._statistics(piece, inputs, momentum=1 / count)
        for folding, both in zip(self._foldings, folded, strict=True):
            folding.compute(inputs, both)  # type: ignore[arg-type]
        finite = all(map(is_finite, itertools.chain.from_iterable(folded)))

        def answer(piece: Tensor) -> Tensor:
            with next(passes):
                output = self.outputs(piece, inputs)
            # A fused ReLU makes zeros of what is no number, which would pass for an answer.
            return output if finite else torch.full_like(output, math.nan)

        return answer

    def _named_folded(self, folded: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Name folded tensors after all those that they depend on."""
        for folding, both in zip(self._foldings, folded, strict=True):
            for name in folding.names:
                yield from ((name, tensor) for tensor in both)


def compile_program(
    forward: Callable[[nn.Module, Tensor], Tensor],
    measured: Callable[[nn.Module], Tensor],
    networks: Sequence[nn.Module],
    piece: Tensor,
    norms: Sequence[tuple[str, str]],
) -> CandidateProgram | None:
    """Compile the operations of a network, and check the result on a cut.

    Args:
        forward: Computes a network's outputs for a piece.
        measured: Takes the statistics of a network from ``piece``, then computes its outputs for it.
        networks: The dense network and three different cuts; the last one is for the check and is changed.
        piece: A few images (P, ...).
        norms: Names of the means and variances that are re-estimated.

    Returns:
        None if the operations cannot be recorded, or do not compute on the cut what the network does.
    """
    dense, *cuts, checked = networks
    pieces = [piece, torch.cat([piece, piece[:1]]), *(piece for _ in cuts)]
    recorded = zip([dense, dense, *cuts], pieces, strict=True)
    try:
        graph = generalise([record_graph(forward, model, images) for model, images in recorded])
    except NotRecordableError:
        return None
    tensors = {name: tensor.clone() for name, tensor in named_tensors(checked).items()}
    plain = CandidateProgram(graph, norms, fold=False)
    output = plain.prepared(tensors, [piece] if norms else [])(piece)
    if not torch.allclose(output, measured(checked), rtol=0, atol=0, equal_nan=True):
        return None
    try:
        folded = CandidateProgram(graph, norms)
        wanted, output = (program.prepared(tensors, [])(piece) for program in (plain, folded))
    except (RuntimeError, AttributeError):  # there is no oneDNN, or it cannot do this
        return plain
    error = float((output - wanted).norm() / wanted.norm())
    return folded if error <= _FOLDING_ERROR[piece.dtype] else plain


class _Compiled:
    """A graph as a function."""

    def __init__(self, graph: Graph) -> None:
        graph.lint()
        self.graph = graph
        inputs = [node.meta["name"] for node in graph.nodes if node.op == "placeholder"]
        self.names: list[str | int] = [name for name in inputs[1:] if name != "momentum"]
        self._takes_momentum = "momentum" in inputs
        self._function = GraphModule(nn.Module(), graph).forward

    def __call__(self, piece: Tensor, inputs: Mapping[str | int, Tensor], momentum: float = 0.0) -> Any:
        tensors = [inputs[name] for name in self.names]
        return self._function(piece, *tensors, *((momentum,) if self._takes_momentum else ()))


def _named(inputs: Mapping[str | int, Tensor]) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in inputs.items() if isinstance(name, str)]


def _copied(graph: Graph) -> Graph:
    copied = Graph()
    output = copied.graph_copy(graph, {})
    copied.output(output)
    return copied


def _statistics_graph(graph: Graph, means: set[str]) -> Graph:
    """Return the graph that updates the statistics of batch-norms and computes nothing else."""
    graph = _copied(graph)
    norms = [node for node in _norms_of(graph) if _name(node.args[3]) in means]
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    with graph.inserting_after(inputs[-1]):
        momentum = graph.placeholder("momentum")
    momentum.meta["name"] = "momentum"
    for norm in norms:
        norm.args = (*norm.args[:TRAINING], True, momentum, *norm.args[MOMENTUM + 1 :])
    (output,) = [node for node in graph.nodes if node.op == "output"]
    output.args = (None,)
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users and node not in norms:
            graph.erase_node(node)
    erase_unused(graph)
    return graph


def _norms_of(graph: Graph) -> list[Node]:
    """List batch-norms that normalise with statistics given by name."""
    found = [node for node in graph.nodes if node.target is _aten.batch_norm.default]
    return [n for n in found if n.args[TRAINING] is False and _name(n.args[3]) and _name(n.args[4])]


def _fold(graph: Graph) -> tuple[Graph, list[Folding]]:
    """Return the graph with batch-norms, and sums and ReLUs after them, in the convolutions before them."""
    graph = _copied(graph)
    foldings: list[Folding] = []
    for norm in _norms_of(graph):
        convolution = norm.args[0]
        if _foldable(convolution, norm):
            _fold_one(graph, convolution, norm, foldings)  # type: ignore[arg-type]
    erase_unused(graph)
    return graph, foldings


def _foldable(convolution: Any, norm: Node) -> bool:
    return (
        isinstance(convolution, Node)
        and convolution.target is _aten.conv2d.default
        and len(convolution.meta["shape"]) == _FUSED_DIMENSIONS
        and list(convolution.users) == [norm]
        and all(argument is None or _name(argument) for argument in (*convolution.args[1:3], *norm.args[1:3]))
    )


def _fold_one(graph: Graph, convolution: Node, norm: Node, foldings: list[Folding]) -> None:
    given = list(convolution.args)
    inputs, weight, bias, stride, padding, dilation, groups = given + _DEFAULTS[len(given) :]
    gain, offset, mean, variance = map(_name, norm.args[1:5])
    first = _name(weight)
    assert first is not None
    assert mean is not None
    assert variance is not None
    eps: Any = norm.args[EPS]
    foldings.append(Folding((first, _name(bias)), (gain, offset, mean, variance), eps))
    folded = _new_inputs(graph, len(foldings) - 1)
    summed = _only_user(norm, _SUMS)
    other = _other_summand(summed, norm) if summed and groups == 1 else None
    chain = [convolution, norm] if summed is None or other is None else [convolution, norm, summed]
    if relu := _only_user(chain[-1], _RELUS):
        chain.append(relu)
    arguments: list[Any] = [*folded, padding, stride, dilation, groups]
    target: Any = torch.ops.mkldnn._convolution_pointwise.default
    if other is None:
        arguments = [inputs, *arguments, "relu" if relu else "none", [], ""]
    else:
        target = torch.ops.mkldnn._convolution_pointwise.binary
        arguments = [inputs, other, *arguments, "add", 1.0, "relu" if relu else None, [], None]
    last = chain[-1]
    with graph.inserting_before(last):
        fused = graph.call_function(target, tuple(arguments))
    fused.meta.update(last.meta)
    last.replace_all_uses_with(fused)
    for node in reversed(chain):
        graph.erase_node(node)


def _new_inputs(graph: Graph, number: int) -> list[Node]:
    """Add inputs for the folded weight and bias with a given number, named by even and odd integers."""
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    added = []
    for k in (2 * number, 2 * number + 1):
        with graph.inserting_after(last):
            last = graph.placeholder(f"folded_{k}")
        last.meta["name"] = k
        added.append(last)
    return added


def _other_summand(summed: Node, norm: Node) -> Node | None:
    """Return what is added to a batch-norm's output, if it has the same shape and type."""
    one, two = summed.args
    other = two if one is norm else one
    if not isinstance(other, Node) or other is norm or summed.kwargs:
        return None
    return other if all(other.meta.get(key) == norm.meta[key] for key in ("shape", "dtype")) else None


def _only_user(node: Node, targets: tuple[Any, ...]) -> Node | None:
    """Return the only node that reads another, if it does one of the given operations."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in targets else None


def _name(node: Any) -> str | None:
    """Return the name of the parameter or buffer that a node stands for, or None."""
    if not isinstance(node, Node) or node.op != "placeholder" or node.meta["name"] == PIECE:
        return None
    name = node.meta["name"]
    return name if isinstance(name, str) else None
