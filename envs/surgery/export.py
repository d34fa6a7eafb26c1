"""Export networks to files that run without their class: torch's ``.pt2``, ONNX, and plain tensors.

Each file is loaded again and compared with the network before it gets its final name.

Shapes: B examples of a batch, followed by the shape of one example of an input.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..io.atomic_write import check_writable as check_folder
from ..io.atomic_write import write_atomically
from ..io.memory import is_out_of_memory
from ..io.tensor_files import without_shared_memory
from ..io.untrusted import first_line
from ..io.wording import counted
from ..modules.reparametrization import with_plain_weights
from ..modules.usable_weights import check_finite
from .formats import Format
from .norm_folding import fold_norms
from .preprocessing import Preprocessed

TOLERANCE = 1e-4
"""Largest allowed difference of an exported network's outputs, relative to the largest output."""

BATCHES = (1, 3)
"""Batch sizes at which a file is compared with the network; they differ from the example's."""

_REASON = 400
"""Characters of an error of torch or onnxruntime that stay."""

_EXAMPLES = 2
"""Batch size of the example: torch.export treats a batch size of one as a constant."""

METADATA = "metadata.json"
"""Name of the metadata among the extra files of a ``.pt2``."""

EXACT_SUMS = ("session.x64quantprecision", "1")
"""Option of onnxruntime: sums of int8 that do not overflow on x86 processors without VNNI instructions."""

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Shapes = Sequence[tuple[int, ...]]
Run = Callable[[tuple[Tensor, ...]], Sequence[Tensor]]


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Args:
        path: Path of the file.
        difference: Largest difference between the file's outputs and the network's, relative to the largest
            output; 0 for plain tensors, which compute nothing.
        opset: Version of the ONNX operators, None for other formats.
    """

    path: Path
    difference: float = 0.0
    opset: int | None = None


def export(
    model: nn.Module,
    path: str | Path,
    format: Format,
    *shapes: tuple[int, ...],
    metadata: Mapping[str, Any] | None = None,
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Exported:
    """Write a network to a file that does not need its class, in evaluation mode and for any batch size.

    Weights masked by ``torch.nn.utils.prune`` and reparametrised weights are written as plain weights.
    Batch-norm is merged into the convolution or linear layer before it: in ONNX by torch's exporter, in a pt2
    by :func:`.fold_norms` if the outputs stay within the tolerance.

    Args:
        model: Any network, on any device; it is not changed.
        path: A file that does not exist, in a folder that exists.
        format: ``pt2`` for ``torch.export.load``, ``onnx``, or ``safetensors``: the state dict, for tools
            that have the network's code.
        *shapes: Shape of one example of each input, without the batch; not needed for ``safetensors``.
        metadata: JSON values by name, written into the file: as ``metadata_props`` of ONNX and the header of
            safetensors, where texts are as they are and other values JSON, and as the extra file
            ``metadata.json`` of a pt2.
        normalisation: Mean and standard deviation of each channel for pixels in [0, 1], to be part of the
            network, whose input then is uint8; see :class:`.Preprocessed`. None leaves the input as it is.

    Raises:
        ValueError: If the file exists, weights are not finite, a package is missing, torch cannot export the
            network, the file does not compute the same, or the normalisation has no place.
    """
    check_finite(model)
    path = Path(path)
    check_writable(path)
    if format == "onnx":
        require_onnx()
    plain = with_plain_weights(model).cpu().eval()
    if normalisation is not None:
        check_normalisation(normalisation, format, shapes)
        plain = Preprocessed(plain, *normalisation).eval()
    write = {"safetensors": _write_tensors, "pt2": _write_pt2, "onnx": _write_onnx}[format]
    difference, opset = write_atomically(path, partial(write, plain, shapes, dict(metadata or {})))
    return Exported(path, difference, opset)


def check_normalisation(
    normalisation: tuple[Sequence[float], Sequence[float]], format: str, shapes: Shapes
) -> None:
    """Check that a network can have its normalisation inside.

    Raises:
        ValueError: If the format has no computation, or the numbers do not fit the channels.
    """
    if format == "safetensors":
        raise ValueError("safetensors holds no computation, so no preprocessing; give pt2 or onnx")
    if len(shapes) != 1:
        raise ValueError(f"preprocessing is for networks of one input, this one has {len(shapes)}")
    mean, std = normalisation
    if not len(mean) == len(std) == shapes[0][0]:
        raise ValueError(
            f"{counted(shapes[0][0], 'channel needs', 'channels need')} as many means and deviations, "
            f"got {mean} and {std}"
        )


def check_writable(path: Path) -> None:
    """Refuse to write to a file that exists, or to a folder that does not or cannot be written.

    Raises:
        ValueError: If the file exists, or its folder does not or cannot be written.
    """
    if path.exists():
        raise ValueError(f"{path} exists; give another file, nothing is overwritten")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} into; make it first")
    check_folder(path.parent, "give another file")


def require_onnx() -> None:
    """Check that the packages for ONNX are installed.

    Raises:
        ValueError: If one of them is not installed.
    """
    if missing := [name for name in _ONNX_PACKAGES if find_spec(name) is None]:
        raise ValueError(f"ONNX needs {' and '.join(missing)}; install with: pip install 'secateur[onnx]'")


def _write_tensors(
    model: nn.Module, shapes: Shapes, metadata: dict[str, Any], path: Path
) -> tuple[float, None]:
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    save_file(without_shared_memory(state), path, metadata=_texts(metadata) | {"format": "pt"})
    return 0.0, None


def _texts(metadata: dict[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}


def _write_pt2(model: nn.Module, shapes: Shapes, metadata: dict[str, Any], path: Path) -> tuple[float, None]:
    run = write_pt2(model, shapes, metadata, path, merges_norms=True)
    return compare(model, shapes, run, TOLERANCE), None


def write_pt2(
    model: nn.Module, shapes: Shapes, metadata: dict[str, Any], path: Path, *, merges_norms: bool = False
) -> Run:
    """Write a network as ``.pt2``; other arguments are as for :func:`write_onnx`.

    Args:
        model: The network.
        shapes: Its shapes.
        metadata: JSON values by name.
        path: The file.
        merges_norms: Whether to merge batch-norms into the layers before them.

    Returns:
        A function that runs the file.

    Raises:
        ValueError: If torch cannot export the network.
    """
    content = io.BytesIO()  # torch warns about file names that do not end in .pt2
    program = _program(model, shapes)
    if merges_norms:
        program = _without_norms(program, model, shapes)
    torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata, indent=2)})
    path.write_bytes(content.getbuffer())
    content.seek(0)
    module = torch.export.load(content).module()
    return lambda inputs: _tensors(module(*inputs))


def _write_onnx(model: nn.Module, shapes: Shapes, metadata: dict[str, Any], path: Path) -> tuple[float, int]:
    opset, run = write_onnx(model, shapes, metadata, path)
    return compare(model, shapes, run, TOLERANCE), opset


def write_onnx(
    model: nn.Module,
    shapes: Shapes,
    metadata: dict[str, Any],
    path: Path,
    edit: Callable[[Any], None] = lambda model: None,
) -> tuple[int, Run]:
    """Write a network as ONNX.

    Args:
        model: The network, on the CPU and in evaluation mode.
        shapes: Shape of one example of each input.
        metadata: JSON values by name.
        path: The file.
        edit: Called with the ``onnx_ir.Model`` before it is written, which it may change.

    Returns:
        The version of the operators, and a function that runs the file in onnxruntime.

    Raises:
        ValueError: If torch cannot export the network.
    """
    import onnx
    import onnxruntime

    program = _program(model, shapes)
    try:
        exported = torch.onnx.export(program, dynamo=True, verbose=False, dynamic_shapes=_any_batch(shapes))
    except Exception as error:  # many kinds, one for each stage of torch's exporter
        if is_out_of_memory(error):
            raise
        raise ValueError(f"torch cannot write this network as ONNX: {first_line(error, _REASON)}") from error
    assert exported is not None
    edit(exported.model)
    exported.model.metadata_props.update(_texts(metadata))
    exported.save(str(path), external_data=False)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_SUMS)
    try:
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # kinds of their own, for files that one of the two does not understand
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"onnxruntime cannot load what torch wrote as ONNX: {first_line(error, _REASON)}; try another "
            "--format"
        ) from error
    names = [entry.name for entry in session.get_inputs()]

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, feeds)]

    opsets = {entry.domain: entry.version for entry in onnx.load(str(path)).opset_import}
    return opsets[""], run


def _program(
    model: nn.Module, shapes: Shapes, example: tuple[Tensor, ...] | None = None
) -> torch.export.ExportedProgram:
    """Export the network for any batch size."""
    if example is None:
        example = _inputs(model, shapes, _EXAMPLES)
    try:
        with torch.no_grad():
            return torch.export.export(model, example, dynamic_shapes=_any_batch(shapes))
    except Exception as error:  # the model's code may raise anything when it is traced
        if is_out_of_memory(error):
            raise
        raise ValueError(f"torch.export cannot handle this network: {first_line(error, _REASON)}") from error


def _without_norms(
    program: torch.export.ExportedProgram, model: nn.Module, shapes: Shapes
) -> torch.export.ExportedProgram:
    """Merge batch-norms into the layers before them, if that changes the outputs by rounding only.

    Loaded again, the demo network and ResNet-20 take 0.75 of the time for an image. A variance near zero
    makes weights so large that the outputs would change.
    """
    folded: Any = program.module()
    if not fold_norms(folded):
        return program
    try:
        compare(model, shapes, lambda inputs: _tensors(folded(*inputs)), TOLERANCE)
    except ValueError:
        return program
    return _program(folded, shapes, _inputs(model, shapes, _EXAMPLES))


def _any_batch(shapes: Shapes) -> tuple[dict[int, torch.export.Dim], ...]:
    """Declare the first axis of every input as dynamic, with the same size for all."""
    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in shapes)


def _inputs(model: nn.Module, shapes: Shapes, batch: int) -> tuple[Tensor, ...]:
    """Draw one random tensor (B, ...) per input, in the network's data type, or bytes for images."""
    generator = torch.Generator().manual_seed(batch)
    if isinstance(model, Preprocessed):
        return tuple(
            torch.randint(0, 256, (batch, *shape), generator=generator, dtype=torch.uint8) for shape in shapes
        )
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    return tuple(torch.randn(batch, *shape, generator=generator, dtype=dtype) for shape in shapes)


def compare(model: nn.Module, shapes: Shapes, run: Run, tolerance: float) -> float:
    """Return the largest relative difference over all outputs and batch sizes.

    Args:
        model: The network that was written, on the CPU.
        shapes: Shape of one example of each input.
        run: Runs the file.
        tolerance: The largest difference allowed, relative to the largest output.

    Raises:
        ValueError: If the difference is above the tolerance.
    """
    worst = 0.0
    for batch in BATCHES:
        inputs = _inputs(model, shapes, batch)
        with torch.no_grad():
            expected, actual = _tensors(model(*map(torch.clone, inputs))), run(inputs)
        for a, b in zip(expected, actual, strict=True):
            scale = float(a.abs().max()) or 1.0
            difference = float((a - b).abs().max()) / scale
            if not difference <= tolerance:  # also true for NaN
                raise ValueError(
                    f"the exported network differs by {difference:.1e} at a batch of {batch}, allowed is "
                    f"{tolerance:.0e}; nothing was written"
                )
            worst = max(worst, difference)
    return worst


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
