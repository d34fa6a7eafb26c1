"""Exported files say what they are, and take images as they are decoded if asked to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from secateur.envs.models import get_model
from secateur.envs.surgery import export as exporting
from secateur.envs.surgery.export import METADATA, export
from secateur.envs.surgery.formats import Format
from secateur.envs.tasks import ClassificationTask
from support.networks import TwoInTwoOut
from support.onnx import needs_onnx

SAID: dict[str, Any] = {
    "source": "net, pruned",
    "class_names": ["cat", "it's a ♥"],
    "mean": [0.5, 0.25, 0.1],
    "input_shape": [3, 8, 8],
}
NORMALISATION = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
SHAPE = (3, 8, 8)


def network() -> nn.Module:
    return get_model("demo", num_classes=10, in_channels=3).eval()


def read(path: Path, format: Format) -> dict[str, Any]:
    """Read the metadata of a file as its users do."""
    if format == "pt2":
        extra = {METADATA: ""}
        torch.export.load(path, extra_files=extra)
        return json.loads(extra[METADATA])  # type: ignore[no-any-return]
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return dict(session.get_modelmeta().custom_metadata_map)
    with safe_open(path, framework="pt") as file:
        return {key: value for key, value in file.metadata().items() if key != "format"}


@pytest.mark.parametrize("format", ["pt2", "safetensors", pytest.param("onnx", marks=needs_onnx)])
def test_what_was_said_is_in_the_file(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"model.{format}"
    export(network(), path, format, SHAPE, metadata=SAID)
    found = read(path, format)
    assert found.pop("source") == SAID["source"]
    values = found if format == "pt2" else {key: json.loads(value) for key, value in found.items()}
    assert values == {key: value for key, value in SAID.items() if key != "source"}
    assert path.stat().st_mode & 0o077 == 0o044


def expected(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Run the network on images that the task of the training normalises."""
    mean, std = NORMALISATION
    task = ClassificationTask.__new__(ClassificationTask)  # only its normalisation is needed
    object.__setattr__(task, "mean", mean)
    object.__setattr__(task, "std", std)
    with torch.no_grad():
        return model(task.normalised(images))  # type: ignore[no-any-return]


def test_preprocessing_inside_is_that_of_the_task(tmp_path: Path) -> None:
    model = network()
    written = export(model, tmp_path / "model.pt2", "pt2", SHAPE, normalisation=NORMALISATION)
    assert written.difference <= 1e-4
    images = torch.randint(0, 256, (7, *SHAPE), dtype=torch.uint8)
    again = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(again(images), expected(model, images), rtol=1e-4, atol=1e-4)


@needs_onnx
def test_onnx_with_preprocessing_takes_bytes(tmp_path: Path) -> None:
    import onnxruntime

    model = network()
    export(model, tmp_path / "model.onnx", "onnx", SHAPE, normalisation=NORMALISATION)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    assert (entry.type, entry.shape) == ("tensor(uint8)", ["batch", *SHAPE])
    images = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    (found,) = session.run(None, {entry.name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected(model, images), rtol=1e-4, atol=1e-4)


def test_preprocessing_that_is_wrong_is_seen_in_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = network()
    monkeypatch.setattr(
        exporting,
        "_program",
        lambda model, shapes: torch.export.export(
            exporting.Preprocessed(other, (0.0,) * 3, (1.0,) * 3),
            exporting._inputs(model, shapes, 2),
            dynamic_shapes=exporting._any_batch(shapes),
        ),
    )
    with pytest.raises(ValueError, match="differs by"):
        export(other, tmp_path / "model.pt2", "pt2", SHAPE, normalisation=NORMALISATION)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "format", "shapes", "said"),
    [
        (network, "safetensors", (SHAPE,), "safetensors holds no computation"),
        (TwoInTwoOut, "pt2", (SHAPE, (5,)), "networks of one input, this one has 2"),
        (network, "pt2", ((1, 8, 8),), "1 channel needs as many means"),
    ],
)
def test_there_has_to_be_a_place_for_the_preprocessing(
    model: type[nn.Module], format: Format, shapes: tuple[tuple[int, ...], ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        export(model(), tmp_path / "file", format, *shapes, normalisation=NORMALISATION)
    assert not list(tmp_path.iterdir())
