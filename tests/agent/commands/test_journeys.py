"""Published networks on the command line: from their weights to an exported pruned network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from secateur.agent.cli import main

QUICK = ["--method", "l2-uniform", "--target-macs", "0.6"]


def published(name: str, num_classes: int, **settings: Any) -> nn.Module:
    """Build a network as torchvision does, with heads, and with batch-norm statistics of its own."""
    torch.manual_seed(0)
    if name in ("googlenet", "inception_v3"):
        settings["init_weights"] = False
    elif name in torchvision.models.list_models(module=torchvision.models.segmentation):
        settings["weights_backbone"] = None
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **settings)
    return model


def photographs(root: Path, size: int) -> Path:
    """Write an image folder of two classes, bright and dark."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        for name, level in (("bright", 180), ("dark", 60)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = generator.integers(level - 40, level + 40, (size, size, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    return root


def scenes(root: Path, size: int) -> Path:
    """Write a folder of images and masks: the right half is another class."""
    generator = np.random.default_rng(0)
    mask = np.zeros((size, size), np.uint8)
    mask[:, size // 2 :] = 1
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for k in range(count):
            pixels = (60 + 120 * mask[..., None] + generator.integers(0, 40, (size, size, 3))).astype(
                np.uint8
            )
            Image.fromarray(pixels).save(root / split / "images" / f"{k}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{k}.png")
    return root


def assert_prunes_evaluates_and_exports(
    words: list[str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", *words, *QUICK, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert 0.5 < report["ratios"]["macs"] <= 0.6
    capsys.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for figure in ("accuracy", "loss", "macs", "params"):
        assert found[figure] == pytest.approx(report["pruned"][figure]), figure
    assert main(["export", str(out)]) == 0
    shape = report["input_shape"]
    answer = torch.export.load(out / "model.pt2").module()(torch.zeros(3, *shape))
    assert next(iter(answer.values())).shape[0] == 3 if isinstance(answer, dict) else answer.shape == (3, 2)


def test_a_published_classifier_goes_from_its_weights_to_an_exported_pruned_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(published("squeezenet1_1", 2).state_dict(), tmp_path / "weights.pt")
    words = ["squeezenet1_1", "--weights", str(tmp_path / "weights.pt"), "--epochs", "0"]
    data = photographs(tmp_path / "images", 64)
    assert_prunes_evaluates_and_exports([*words, "--data", str(data)], tmp_path / "run", capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "pixels"),
    [
        ("resnet18", {}, 224),
        ("mobilenet_v2", {}, 224),
        ("googlenet", {"aux_logits": True}, 96),
        ("googlenet", {"aux_logits": False}, 96),
        ("inception_v3", {"aux_logits": True}, 128),
    ],
)
def test_larger_images_and_networks_too(
    name: str, settings: dict[str, Any], pixels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(published(name, 2, **settings).state_dict(), tmp_path / "weights.safetensors")
    words = [name, "--weights", str(tmp_path / "weights.safetensors"), "--epochs", "1"]
    data = photographs(tmp_path / "images", pixels)
    assert_prunes_evaluates_and_exports([*words, "--data", str(data)], tmp_path / "run", capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_a_published_segmentation_network_loses_its_auxiliary_head_and_is_pruned(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = {} if name.startswith("lraspp") else {"aux_loss": True}
    torch.save(published(name, 2, **heads).state_dict(), tmp_path / "weights.pth")
    words = [name, "--weights", str(tmp_path / "weights.pth"), "--epochs", "1", "--task", "segmentation"]
    data = scenes(tmp_path / "scenes", 64)
    assert_prunes_evaluates_and_exports([*words, "--data", str(data)], tmp_path / "run", capsys)
