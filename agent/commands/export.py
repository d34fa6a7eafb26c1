"""``secateur export``: write a pruned network to a file that does not need Secateur."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from ...envs.surgery.formats import Format
from .console import console

_RUNS_IN = {"pt2": "torch.export.load", "onnx": "onnxruntime"}
"""The runtime that checks a written file."""

_FILE = {"pt2": "model.pt2", "onnx": "model.onnx", "safetensors": "state-dict.safetensors"}


@dataclass(frozen=True)
class Export:
    """Export the pruned network of a run to a file that needs no Secateur."""

    folder: Positional[Path]
    """Folder of a prune run."""
    format: Format = "pt2"
    """File format: pt2 for torch.export.load, onnx for ONNX runtimes (needs the extra onnx), or safetensors
    for the state dict without code. pt2 and onnx take any batch size, and their outputs are compared with the
    network's before the file is written."""
    out: Path | None = None
    """File to write, which must not exist; by default model.pt2, model.onnx or state-dict.safetensors in the
    folder of the run."""
    with_preprocessing: bool = False
    """Put the normalisation into the network; pt2 or onnx then scales and normalises, and takes uint8 images
    with values from 0 to 255. Resizing is not included."""

    everyday: ClassVar[tuple[str, ...]] = ("folder", "format", "out")
    example: ClassVar[str] = "secateur export runs/mine --format onnx --out mine.onnx"

    def run(self) -> None:
        """Write and check the file, and print its name and size."""
        from ...envs.surgery.export import BATCHES, check_writable, export, require_onnx
        from ..procedures.export_metadata import export_metadata
        from ..procedures.loading import load_pruned_network

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
        model, shape = load_pruned_network(self.folder)
        metadata, normalisation = export_metadata(self.folder, inside=inside)
        written = export(
            model, out, self.format, shape, metadata=metadata, normalisation=normalisation if inside else None
        )
        size = f"{written.path} ({out.stat().st_size / 1e6:.2f} MB)"
        if self.format == "safetensors":
            line = f"{size}: state dict of {len(model.state_dict())} tensors"
        else:
            batches = " and ".join(map(str, BATCHES))
            opset = f"ONNX opset {written.opset}, " if written.opset else ""
            line = (
                f"{size}: {opset}input {metadata['input_dtype']} (batch, {', '.join(map(str, shape))}), "
                f"{written.difference:.1e} relative from torch by {_RUNS_IN[self.format]} at batches of "
                f"{batches}"
            )
        console().print(line, soft_wrap=True)
