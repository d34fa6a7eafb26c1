"""Files of networks in int8: ONNX with whole numbers, and torch's ``.pt2`` in the form of torchao."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from ..io.atomic_write import write_atomically
from ..modules.copying import replica
from ..sparsity.masks import remove_masks
from ..surgery.export import (
    Exported,
    Shapes,
    check_normalisation,
    check_writable,
    compare,
    require_onnx,
    write_onnx,
    write_pt2,
)
from ..surgery.formats import Int8Format
from ..surgery.preprocessing import Preprocessed
from .fake import quantized_layers
from .integers import integer_network

TOLERANCE = 0.1
"""Largest allowed difference of a file's outputs from the simulation's, relative to the largest output. A sum
in the middle of two whole numbers is rounded up in the one and down in the other; later layers see that step.
Six networks differ by at most 0.03, another network's outputs by 1."""


def export_int8(
    model: nn.Module,
    path: str | Path,
    format: Int8Format,
    *shapes: tuple[int, ...],
    metadata: Mapping[str, Any] | None = None,
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Exported:
    """Write a network under fake quantisation to a file of whole numbers, for any batch size.

    Args:
        model: The network, with its ranges; it is not changed.
        path: A file that does not exist, in a folder that exists.
        format: ``onnx-int8``, with QuantizeLinear and DequantizeLinear around its layers, which runtimes join
            to layers in int8; or ``torchao``, a ``.pt2`` with the operations of ``convert_pt2e``, which
            compute in float until ``torch.compile`` joins them.
        *shapes: Shape of one example of each input, without the batch.
        metadata: As for :func:`secateur.envs.surgery.export.export`.
        normalisation: As for the same.

    Raises:
        ValueError: If the file exists, a package is missing, the network is not under fake quantisation,
            torch cannot export it, or the file does not compute the same. Then nothing is written.
    """
    path = Path(path)
    check_writable(path)
    require_packages(format)
    if not quantized_layers(model):
        raise ValueError("the network is not under fake quantisation; call quantize_(model, task) first")
    simulated = remove_masks(replica(model)).cpu().eval()
    whole = integer_network(model, "onnx" if format == "onnx-int8" else "torch")
    if normalisation is not None:
        check_normalisation(normalisation, format, shapes)
        simulated, whole = (Preprocessed(one, *normalisation).eval() for one in (simulated, whole))
    write = {"onnx-int8": _write_onnx, "torchao": _write_torchao}[format]
    difference, opset = write_atomically(path, partial(write, simulated, whole, shapes, dict(metadata or {})))
    return Exported(path, difference, opset)


def require_packages(format: Int8Format) -> None:
    """Check that the packages of a format are installed.

    Raises:
        ValueError: If one of them is not installed.
    """
    if format == "onnx-int8":
        require_onnx()
    elif find_spec("torchao") is None:
        raise ValueError("the format torchao needs torchao; install with: pip install 'secateur[quantize]'")


def _write_onnx(
    simulated: nn.Module, whole: nn.Module, shapes: Shapes, metadata: dict[str, Any], path: Path
) -> tuple[float, int]:
    opset, run = write_onnx(whole, shapes, metadata, path, _tidy)
    return compare(simulated, shapes, run, TOLERANCE), opset


def _tidy(model: Any) -> None:
    """Make an ``onnx_ir.Model`` small, and fit for all of onnxruntime's options.

    The exporter's remarks on each operation take more room than the whole numbers of a small network. And it
    lets layers share whole numbers: the zeros, and those of a layer that is called twice. The option
    "session.x64quantprecision" rewrites them for each layer, and refuses shared ones.
    """
    import onnx_ir
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)
    graph, number = model.graph, itertools.count()
    for node in [node for node in graph if _holds_numbers(node)]:
        for reader, place in list(node.outputs[0].uses())[1:]:
            own = onnx_ir.Node("", node.op_type, node.inputs, node.attributes.values())
            own.outputs[0].name = f"{node.outputs[0].name}.{next(number)}"
            own.outputs[0].shape, own.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
            graph.insert_before(reader, own)
            reader.replace_input_with(place, own.outputs[0])
    for node in [node for node in graph if _holds_numbers(node)]:
        for place, value in enumerate(node.inputs):
            if value.is_initializer() and len(value.shape) and len(value.uses()) > 1:
                copied = onnx_ir.Value(
                    name=f"{value.name}.{next(number)}", shape=value.shape, type=value.type
                )
                copied.const_value = onnx_ir.tensor(value.const_value.numpy(), name=copied.name)
                graph.register_initializer(copied)
                node.replace_input_with(place, copied)


def _holds_numbers(node: Any) -> bool:
    """Return whether a node multiplies the whole numbers of a layer by their scales."""
    return node.op_type == "DequantizeLinear" and node.inputs[0].is_initializer()


def _write_torchao(
    simulated: nn.Module, whole: nn.Module, shapes: Shapes, metadata: dict[str, Any], path: Path
) -> tuple[float, None]:
    import torchao.quantization.pt2e  # noqa: F401  it registers the operations

    return compare(simulated, shapes, write_pt2(whole, shapes, metadata, path), TOLERANCE), None
