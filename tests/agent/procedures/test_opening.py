"""Traps of data, as a user walks into them: said or answered before anything is decided."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from secateur.agent.cli import main
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.opening import dense_networks, open_job
from secateur.envs.io.tensor_files import read_tensors, write_tensors
from secateur.envs.tasks import ClassificationTask
from secateur.envs.tasks.images.dense_checks import Difference, Images
from support.folders import SHADES, shade_network, trained_weights, write_shades

NET = "own_nets:build"
QUICK = ["--method", "l2-uniform", "--epochs", "0", "--compensation-images", "0", "--out", "run"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text(SHADES)
    return tmp_path


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of easy classes, and beside it weights that were trained on pixels in [0, 1]."""
    root = write_shades(tmp_path_factory.mktemp("easy") / "shades", {"train": 100, "test": 60})
    trained_weights(root, root.parent / "own.safetensors", normalisation="none")
    return root


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of noise, and beside it weights that know all of train, and others all but val."""
    root = write_shades(tmp_path_factory.mktemp("hard") / "shades", {"train": 80, "test": 80}, noise=500)
    trained_weights(root, root.parent / "knowing.safetensors", ("train", "val"))
    trained_weights(root, root.parent / "honest.safetensors", ("train",))
    return root


def weights_of(root: Path, name: str) -> list[str]:
    return ["--data", str(root), "--weights", str(root.parent / f"{name}.safetensors")]


def said(words: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> str:
    assert main(words) == status
    return capsys.readouterr().err


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "verb", [["prune", *QUICK], ["evaluate"], ["frontier", "--out", "run"], ["train", "--out", "run"]]
)
def test_weights_of_another_normalisation_stop_the_job_with_the_flag_to_give(
    easy: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = said([verb[0], NET, *verb[1:], *weights_of(easy, "own")], capsys, status=2)
    assert line.startswith(f"secateur: the dense network {NET} has accuracy ")
    assert "images with the normalisation imagenet, the default here, and 9" in line
    assert line.strip().endswith("give --normalisation none, or --normalisation imagenet if that is right")
    assert line.count("\n") == 1
    assert not Path("run").exists()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("given", ["none", "imagenet"])
def test_a_normalisation_that_is_given_is_believed(
    easy: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", NET, *weights_of(easy, "own"), "--normalisation", given]
    assert f"normalisation: {given} (mean " in said(words, capsys)


@pytest.mark.usefixtures("project")
def test_a_job_begins_with_its_data_its_normalisation_its_augmentation_and_the_dense_accuracy(
    easy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(
        ["prune", NET, *weights_of(easy, "own"), *QUICK, "--normalisation", "none"], capsys
    ).splitlines()
    assert lines[0] == (f"data: shades ({easy}), 3 classes, images of 3x8x8; train 270, val 30, test 180")
    assert lines[1] == "images: held in memory (92.2 kB)"
    assert lines[2] == "normalisation: none (mean 0 0 0, deviation 1 1 1)"
    assert lines[3].startswith("augmentation of training images: none (give that of the network's training")
    dense = re.fullmatch(rf"dense network {NET}: accuracy (\d+\.\d\d) % on val", lines[4])
    assert dense
    assert float(dense[1]) > 80
    assert "warning" not in "".join(lines)


@pytest.mark.usefixtures("project")
def test_a_network_at_chance_is_reported_with_the_usual_causes(
    easy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, _ = read_tensors(easy.parent / "own.safetensors")
    turned = {key: value.roll(1, 0) if key.startswith("5.") else value for key, value in state.items()}
    write_tensors(Path("turned.safetensors"), turned)
    words = ["evaluate", NET, "--data", str(easy), "--weights", "turned.safetensors"]
    line = said([*words, "--normalisation", "none"], capsys)
    assert "warning: that is not better than the same answer for every image (33.3 %)" in line
    assert "another order of the classes (here dark, medium, pale)" in line


@pytest.mark.usefixtures("project")
def test_where_val_is_known_the_search_uses_half_of_test_and_everything_later_the_same(
    hard: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(["prune", NET, *weights_of(hard, "knowing"), *QUICK], capsys)
    assert "train 240, val 120, test 120" in text
    assert f"The dense network {NET} knows the images of train (accuracy 100.0 %, on images of test " in text
    assert "the search uses one half of test, the report the other" in text
    assert yaml.safe_load(Path("run/config.yaml").read_text())["val_from"] == "test"
    report = json.loads(Path("run/report.json").read_text())
    assert report["splits"]["test"] == 120
    assert any("knows the images of train" in note for note in report["splits"]["notes"])
    assert main(["evaluate", "run", "--json"]) == 0
    captured = capsys.readouterr()
    measured = json.loads(captured.out)
    assert (measured["images"], measured["accuracy"]) == (120, report["pruned"]["accuracy"])
    assert "knows" not in captured.err


@pytest.mark.usefixtures("project")
def test_a_resumed_run_uses_the_parts_of_its_beginning_without_measuring_again(
    hard: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = ["prune", NET, *weights_of(hard, "knowing"), *QUICK]
    with monkeypatch.context() as interrupted:
        interrupted.setattr("secateur.agent.procedures.prune.recover_pruned", stop)
        assert main(words) == 130
    assert yaml.safe_load(Path("run/config.yaml").read_text())["val_from"] == "test"
    capsys.readouterr()
    monkeypatch.setattr("secateur.agent.procedures.opening.known_better", stop)
    text = said(["resume", "run"], capsys)
    assert "train 240, val 120, test 120" in text
    assert f"dense network {NET}: accuracy" not in text
    splits = json.loads(Path("run/report.json").read_text())["splits"]
    assert splits["test"] == 120
    assert any("knows the images of train" in note for note in splits["notes"])


@pytest.mark.parametrize("parts", [{"train": 20, "test": 1}, {"train": 20, "val": 9, "test": 1}])
def test_a_test_part_that_is_too_small_for_halves_stays_whole(parts: dict[str, int], project: Path) -> None:
    root = write_shades(project / "shades", parts)
    write_tensors(Path("own.safetensors"), shade_network().state_dict())
    data = DataConfig(data=str(root), normalisation="none")
    opened = open_job(data, dense_networks([NET], ["own.safetensors"]), seed=0)
    assert opened.data.val_from == "train"
    assert opened.task.size("test") == 3


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "flags", "found"),
    [
        ("honest", [], "train"),
        ("knowing", ["--val-from", "train"], "train"),
        ("honest", ["--val-from", "test"], "test"),
    ],
)
def test_val_stays_where_it_is_if_nothing_knows_it_or_the_user_says_so(
    hard: Path, name: str, flags: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "knows" not in said(["prune", NET, *weights_of(hard, name), *QUICK, *flags], capsys)
    assert yaml.safe_load(Path("run/config.yaml").read_text())["val_from"] == found


def test_a_val_folder_that_is_known_is_left_for_half_of_test(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"train": 60, "val": 40, "test": 80}
    root = write_shades(project / "with_val" / "shades", parts, noise=500)
    trained_weights(root, root.parent / "knowing.safetensors", ("train", "val"))
    trained_weights(root, root.parent / "honest.safetensors", ("train",))
    text = said(["prune", NET, *weights_of(root, "knowing"), *QUICK], capsys)
    assert "knows the images of val" in text
    assert "train 180, val 120, test 120" in text
    text = said(["frontier", NET, *weights_of(root, "honest"), "--targets", "0.5", "--methods"], capsys)
    assert "knows" not in text
    assert "train 180, val 120, test 240" in text


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val", "test"), ("train", "val")])
@pytest.mark.parametrize("is_known", [True, False])
def test_the_images_of_the_report_are_not_read_by_the_check(
    parts: tuple[str, ...], is_known: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_shades(project / "shades", dict.fromkeys(parts, 20))
    write_tensors(Path("own.safetensors"), shade_network().state_dict())
    compared: list[Images] = []

    def known_better(model: object, known: Images, unseen: Images) -> tuple[bool, Difference]:
        compared.extend([known, unseen])
        return is_known, Difference(90.0, 80.0, 1)

    monkeypatch.setattr("secateur.agent.procedures.opening.known_better", known_better)
    data = DataConfig(data=str(root), normalisation="none")
    opened = open_job(data, dense_networks([NET], ["own.safetensors"]), seed=0)
    assert opened.data.val_from == ("test" if is_known else "train")
    assert isinstance(opened.task, ClassificationTask)
    used = {name: images_of(opened.task.splits[name].images) for name in ("train", "val", "test")}
    assert sum(map(len, used.values())) == len(set().union(*used.values()))
    known, unseen = (images_of(task.splits["val"].images) for task in compared)
    assert known
    if is_known:
        assert unseen == used["val"]
        assert not known & used["test"]
    else:
        assert unseen < used["val"] | used["test"]


def images_of(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_val_comes_from_a_folder_that_the_user_names(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_shades(project / "more" / "shades", {"train": 40, "holdout": 30, "test": 50})
    trained_weights(root, root.parent / "own.safetensors")
    words = ["prune", NET, *weights_of(root, "own"), *QUICK, "--val-from"]
    for wrong in ("holdot", "../shades/holdout", "val"):
        line = said([*words, wrong], capsys, status=2)
        assert line.startswith(f"secateur: there is no part of {root} for val {wrong!r}")
        assert "give auto, train, test, holdout" in line
    assert "train 120, val 90, test 150" in said([*words, "holdout"], capsys)
    assert yaml.safe_load(Path("run/config.yaml").read_text())["val_from"] == "holdout"


def test_parts_that_all_come_from_train_are_warned_of(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_shades(project / "only" / "shades", {"train": 60})
    trained_weights(root, root.parent / "own.safetensors")
    text = said(["evaluate", NET, *weights_of(root, "own")], capsys)
    assert "warning: there is no test part, so test is taken from the images that the weights" in text


@pytest.mark.parametrize(
    ("mode", "channels", "how"),
    [
        ("L", 3, "the network takes 3, so each grey image is repeated"),
        ("RGB", 1, "the network takes 1, so the images are converted to grey"),
    ],
)
def test_images_of_another_number_of_channels_are_converted_and_it_is_said(
    project: Path, mode: str, channels: int, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_shades(project / "grey" / "shades", {"train": 60, "test": 40}, mode=mode)
    trained_weights(root, root.parent / "own.safetensors", channels=channels)
    assert f"channels: {how}" in said(["prune", NET, *weights_of(root, "own"), *QUICK], capsys)
    report = json.loads(Path("run/report.json").read_text())
    assert report["input_shape"] == [channels, 8, 8]
    assert report["dense"]["accuracy"] > 85
    assert main(["evaluate", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == report["pruned"]["accuracy"]


@pytest.mark.usefixtures("project")
def test_a_network_that_fits_images_of_no_number_of_channels_is_refused_for_those_of_the_data(
    easy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tensors(Path("other.safetensors"), {"0.weight": torch.zeros(8, 5, 3, 3)})
    line = said(["prune", NET, "--data", str(easy), "--weights", "other.safetensors", *QUICK], capsys, 2)
    assert "0.weight (8, 5, 3, 3) instead of (8, 3, 3, 3)" in line
