"""``secateur export``: a file that needs nothing of Secateur."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ...envs.surgery.formats import Format
from .console import console

_RUNS_IN = {"pt2": "torch.export.load", "onnx": "onnxruntime"}
"""What a written file was checked with."""

_FILE = {"pt2": "model.pt2", "onnx": "model.onnx", "safetensors": "state-dict.safetensors"}


@dataclass(frozen=True)
class Export:
    """Write the pruned network of a run as a file that needs neither Secateur nor the network's class."""

    folder: Positional[Path]
    """Folder of a prune run."""
    format: Format = "pt2"
    """pt2 runs by torch.export.load, onnx by any ONNX runtime (needs the extra onnx): both with any batch
    size, and checked against the network before they are there. safetensors holds no code: it is the plain
    state dict, for tools that build the network themselves."""
    out: Path | None = None
    """File to write, a new one; by default model.pt2, model.onnx or state-dict.safetensors in the folder."""

    def run(self) -> None:
        """Write, check, and say what was written."""
        from ...envs.surgery.export import BATCHES, check_writable, export, require_onnx
        from ..procedures.loading import load_pruned_network

        out = self.out or self.folder / _FILE[self.format]
        if self.folder.is_dir():  # else what is wrong is not the file
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
