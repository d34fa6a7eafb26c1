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

    everyday: ClassVar[tuple[str, ...]] = ("folder", "format", "out")
    example: ClassVar[str] = "secateur export runs/mine --format onnx --out mine.onnx"

    def run(self) -> None:
        """Write and check the file, and print its name and size."""
        from ...envs.surgery.export import BATCHES, check_writable, export, require_onnx
        from ..procedures.loading import load_pruned_network

        out = self.out or self.folder / _FILE[self.format]
        if self.folder.is_dir():  # else the folder is what is wrong
            check_writable(out)
        if self.format == "onnx":
            require_onnx()
        model, shape = load_pruned_network(self.folder)
        written = export(model, out, self.format, shape)
        size = f"{written.path} ({out.stat().st_size / 1e6:.2f} MB)"
        if self.format == "safetensors":
            line = f"{size}: state dict of {len(model.state_dict())} tensors"
        else:
            batches = " and ".join(map(str, BATCHES))
            opset = f"ONNX opset {written.opset}, " if written.opset else ""
            line = (
                f"{size}: {opset}input (batch, {', '.join(map(str, shape))}), {written.difference:.1e} "
                f"relative from torch by {_RUNS_IN[self.format]} at batches of {batches}"
            )
        console().print(line, soft_wrap=True)
