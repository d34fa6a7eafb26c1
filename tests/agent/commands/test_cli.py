"""The command line, as a person meets it: one process, words in, a table or one line out."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from secateur import agent
from secateur.agent.cli import main
from secateur.agent.deciders.averaging import AVERAGES
from secateur.agent.deciders.baselines import heuristics
from secateur.agent.deciders.finalists import ENTRIES
from secateur.agent.learning.config import PRETRAINED
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.envs.problem.features import ALLOCATIONS
from support.command_line import refusal

QUICK = ["--evaluations", "64", "--epochs", "2", "--dense-epochs", "4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the whole job, short."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    assert main(["prune", *QUICK, "--target-macs", "0.5", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of two classes, bright and dark, without val and test."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 50)):
        (root / "train" / name).mkdir(parents=True)
        for k in range(40):
            pixels = generator.integers(level - 40, level + 40, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{k}.png")
    return root


def test_a_run_folder_is_complete(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    expected = {
        "config.yaml",
        "agent.safetensors",
        "agent.json",
        "plan.json",
        "model.safetensors",
        "report.json",
        "report.html",
    }
    assert expected <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    usual = run.parent / "usual"
    usual.touch()
    assert {path.stat().st_mode for path in run.iterdir() if path.is_file()} == {usual.stat().st_mode}
    assert not any(name.endswith(".tmp") for name in names)


def test_the_report_holds_what_was_gained(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    for key in ("accuracy", "loss", "macs", "params", "filters", "latency_ms"):
        assert key in report["dense"]
        assert key in report["pruned"]
    assert 0.4 < report["ratios"]["macs"] <= 0.5
    assert report["ratios"]["macs"] == pytest.approx(report["pruned"]["macs"] / report["dense"]["macs"])
    assert report["accuracy_drop"] == pytest.approx(
        report["dense"]["accuracy"] - report["pruned"]["accuracy"]
    )
    low, high = report["accuracy_drop_interval"]
    assert low < report["accuracy_drop"] < high
    assert report["search"]["evaluations"] > 64
    assert {len(column) for column in report["search"]["candidates"].values()} == {64}
    assert report["recovery"]["epochs"] == 2
    assert report["recovery"]["compensation_images"] == 512
    assert {"train", "val", "test"} <= set(report["splits"])
    assert all(0 < layer["kept"] <= layer["filters"] for layer in report["layers"])
    assert report["versions"]["torch"]
    assert report["versions"]["threads"] == torch.get_num_threads()
    assert report["device"]
    assert report["built_by_name"] is True


def test_tensorboards_own_reader_finds_what_happened(run: Path) -> None:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    for tag in (
        "search/reward",
        "search/accuracy",
        "search/macs_ratio",
        "search/meets_target",
        "layer/stem.0/keep_ratio",
        "train/clip_fraction",
        "dense/val_accuracy",
        "recovery/loss",
        "recovery/val_accuracy",
        "result/accuracy",
    ):
        assert tag in tags["scalars"], (tag, tags["scalars"])
    pictures = {"search/layers", "search/candidates", "search/keep_probabilities"}
    assert pictures | {"result/layers", "result/candidates"} == set(tags["images"])
    assert {"configuration/text_summary", "pinned/text_summary"} <= set(tags["tensors"])
    written = events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "target_macs: 0.5" in written
    plugins = events.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert plugins.plugin_name == "hparams"
    assert sum(path.name.startswith("events.") for path in run.iterdir()) == 1
    assert len(events.Scalars("recovery/val_accuracy")) == 3  # before, and after each of two epochs


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"secateur {version('secateur')}\n"


def test_evaluate_repeats_the_reports_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((run / "report.json").read_text())
    assert main(["evaluate", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(report["pruned"]["accuracy"])
    assert found["macs"] == report["pruned"]["macs"]
    assert found["params"] == report["pruned"]["params"]
    assert found["throughput"]["batch"] == report["throughput"]["batch"] == 128
    assert found["images_per_second_spread"][0] <= found["images_per_second"]
    assert main(["evaluate", str(run)]) == 0
    assert re.search(
        r"[\d,]+ images/s \(quartiles [\d,]+ to [\d,]+\) at a batch of 128", capsys.readouterr().out
    )


def test_a_run_says_what_was_asked_for(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"] == "demo"
    assert config["target_macs"] == 0.5
    assert config["data"] == "digits"


def test_a_trained_agent_prunes_frozen_and_another_network(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "frozen"
    words = [
        "prune",
        "demo",
        "--data",
        str(folder),
        "--agent",
        str(run),
        "--epochs",
        "0",
        "--dense-epochs",
        "1",
    ]
    assert main([*words, "--target-macs", "0.3", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert 0.25 < report["ratios"]["macs"] <= 0.3
    own = 2 + len(ALLOCATIONS) + FrozenAgent.samples + AVERAGES
    assert report["search"]["evaluations"] <= own + len(heuristics()) + ENTRIES["normal"].total
    assert report["method"].startswith("ppo (frozen")
    assert "pruned" in capsys.readouterr().out


def test_the_agent_that_comes_with_secateur_prunes_frozen_what_it_never_saw(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pretrained"
    words = ["prune", "--data", str(folder), "--epochs", "0", "--dense-epochs", "1", "--evaluations", "0"]
    assert main([*words, "--target-macs", "0.4", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert 0.38 <= report["ratios"]["macs"] <= 0.4
    assert report["search"]["evaluations"] <= 64
    assert report["method"].startswith("ppo (frozen")
    assert "resnet8 on cifar10" in report["search"]["agent"]["networks"]


def test_a_search_begins_with_that_agent_unless_told_otherwise(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", "--data", str(folder), "--epochs", "0", "--dense-epochs", "0", "--evaluations", "16"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    assert "begins with an agent that was trained on resnet8 on cifar10" in capsys.readouterr().err
    assert main([*words, "--agent", "none", "--out", str(tmp_path / "other")]) == 0
    assert "begins with" not in capsys.readouterr().err
    one, other = (json.loads((tmp_path / name / "agent.json").read_text()) for name in ("one", "other"))
    assert "resnet8 on cifar10" in one["trained_on"]["went_on_from"]["networks"]
    assert "went_on_from" not in other["trained_on"]


def test_the_agent_that_comes_with_secateur_is_small_and_says_what_it_was_trained_on() -> None:
    pretrained = FrozenAgent.load(PRETRAINED)
    assert "resnet8 on cifar10" in pretrained.origin
    files = list((Path(agent.__file__).parent / PRETRAINED).iterdir())
    assert sum(file.stat().st_size for file in files) < 1_000_000


def test_a_baseline_decides_through_the_same_door(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "l2"
    words = ["prune", "--data", str(folder), "--method", "l2-uniform", "--epochs", "1", "--dense-epochs", "2"]
    assert main([*words, "--target-macs", "0.6", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["method"] == "l2-uniform"
    assert 0.5 < report["ratios"]["macs"] <= 0.6


def test_with_a_drop_bound_the_report_says_what_val_and_test_say(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bound"
    words = ["prune", "--data", str(folder), "--method", "l2-global", "--epochs", "0", "--dense-epochs", "4"]
    assert main([*words, "--drop-bound", "5", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["drop_bound"]["bound"] == 5
    for said in (report["drop_bound"], report["drop_bound"]["on_val"]):
        assert said["met"] in ("yes", "no", "undecided")
    shown = capsys.readouterr()
    assert "bound on the drop" in shown.out
    assert f"on {report['drop_bound']['on_val']['images']} images of val" in shown.out
    assert "expected time: choice at about 8 sizes" in shown.err
    assert report["ratios"]["macs"] < 1


def test_an_agent_learns_on_several_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    words = ["train", "demo", "demo", "--evaluations", "32", "--dense-epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    card = json.loads((tmp_path / "out" / "agent.json").read_text())
    assert card["trained_on"]["networks"] == ["demo#1", "demo#2"]
    shown = capsys.readouterr()
    assert "--agent" in shown.out
    assert "\r" not in shown.err  # stderr is no terminal here


@pytest.mark.parametrize(
    ("words", "reward"),
    [
        (["--drop-bound", "5"], "TryAndLearnReward"),
        (["--max-sparsity", "0.3"], "TargetRange"),  # which half of the MACs is out of reach of
        (["--target-macs", "0.6"], "TargetReward"),
    ],
)
def test_an_agent_learns_for_what_is_wished(words: list[str], reward: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ["train", "demo", "--evaluations", "16", "--dense-epochs", "1", "--search-images", "32"]
    assert main([*given, *words, "--out", str(out)]) == 0
    assert json.loads((out / "agent.json").read_text())["trained_on"]["reward"]["name"] == reward


def test_a_run_is_exported_without_its_data(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run)]) == 0
    said = capsys.readouterr().out
    assert "model.pt2" in said
    assert "(batch, 1, 8, 8)" in said
    model = torch.export.load(run / "model.pt2").module()
    assert model(torch.zeros(5, 1, 8, 8)).shape == (5, 10)
    assert "nothing is overwritten" in refusal(["export", str(run)], capsys)
    assert main(["export", str(run), "--format", "safetensors", "--out", "mine.safetensors"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]
    report = json.loads((run / "report.json").read_text())
    assert len(report["normalisation"]["mean"]) == len(report["normalisation"]["std"]) == 1


def test_nothing_is_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert "not empty" in refusal(["prune", "--out", str(run)], capsys)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_weights_that_do_not_fit_name_their_keys(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(["prune", "resnet20", "--weights", str(run / "model.safetensors")], capsys)
    assert "layer1" in error or "conv1" in error


def test_an_empty_class_folder_and_a_broken_image_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train" / "empty").mkdir(parents=True)
    (tmp_path / "train" / "full").mkdir()
    image = (folder / "train" / "dark" / "0.png").read_bytes()
    (tmp_path / "train" / "full" / "0.png").write_bytes(image)
    assert "empty" in refusal(["prune", "--data", str(tmp_path)], capsys)
    (tmp_path / "train" / "empty" / "1.png").write_bytes(image[:30])
    assert "1.png" in refusal(["prune", "--data", str(tmp_path)], capsys)
