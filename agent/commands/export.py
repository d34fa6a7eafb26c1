"""``secateur export``: write a pruned network to a file that does not need Secateur."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tyro.conf import Positional

from ...envs.io.wording import counted
from ...envs.surgery.formats import Format, Int8Format
from .console import console

if TYPE_CHECKING:
    from ...envs.surgery.export import Exported

_RUNS_IN = {
    "pt2": "torch.export.load",
    "onnx": "onnxruntime",
    "onnx-int8": "onnxruntime",
    "torchao": "torch.export.load",
}
"""The runtime that checks a written file."""

_LIKE = dict.fromkeys(("onnx-int8", "torchao"), "the simulation of int8")
"""What a file is compared with, if not with the network as torch runs it."""

_FILE = {
    "pt2": "model.pt2",
    "onnx": "model.onnx",
    "safetensors": "state-dict.safetensors",
    "onnx-int8": "model-int8.onnx",
    "torchao": "model-int8.pt2",
}


@dataclass(frozen=True)
class Export:
    """Export the pruned network of a run to a file that needs no Secateur."""

    folder: Positional[Path]
    """Folder of a prune run."""
    format: Literal[Format, Int8Format] = "pt2"
    """File format: pt2 for torch.export.load, onnx for ONNX runtimes (needs the extra onnx), or safetensors
    for the state dict without code; in int8 onnx-int8 for ONNX runtimes, or torchao for torch.export.load
    with torchao (needs the extra quantize). All but safetensors take any batch size, and their outputs are
    compared with the network's before the file is written. Ranges of int8 are those of a run with --quantize,
    else they are calibrated on its training images."""
    out: Path | None = None
    """File to write, which must not exist; by default model.pt2, model.onnx, state-dict.safetensors,
    model-int8.onnx or model-int8.pt2 in the folder of the run."""
    with_preprocessing: bool = False
    """Put the normalisation into the network; the file then scales and normalises, and takes uint8 images
    with values from 0 to 255. Resizing is not included. Not for safetensors."""

    everyday: ClassVar[tuple[str, ...]] = ("folder", "format", "out")
    example: ClassVar[str] = "secateur export runs/mine --format onnx --out mine.onnx"

    def run(self) -> None:
        """Write and check the file, and print its name and size."""
        from ...envs.quantization.integer_files import export_int8, require_packages
        from ...envs.surgery.export import BATCHES, check_writable, export, require_onnx
        from ..procedures.export_metadata import export_metadata
        from ..procedures.pruned_runs import load_pruned_network
        from ..procedures.quantized_run import load_quantized_run

        out = self.out or self.folder / _FILE[self.format]
        if self.folder.is_dir():  # else the folder is what is wrong
            check_writable(out)
        inside = self.with_preprocessing
        if inside and self.format == "safetensors":
            raise ValueError(
                "safetensors holds no computation; leave out --with-preprocessing, or give pt2 or onnx"
            )
        if self.format == "onnx":
            require_onnx()
        if self.format == "onnx-int8" or self.format == "torchao":
            require_packages(self.format)
            model, shape = load_quantized_run(self.folder)
            write: Callable[..., Exported] = partial(export_int8, model, out, self.format)
        else:
            model, shape = load_pruned_network(self.folder)
            write = partial(export, model, out, self.format)
        metadata, normalisation = export_metadata(self.folder, inside=inside)
        written = write(shape, metadata=metadata, normalisation=normalisation if inside else None)
        size = f"{written.path} ({out.stat().st_size / 1e6:.2f} MB)"
        if self.format == "safetensors":
            line = f"{size}: state dict of {counted(len(model.state_dict()), 'tensor')}"
        else:
            batches = " and ".join(map(str, BATCHES))
            opset = f"ONNX opset {written.opset}, " if written.opset else ""
            line = (
                f"{size}: {opset}input {metadata['input_dtype']} (batch, {', '.join(map(str, shape))}), "
                f"{written.difference:.1e} relative from {_LIKE.get(self.format, 'torch')} by "
                f"{_RUNS_IN[self.format]} at batches of {batches}"
            )
        console().print(line, soft_wrap=True)
