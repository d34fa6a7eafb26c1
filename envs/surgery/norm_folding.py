"""Merge batch-norm into the convolutions and linear layers before it, on the graph of an exported network.

With known statistics a batch-norm is an affine map of each channel, which the layer before it can compute.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..modules.batchnorm_folding import EPS, TRAINING

_aten = torch.ops.aten

_CONVOLUTIONS = (
    _aten.conv1d.default, _aten.conv1d.padding, _aten.conv2d.default, _aten.conv2d.padding,
    _aten.conv3d.default, _aten.conv3d.padding,
)  # fmt: skip


def fold_norms(module: GraphModule) -> int:
    """Merge, in place, each batch-norm that is all that reads a convolution or linear layer into that.

    Args:
        module: What ``torch.export.export(model, ...).module()`` returns for a network in evaluation mode.

    Returns:
        The number of batch-norms that went.
    """
    folded = 0
    for norm in [node for node in module.graph.nodes if node.target is _aten.batch_norm.default]:
        layer = norm.args[0]
        if _is_foldable(layer, norm):
            _fold(module, layer, norm, folded)
            folded += 1
    if folded:
        _remove_unused(module)
        module.recompile()
    return folded


def _is_foldable(layer: Any, norm: Node) -> bool:
    if not isinstance(layer, Node) or list(layer.users) != [norm] or layer.kwargs or norm.kwargs:
        return False
    # Batch-norm counts axis 1 as channels, a linear layer the last one.
    is_linear = layer.target is _aten.linear.default and layer.meta["val"].dim() == 2
    read = [argument for argument in (*layer.args[1:3], *norm.args[1:5]) if argument is not None]
    return (
        (is_linear or layer.target in _CONVOLUTIONS)
        and norm.args[TRAINING] is False
        and norm.args[3] is not None
        and all(isinstance(argument, Node) and argument.op == "get_attr" for argument in read)
    )


def _fold(module: GraphModule, layer: Node, norm: Node, number: int) -> None:
    weight, bias, gain, offset, mean, variance = (
        None if argument is None else _tensor(module, argument)
        for argument in (layer.args[1], layer.args[2] if len(layer.args) > 2 else None, *norm.args[1:5])
    )
    assert weight is not None
    eps: Any = norm.args[EPS]
    statistics: Any = (_double(mean), _double(variance), eps)
    affine: Any = (_double(gain), _double(offset))
    new = fuse_conv_bn_weights(weight.double(), _double(bias), *statistics, *affine)
    source = layer.args[1]
    assert isinstance(source, Node)
    owner = str(source.target).rpartition(".")[0]
    names = []
    for kind, tensor in zip(("weight", "bias"), new, strict=True):
        names.append(f"{owner}.{kind}_{number}".lstrip("."))
        parameter = nn.Parameter(tensor.detach().to(weight.dtype), requires_grad=False)
        module.get_submodule(owner).register_parameter(f"{kind}_{number}", parameter)
    with module.graph.inserting_before(layer):
        nodes = [module.graph.get_attr(name) for name in names]
    layer.args = (layer.args[0], *nodes, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    module.graph.erase_node(norm)


def _double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().double()


def _tensor(module: GraphModule, node: Any) -> Tensor:
    owner, _, name = str(node.target).rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), name)
    return tensor


def _remove_unused(module: GraphModule) -> None:
    """Remove weights and statistics that nothing reads, which would be in the file."""
    read = {node.target for node in module.graph.nodes if node.op == "get_attr" and node.users}
    for node in list(module.graph.nodes):
        if node.op == "get_attr" and not node.users:
            module.graph.erase_node(node)
            owner, _, name = str(node.target).rpartition(".")
            holder = module.get_submodule(owner)
            if node.target not in read and hasattr(holder, name):
                delattr(holder, name)
