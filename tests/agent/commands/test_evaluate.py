"""What ``secateur evaluate`` measures on: what is given counts, and what is not given is the run's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from secateur.agent.cli import main
from secateur.agent.commands import Evaluate
from secateur.agent.commands.parsing import parse
from secateur.agent.procedures.data_config import DataConfig

OTHER = DataConfig(
    task="segmentation",
    data="mine",
    data_root=Path("elsewhere"),
    download=True,
    val_from="test",
    normalisation="cifar10",
    image_size=12,
    ignore_label=11,
    balance_classes=True,
    augment="flip",
    device="cpu",
    workers=2,
    in_memory="never",
    train_transform="own:train",
    eval_transform="own:evaluate",
    channels=3,
    val_reason="known",
)
"""Of every option another value than by default."""

FOUND_OUT = ("channels", "val_reason")

OPTIONS = [field.name for field in dataclasses.fields(DataConfig) if field.name not in FOUND_OUT]
"""The options that have a flag; the others are found out and recorded."""


def given(*words: str) -> DataConfig:
    verb = parse(["evaluate", *words])
    assert isinstance(verb, Evaluate)
    return verb.data


@pytest.fixture
def run(tmp_path: Path) -> str:
    data = dataclasses.asdict(OTHER) | {"data_root": "elsewhere"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": "demo", "seed": 3, "data": data}))
    return str(tmp_path)


def test_the_other_values_are_other_ones() -> None:
    plain = DataConfig()
    assert all(getattr(OTHER, f.name) != getattr(plain, f.name) for f in dataclasses.fields(DataConfig))


def test_options_that_are_not_given_are_the_runs(run: str) -> None:
    assert given(run) == OTHER


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_is_given_counts_alone_and_with_its_default_too(run: str, name: str) -> None:
    default = getattr(DataConfig(), name)
    if default is False:  # a flag, which a run may have set already
        assert given(run, f"--{name.replace('_', '-')}") == OTHER
    else:
        word = f"--{name.replace('_', '-')}"
        assert given(run, word, str(default)) == dataclasses.replace(OTHER, **{name: default})
        assert given(word, str(default), run) == dataclasses.replace(OTHER, **{name: default})


def test_of_a_model_options_that_are_not_given_are_the_usual_ones() -> None:
    assert given("resnet20", "--data", "cifar10") == DataConfig(data="cifar10")


@pytest.mark.parametrize("option", [["--weights", "a.pt"], ["--seed", "0"], ["--seed", "3"]])
def test_what_cannot_apply_to_a_run_is_refused_in_one_line(
    run: str, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", run, *option]) == 2
    name = option[0].strip("-")
    error = capsys.readouterr().err
    assert error == f"secateur: {run} is a run and has its own {name}; leave out --{name}\n"


@pytest.mark.parametrize(
    "content", ["data: 3\n", "model: demo\n", "data_root: [1]\n", "data: {data_root: [1]}\n"]
)
def test_a_configuration_that_does_not_say_is_refused_in_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(content)
    assert main(["evaluate", str(tmp_path), "--data-root", "x"]) == 2
    error = capsys.readouterr().err
    assert "config.yaml does not describe a prune run" in error
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an image folder of two classes, bright and dark."""
    root, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, level in (("bright", 170), ("dark", 90)):
        (root / "train" / name).mkdir(parents=True)
        for k in range(60):
            pixels = generator.integers(level - 90, level + 85, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{k}.png")
    return root


def test_a_run_on_a_folder_is_measured_on_that_folder_whatever_else_is_given(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    words = ["prune", "--data", str(images), "--method", "l2-uniform", "--dense-epochs", "2", "--epochs", "0"]
    assert main([*words, "--out", out]) == 0
    report: dict[str, Any] = json.loads((tmp_path / "run" / "report.json").read_text())
    capsys.readouterr()
    for further in ([], ["--data-root", "elsewhere"], ["--download"]):
        assert main(["evaluate", out, "--json", *further]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["accuracy"] == pytest.approx(report["pruned"]["accuracy"])
        assert found["images"] == report["splits"]["test"]


def test_a_run_of_version_01_with_a_larger_seed_than_is_allowed_now_is_still_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert (
        main(["prune", "--method", "l2-uniform", "--dense-epochs", "1", "--epochs", "0", "--out", str(out)])
        == 0
    )
    config = (out / "config.yaml").read_text()
    assert "\nseed: 0\n" in config
    (out / "config.yaml").write_text(config.replace("\nseed: 0\n", f"\nseed: {2**32}\n"))
    assert main(["evaluate", str(out), "--json"]) == 0
