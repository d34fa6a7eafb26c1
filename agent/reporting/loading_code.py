"""Code that loads or exports the pruned network of a run, for its report."""

import shlex
from pathlib import Path
from typing import Any


def loading_code(report: dict[str, Any], folder: Path) -> str:
    """Return Python code that loads the pruned network."""
    name, outputs, shape = str(report["model"]), report.get("num_outputs"), report.get("input_shape")
    lines = ["import secateur", ""]
    if outputs and shape and _is_built_by_name(report):
        lines.insert(1, "from secateur.envs.models import get_model")
        dense = f"lambda: get_model({name!r}, num_classes={outputs}, in_channels={shape[0]})"
    else:
        lines.append("# build_dense: your function or class that builds the dense network, with any weights")
        dense = "build_dense"
    return "\n".join([*lines, f"model = secateur.load({dense}, {str(folder)!r})"])


def _is_built_by_name(report: dict[str, Any]) -> bool:
    if "built_by_name" in report:
        return bool(report["built_by_name"])
    from .summary import is_built_by_name  # only for reports of version 0.1, as it imports torchvision

    return is_built_by_name(str(report["model"]))


def export_code(report: dict[str, Any], folder: Path) -> str:
    """Return the command that exports the network to ONNX; "" if it cannot build the network."""
    if not (report.get("num_outputs") and report.get("input_shape") and _is_built_by_name(report)):
        return ""
    words = ["secateur", "export", str(folder), "--format", "onnx"]
    return shlex.join([*words, "--with-preprocessing"] if report.get("normalisation") else words)


def running_code(report: dict[str, Any], folder: Path) -> str:
    """Return Python code that runs what :func:`export_code` exports; "" if that is nothing."""
    if not export_code(report, folder):
        return ""
    normalised = bool(report.get("normalisation"))
    kind, values = ("uint8", "0 to 255") if normalised else ("float32", "prepared as in training")
    lines = [
        "import onnxruntime",
        "",
        f"session = onnxruntime.InferenceSession({str(folder / 'model.onnx')!r})",
        "(entry,) = session.get_inputs()",
        f"# images: {kind} (batch, {', '.join(map(str, report['input_shape']))}), {values}",
        "outputs = session.run(None, {entry.name: images})",
        "# class names, normalisation, source, version:",
        "session.get_modelmeta().custom_metadata_map",
    ]
    return "\n".join(lines)
