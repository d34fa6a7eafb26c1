"""Pruning for int8: choice and recovery are rounded, the report has both accuracies, and files follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
from secateur.agent import PruningConfig, prune
from secateur.agent.cli import main
from secateur.agent.procedures import recovery
from secateur.agent.procedures.quantized_run import load_quantized_run
from secateur.agent.procedures.recovery import recover_in_place, recover_pruned
from secateur.envs.models import get_model
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.quantization import fake_quantize_, ranges_of, set_ranges
from secateur.envs.recovery.callbacks import NO_CALLBACKS, Progress
from secateur.envs.recovery.checkpoint import Stopped
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import TrainingSummary
from secateur.envs.surgery.cutting import save_pruned
from secateur.envs.surgery.plan import PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import ClassificationTask, measure
from support.candidates import candidate
from support.onnx import needs_onnx
from support.quantized import needs_torchao
from support.reports import full_report
from support.small import plain_network

QUICK = {"target_macs": 0.5, "effort": "quick", "epochs": 1, "search_images": 64, "compensation_images": 128}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digit_task: ClassificationTask) -> Path:
    """A run under quantisation of a network that the command line can build."""
    folder = tmp_path_factory.mktemp("runs") / "int8"
    words = [
        "--effort",
        "quick",
        "--dense-epochs",
        "1",
        "--epochs",
        "1",
        "--search-images",
        "64",
        "--quantize",
        "int8",
        "--quiet",
    ]
    assert main(["prune", "demo", *words, "--out", str(folder)]) == 0
    return folder


def test_the_report_has_the_accuracy_of_int8_and_the_ranges_give_it_again(
    digit_task: ClassificationTask,
) -> None:
    result = prune(plain_network(), digit_task, PruningConfig(**QUICK, quantize="int8"))
    found = result.report["int8"]
    assert result.ranges is not None
    assert not ranges_of(result.model)
    assert measure(result.model, digit_task, "test").accuracy == result.report["pruned"]["accuracy"]
    assert found["accuracy_drop"] == result.report["dense"]["accuracy"] - found["accuracy"]
    simulated = fake_quantize_(replica(result.model), torch.zeros(2, 1, 8, 8))
    set_ranges(simulated, result.ranges)
    assert measure(simulated, digit_task, "test").loss == pytest.approx(found["loss"], rel=1e-4)
    assert found["loss"] != result.report["pruned"]["loss"]


def test_the_choice_measures_candidates_rounded_and_the_search_does_not(
    digit_task: ClassificationTask,
) -> None:
    built = (
        PruningProblem.build("plain", plain_network(), digit_task, images=64, quantize=quantize)
        for quantize in (False, True)
    )
    losses = []
    for problem in built:
        masks = [candidate(problem, 0.6, seed=1)]
        chosen = problem.choice_problem(64).evaluator
        losses.append((problem.evaluator(masks)[0].loss, chosen(masks)[0].loss))
    (search, choice), (search_int8, choice_int8) = losses
    assert search == search_int8
    assert choice != choice_int8
    assert choice == pytest.approx(choice_int8, rel=0.02)


def test_recover_leaves_a_network_under_quantisation(digit_task: ClassificationTask) -> None:
    model = secateur.recover(plain_network(), digit_task, epochs=1, quantize="int8")
    assert set(ranges_of(model)) == {"0", "3", "8"}
    as_cut = plain_network()
    recover_in_place(
        as_cut, digit_task, RecoveryConfig(epochs=0, quantize="int8"), None, seed=0, callbacks=NO_CALLBACKS
    )
    assert ranges_of(as_cut)["8"]["input"][1] > 0


@pytest.mark.parametrize("epochs", [0, 1])
def test_the_first_ranges_are_those_of_train_alone_though_val_is_trained_on(
    digit_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    def recovered(in_a_run: bool, **options: Any) -> dict[str, Any]:
        model = plain_network()
        if in_a_run:
            config = PruningConfig(target_macs=0.5, epochs=epochs, quantize="int8", **options)
            recover_pruned(model, None, digit_task, config, None, NO_CALLBACKS)
        else:
            recovery_alone = RecoveryConfig(epochs=epochs, quantize="int8", **options)
            recover_in_place(model, digit_task, recovery_alone, None, 0, NO_CALLBACKS)
        return ranges_of(model)

    monkeypatch.setattr(recovery, "finetune", lambda *_, **__: TrainingSummary(0, 0.0, ()))
    first = recovered(in_a_run=False)
    assert recovered(in_a_run=False, train_on_val=True) == first
    assert recovered(in_a_run=True, train_on_val=True) == first


def test_an_interrupted_run_ends_with_the_same_ranges_and_weights(
    digit_task: ClassificationTask, tmp_path: Path
) -> None:
    stops = [4]

    def stop_once(progress: Progress) -> None:
        if progress.finished_steps in stops:
            stops.clear()
            raise Stopped

    options = QUICK | {"quantize": "int8", "method": "l2-uniform", "batch_size": 100}
    with pytest.raises(Stopped):
        secateur.prune(plain_network(), digit_task, out=tmp_path / "run", on_step=stop_once, **options)
    resumed = secateur.prune(
        plain_network(), digit_task, out=tmp_path / "run", on_step=stop_once, resume=True, **options
    )
    whole = secateur.prune(plain_network(), digit_task, **options)
    assert not stops
    assert resumed.ranges == whole.ranges
    for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)
    finished = secateur.prune(
        plain_network(), digit_task, out=tmp_path / "run", on_step=stop_once, resume=True, **options
    )
    assert finished.ranges == whole.ranges


def test_wrong_options_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="int8"):
        PruningConfig(quantize="int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layerwise measures and trains its layers in float"):
        PruningConfig(quantize="int8", procedure="layerwise")


@pytest.mark.slow
def test_a_run_keeps_its_ranges_and_is_exported_with_them(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    model, shape = load_quantized_run(run)
    ranges = json.loads((run / "int8.json").read_text())
    assert {name: dict(ends) for name, ends in ranges.items()} == {
        name: {end: list(pair) for end, pair in ends.items()} for name, ends in ranges_of(model).items()
    }
    assert shape == (1, 8, 8)
    assert report["recovery"]["quantize"] == "int8"
    assert "int8" in (run / "report.html").read_text()


@pytest.mark.slow
def test_evaluate_measures_a_run_in_float_and_in_int8(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((run / "report.json").read_text())
    assert main(["evaluate", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == report["pruned"]["accuracy"]
    assert found["accuracy_int8"] == report["int8"]["accuracy"]
    assert main(["evaluate", str(run)]) == 0
    assert f"accuracy, int8     {report['int8']['accuracy']:.2f} %" in capsys.readouterr().out


@needs_onnx
@pytest.mark.slow
def test_the_command_exports_a_run_in_onnx_in_int8(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "onnx-int8", "--with-preprocessing"]) == 0
    said = capsys.readouterr().out
    assert "relative from the simulation of int8 by onnxruntime" in said
    assert "input uint8" in said
    assert (run / "model-int8.onnx").stat().st_size < 0.5 * (run / "model.safetensors").stat().st_size


@needs_torchao
@pytest.mark.slow
def test_a_run_without_quantisation_is_calibrated_on_its_images_in_torchao(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "float"
    folder.mkdir()
    for file in ("config.yaml", "plan.json", "model.safetensors", "report.json"):
        (folder / file).write_bytes((run / file).read_bytes())
    assert main(["export", str(folder), "--format", "torchao"]) == 0
    output = capsys.readouterr()
    assert "calibrated on 512 training images: accuracy on val" in output.out + output.err
    assert (folder / "model-int8.pt2").is_file()


@pytest.fixture
def without_run(tmp_path: Path) -> Path:
    """A finished run, without having run, whose data are not there."""
    model = get_model("demo", num_classes=10, in_channels=1)
    plan = PruningPlan.dense(trace_exactly(model, torch.zeros(2, 1, 8, 8)))
    save_pruned(model.eval(), plan, tmp_path)
    (tmp_path / "report.json").write_text(json.dumps(full_report()))
    (tmp_path / "config.yaml").write_text("model: demo\nseed: 0\ndata: gone\n")
    return tmp_path


def test_a_run_whose_data_are_gone_cannot_be_calibrated(without_run: Path) -> None:
    with pytest.raises(ValueError, match="so its ranges have to be calibrated on its training images, which"):
        load_quantized_run(without_run)


def test_ranges_of_another_network_are_refused(without_run: Path) -> None:
    (without_run / "int8.json").write_text('{"conv9": {"input": [0, 1]}}')
    with pytest.raises(ValueError, match="do not fit together: the ranges do not fit this network"):
        load_quantized_run(without_run)
