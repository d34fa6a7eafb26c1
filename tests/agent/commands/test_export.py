"""`secateur export`: what a file says about itself is what the run knows; damaged reports are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateur.agent.cli import main
from secateur.agent.commands.export import Export
from secateur.envs.models import get_model
from secateur.envs.surgery.cutting import cut, save_pruned
from secateur.envs.surgery.export import METADATA
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import get_task
from support.onnx import needs_onnx
from support.promises import random_plan
from support.reports import full_report

SHAPE = (1, 8, 8)


def dense() -> nn.Module:
    return get_model("demo", num_classes=10, in_channels=1)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run, without having run."""
    folder = tmp_path / "my-run"
    folder.mkdir()
    model = dense()
    network = trace_exactly(model, torch.zeros(2, *SHAPE))
    plan = random_plan(network, 0.4)
    save_pruned(cut(model, network, plan).eval(), plan, folder)
    write(folder, full_report() | {"versions": {"secateur": "0.2.0"}})
    return folder


def write(folder: Path, report: dict[str, Any]) -> None:
    (folder / "report.json").write_text(json.dumps(report))


def test_a_pt2_has_all_that_its_user_needs_and_takes_images_as_decoded(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Export(run, with_preprocessing=True).run()
    assert "input uint8 (batch, 1, 8, 8)" in capsys.readouterr().out
    extra = {METADATA: ""}
    program = torch.export.load(run / "model.pt2", extra_files=extra)
    said = json.loads(extra[METADATA])
    how = "inside the network: give images of 8 x 8 as uint8, 0 to 255; resizing is not included"
    assert said == {
        "source": "demo on digits, pruned by ppo",
        "run": "my-run",
        "secateur_version": "0.2.0",
        "input_shape": [1, 8, 8],
        "input_dtype": "uint8",
        "preprocessing": how,
        "class_names": [str(digit) for digit in range(10)],
        "mean": [0.3053],
        "std": [0.376],
        "pixel_scale": 1 / 255,
    }
    task = get_task("digits", root=Path())
    indices = torch.arange(20)
    prepared, _ = task.batch("test", indices)
    Export(run, out=run / "plain.pt2").run()
    plain = torch.export.load(run / "plain.pt2").module()
    assert json.loads(_metadata(run / "plain.pt2"))["input_dtype"] == "float32"
    images = task.splits["test"].images[indices]
    torch.testing.assert_close(program.module()(images), plain(prepared), rtol=1e-3, atol=1e-3)


def _metadata(path: Path) -> str:
    extra = {METADATA: ""}
    torch.export.load(path, extra_files=extra)
    return extra[METADATA]


@needs_onnx
def test_an_onnx_file_is_described_by_itself_alone(run: Path) -> None:
    import onnxruntime

    Export(run, format="onnx").run()
    session = onnxruntime.InferenceSession(str(run / "model.onnx"), providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"])[3] == "3"
    mean, std, scale = (json.loads(said[key]) for key in ("mean", "std", "pixel_scale"))
    assert said["preprocessing"].endswith("(value * pixel_scale - mean) / std with values from 0 to 255")
    task = get_task("digits", root=Path())
    prepared, _ = task.batch("test", torch.arange(5))
    raw = task.splits["test"].images[:5]
    by_hand = (raw * scale - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(by_hand, prepared, rtol=0.01, atol=0.01)


def test_a_run_of_version_0_1_is_exported_without_what_it_does_not_know(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = full_report() | {"versions": {"secateur": "0.1.0"}}
    for key in ("classes", "normalisation", "augmentation", "throughput", "remarks"):
        del report[key]
    write(run, report)
    assert main(["export", str(run), "--with-preprocessing"]) == 2
    assert "has no normalisation" in capsys.readouterr().err
    assert not (run / "model.pt2").exists()
    assert main(["export", str(run)]) == 0
    said = json.loads(_metadata(run / "model.pt2"))
    assert said["preprocessing"] == "not included: give inputs as the task of the training prepared them"
    assert not {"class_names", "mean", "std"} & set(said)


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "one class too few": lambda report: report["classes"].pop(),
    "a class without a name": lambda report: report["classes"].__setitem__(0, None),
    "an endless name": lambda report: report["classes"].__setitem__(0, "x" * 10**6),
    "classes by number": lambda report: report.update(classes=10),
    "another number of channels": lambda report: report["normalisation"]["mean"].append(0.5),
    "no deviation": lambda report: report["normalisation"].update(std=[0.0]),
    "no number": lambda report: report["normalisation"].update(mean=["a"]),
    "a huge number": lambda report: report["normalisation"].update(mean=[10**400]),
    "a list for the normalisation": lambda report: report.update(normalisation=[1, 2]),
    "no versions": lambda report: report.pop("versions"),
    "versions of another kind": lambda report: report.update(versions=[]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_report_is_refused_in_one_line(
    damage: Callable[[dict[str, Any]], object], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = full_report() | {"versions": {"secateur": "0.2.0"}}
    damage(report)
    write(run, report)
    before = {path.name for path in run.iterdir()}
    assert main(["export", str(run), "--with-preprocessing"]) == 2
    error = capsys.readouterr().err.strip()
    assert "does not describe a pruned network" in error
    assert len(error.splitlines()) == 1
    assert {path.name for path in run.iterdir()} == before


def test_preprocessing_needs_a_format_that_computes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "safetensors", "--with-preprocessing"]) == 2
    assert "holds no computation" in capsys.readouterr().err
