"""What the command line says to those who do not know it: help, and one line where the input is wrong."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from secateur.agent.commands import Frontier, Prune
from secateur.agent.commands.parsing import parse
from secateur.agent.procedures import preparation
from secateur.agent.procedures.options import ConstraintOptions
from support.command_line import refusal


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune", "resnet2O"], "resnet20"),
        (["prune", "--data", "digit"], "digits"),
        (["prune", "--method", "l2-unifrom"], "l2-uniform"),
        (["prune", "--targt-macs", "0.5"], "--target-macs"),
        (["prun"], "prune"),
        (["prune", "--target-macs", "half"], "--target-macs"),
        (["prune", "--target-macs", "1.5"], "at most 1"),
        (["prune", "--target-macs", "0"], "above 0"),
        (
            ["prune", "--target-macs", "0.5", "--drop-bound", "1"],
            "target_macs and drop_bound exclude each other",
        ),
        (["prune", "--drop-bound", "-1"], "above 0"),
        (["prune", "--target-latency", "1", "--target-macs", "0.5"], "exclude each other"),
        (["prune", "--target-latency", "1", "--drop-bound", "1"], "exclude each other"),
        (["prune", "--target-latency", "0"], "above 0"),
        (["prune", "--latency-batch", "0"], "at least 1"),
        (["prune", "--latency-threads", "-2"], "at least 1"),
        (["prune", "--latency-dtype", "int4"], "--latency-dtype"),
        (["prune", "--weights", "nowhere.pt"], "nowhere.pt"),
        (
            ["prune", "--weights", __file__],
            "cannot be read as weights: it is damaged, or none; give a file of safetensors, or of torch.save",
        ),
        (
            ["prune", "--data", ".", "--weights", "DEFAULT"],
            ". has no train/ folder: a folder of data has train/",
        ),
        (["prune", "--agent", "nowhere"], "nowhere"),
        (["prune", "--agent", "none", "--evaluations", "0"], "has to learn"),
        (["prune", "--agent", "none", "--effort", "quick"], "an --effort above quick"),
        (["prune", "--evaluations", "-1"], "allowed is at least 0"),
        (["train", "demo", "--evaluations", "0"], "evaluations is 0; allowed is at least 1"),
        (["train", "demo", "--search-images", "0"], "search_images is 0"),
        (["prune", "--epochs", "-1"], "at least 0"),
        (["prune", "--dense-epochs", "-1"], "dense_epochs is -1; allowed is at least 0"),
        (["train", "demo", "--dense-epochs", "-1"], "dense_epochs is -1; allowed is at least 0"),
        (["prune", "--temperature", "inf"], "temperature is inf; allowed is above 0, a finite number"),
        (["prune", "--image-size", "0"], "at least one pixel"),
        (["prune", "--device", "gpu"], "there is no device 'gpu'"),
        (["prune", "--device", "cuda:99"], "there is no device cuda:99: torch finds"),
        (["prune", "--augment", "flips"], "did you mean 'flip'?"),
        (["prune", "--val-from", "tset"], "did you mean 'test'?"),
        (["prune", "--normalisation", "imagnet"], "did you mean 'imagenet'?"),
        (["prune", "--balance-classes"], "--balance-classes is for --task segmentation only"),
        (["prune", "--ignore-label", "11"], "--ignore-label is for --task segmentation only"),
        (["prune", "--method", "l2-uniform", "--evaluations", "9"], "leave out --evaluations or --method"),
        *(
            ([*verb, "--seed", seed], f"seed is {seed}; allowed is 0 to 4294967295")
            for verb in (["prune"], ["train", "demo"], ["evaluate", "demo"], ["frontier", "m:f"])
            for seed in ("-1", "4294967296")
        ),
        (["train"], "network"),
        (["train", "demo", "--weights", "a.pt", "b.pt"], "for each network"),
        (["evaluate", "resnet2O"], "resnet20"),
        (["evaluate", "runs/nothing/here"], "is not the folder of a run: there is no such folder; give"),
        (["evaluate", "runs/nope"], "runs/nope is not the folder of a run: there is no such folder; give"),
        (["prune", "runs/nope"], "there is no model 'runs/nope' and no folder of that name"),
        (["inspect", "microsoft/resnet-18"], "did you mean 'hf:microsoft/resnet-18'?"),
        (["prune", "resnet20", "--target-macs", "1e-4"], "the target 0.0001 of the MACs cannot be reached"),
        (["evaluate", "demo"], "demo has random weights; give --weights"),
        (["inspect", "resnet2O"], "resnet20"),
        (["inspect", "demo", "--image-size", "0"], "image_size is 0; allowed is at least 1"),
        (["inspect", "demo", "--input-shape", "0", "1", "1"], "input_shape is 0; allowed is at least 1"),
        (["inspect", "demo", "--input-shape", "1", "8", "8", "--data", "digits"], "excludes --data"),
        (["inspect", "demo", "--data", "nowhere"], "nowhere"),
        (
            ["prune", "--out", "/dev/null/run"],
            "cannot be written to (/dev/null is a file); give another folder as out",
        ),
        (["train", "demo", "--out", "/dev/null"], "cannot be written to (/dev/null is a file)"),
        (["prune", "--target-latency", "1e-9"], "out of range"),
        (["prune", "--target-macs", "150%"], "at most 1"),
        (["prune", "--max-sparsity", "150%"], "1.5"),
        *(
            (
                [verb, "nowhere"],
                "nowhere is not the folder of a run: there is no such folder; give the folder of",
            )
            for verb in ("export", "report", "resume")
        ),
        (["export", "."], "it has no report.json; give the folder of one, which `secateur runs` lists"),
        (["report", "."], "it has no report.json; give the folder of one, which `secateur runs` lists"),
        (["prune", "--method", "gradual"], "; other systems of pruning are run by `secateur compare`"),
        (["resume", "."], "it has no config.yaml; give the folder of one, which `secateur runs` lists"),
        (["runs", "nowhere"], "nowhere"),
        (["export", "nowhere", "--format", "tflite"], "--format"),
    ],
)
def test_bad_input_gets_one_helpful_line_and_writes_nothing(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refusal(words, capsys)
    assert not list(tmp_path.iterdir())


def test_an_unreachable_target_names_the_smallest_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(["prune", "resnet20", "--data", "digits", "--target-macs", "0.01"], capsys)
    assert "at least" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["prune", "train", "frontier"])
def test_a_network_without_prunable_filters_leaves_no_folder(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linear_net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    error = refusal([verb, "linear_net:build", "--out", "new/run"], capsys)
    assert "no filter of linear_net:build can be pruned" in error
    assert "give a network with a layer before the last one whose filters may go" in error
    assert "warning" not in error
    assert {path.name for path in tmp_path.iterdir()} <= {"linear_net.py", "__pycache__"}


@pytest.mark.parametrize("target", ["1e-9", "1e9"])
def test_a_latency_that_cannot_be_met_is_refused_before_the_layers_are_timed(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preparation, "with_latency", None)  # calling it would fail
    error = refusal(["prune", "--target-latency", target, "--latency-batch", "2"], capsys)
    assert "the dense network takes" in error


def test_a_percentage_is_a_share() -> None:
    for words, target in ((["50%"], 0.5), (["0.5"], 0.5), (["12.5%"], 0.125)):
        verb = parse(["prune", "--target-macs", *words])
        assert isinstance(verb, Prune)
        assert verb.options.target_macs == target
    frontier = parse(["frontier", "demo", "--targets", "20%", "0.5"])
    assert isinstance(frontier, Frontier)
    assert frontier.targets == (0.2, 0.5)
    options = ConstraintOptions(max_sparsity=("80%", "conv1=50%"))
    assert options.constraints.max_sparsity == {"*": 0.8, "conv1": 0.5}


def test_a_drop_bound_in_percent_is_in_percentage_points() -> None:
    for word in ("2", "2%"):
        verb = parse(["prune", "--drop-bound", word])
        assert isinstance(verb, Prune)
        assert verb.options.drop_bound == 2


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only")])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(
    number: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    assert said in refusal(["prune", "--out", str(tmp_path / "new" / "run")], capsys)
    assert not list(tmp_path.iterdir())
