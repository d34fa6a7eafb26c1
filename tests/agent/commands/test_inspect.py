"""`secateur inspect` looks at a network at the size that it is used at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secateur.agent.cli import main
from support.command_line import refusal


def described(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["inspect", *words, "--json"]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def classes(description: dict[str, Any]) -> int:
    return max(row["filters"] for row in description["pinned"] if row["operation"] == "output")


@pytest.mark.parametrize(
    ("words", "shape", "outputs"),
    [
        (["demo"], [1, 8, 8], 10),
        (["resnet20"], [3, 32, 32], 10),
        (["resnet20", "--data", "digits"], [1, 8, 8], 10),
        (["resnet20", "--image-size", "16"], [3, 16, 16], 10),
        (["resnet20", "--input-shape", "2", "8", "16"], [2, 8, 16], 10),
        (["mobilenet_v3_small", "--image-size", "32"], [3, 32, 32], 1000),
        (["resnet20", "--task", "inspected_task:Task"], [2, 6, 6], 3),
    ],
)
def test_shape_and_classes_come_from_the_data_the_size_or_the_network(
    words: list[str],
    shape: list[int],
    outputs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inspected_task.py").write_text(
        "import torch\n"
        "from secateur.envs.tasks import Accuracy, TensorTask\n"
        "from torch.nn.functional import cross_entropy\n"
        "def Task():\n"
        "  x, y = torch.rand(9, 2, 6, 6), torch.arange(9) % 3\n"
        "  settings = {'loss': cross_entropy, 'metric': Accuracy(), 'num_outputs': 3}\n"
        "  return TensorTask(train=(x, y), val=(x, y), test=(x, y), **settings)\n"
    )
    found = described(words, capsys)
    assert found["input_shape"] == shape
    assert classes(found) == outputs


@pytest.mark.parametrize(("channels", "shape"), [(3, [3, 8, 8]), (2, None)])
def test_images_get_the_channels_that_the_network_takes_as_in_prune(
    channels: int,
    shape: list[int] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    layers = f"nn.Conv2d({channels}, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 6), nn.Flatten()"
    (tmp_path / f"takes{channels}.py").write_text(
        f"from torch import nn\ndef build():\n    return nn.Sequential({layers})\n"
    )
    words = [f"takes{channels}:build", "--data", "digits"]
    if shape is None:
        assert "does not run on an input of (2, 1, 8, 8)" in refusal(["inspect", *words], capsys)
    else:
        assert described(words, capsys)["input_shape"] == shape


@pytest.mark.parametrize(
    ("network", "shape"), [("Conv1d(3, 2, 3), nn.Flatten()", ["3", "9"]), ("Linear(5, 2)", ["5"])]
)
def test_inputs_have_any_number_of_axes(
    network: str,
    shape: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"axes{len(shape)}"
    (tmp_path / f"{name}.py").write_text(
        f"from torch import nn\ndef build():\n  return nn.Sequential(nn.{network})\n"
    )
    assert described([f"{name}:build", "--input-shape", *shape], capsys)["input_shape"] == [*map(int, shape)]


def test_an_input_has_at_least_one_axis(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--input-shape has no numbers" in refusal(["inspect", "demo", "--input-shape"], capsys)


def test_a_wrong_guess_of_the_size_is_answered_with_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grey_net.py").write_text("from torch import nn\ndef build(): return nn.Conv2d(1, 8, 3)\n")
    error = refusal(["inspect", "grey_net:build"], capsys)
    assert error.endswith("give --data, --image-size or --input-shape")


HOSTILE = """
import torch
from torch import nn

class Raises(nn.Conv2d):
    def forward(self, x):
        raise {error}

def raising():
    return Raises(3, 8, 3)

class Exits(nn.Conv2d):
    def train(self, mode=True):
        raise NotImplementedError("no modes\\nsecond line")

def without_modes():
    return Exits(3, 8, 3)

def scripted():
    return torch.jit.script(nn.Conv2d(3, 8, 3))

def empty():
    return nn.Conv2d(3, 8, 3, device="meta")

class Lazily(nn.Conv2d):
    def forward(self, x):
        return (y for y in [super().forward(x)])

def lazily():
    return Lazily(3, 8, 3)
"""


@pytest.mark.parametrize(
    ("build", "error", "sentence"),
    [
        ("raising", "KeyError('skip')", "the network does not run on an input of (2, 3, 8, 8)"),
        ("raising", "AssertionError", "the network does not run on an input of (2, 3, 8, 8)"),
        ("raising", "ZeroDivisionError('a\\nb')", "the network does not run on an input of (2, 3, 8, 8)"),
        ("without_modes", "", "the network does not run on an input of (2, 3, 8, 8)"),
        ("scripted", "", "the network is compiled by torch.jit"),
        ("empty", "", "weight is on the meta device"),
        ("lazily", "", "the network's output is a generator"),
    ],
)
def test_a_network_that_cannot_be_traced_gets_one_line(
    build: str,
    error: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"net_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(HOSTILE.replace("{error}", error or "ValueError"))
    line = refusal(["inspect", f"{name}:{build}", "--input-shape", "3", "8", "8"], capsys)
    assert sentence in line


def test_networks_of_timm_are_inspected(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("timm")
    assert described(["timm:resnet10t", "--image-size", "64"], capsys)["input_shape"] == [3, 64, 64]
    assert "did you mean 'timm:resnet26d'?" in refusal(["inspect", "resnet26d"], capsys)


TWO_WAYS = """
from torch import nn

class TwoWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.narrow, self.projection, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, 4), nn.Linear(6, 5)

    def features(self, x):
        x = self.stem(x).relu()
        return (self.wide(x) if x.shape[-1] > 16 else self.narrow(x)).mean((2, 3)).relu()

    def forward(self, x):
        return self.head(self.features(x))

    def embed(self, x):
        return self.projection(self.features(x))
"""


def test_what_no_call_reaches_is_named_until_a_call_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_ways.py").write_text(TWO_WAYS)
    words = ["two_ways:TwoWays", "--input-shape", "3", "8", "8"]
    alone = described(words, capsys)
    assert (alone["unreached"], alone["layers"]) == (["wide", "projection"], [])
    assert main(["inspect", *words]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "No traced call reaches the parameters of wide, projection; 14 filters, which may" in text
    whole = described([*words, "--also-trace", "3x24x24", "--also-trace", "embed"], capsys)
    assert (whole["unreached"], whole["notes"]) == ([], [])
    assert [layer["name"] for layer in whole["layers"]] == ["stem", "narrow"]
    assert described([*words, "--also-trace", "embed:3x24x24"], capsys)["unreached"] == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("3x", "give the size of an input such as 3x40x40, a method such as embed, or both"),
        ("3x0x4", "--also-trace is '3x0x4'"),
        ("embed:", "--also-trace is 'embed:'"),
        ("em-bed", "--also-trace is 'em-bed'"),
        ("embd", "the network has no method 'embd', did you mean 'embed'?"),
        ("4x24x24", "the network does not run on an input of (2, 4, 24, 24)"),
    ],
)
def test_calls_that_cannot_be_made_are_refused(
    word: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_ways.py").write_text(TWO_WAYS)
    shape = ["--input-shape", "3", "8", "8"]
    assert said in refusal(["inspect", "two_ways:TwoWays", *shape, "--also-trace", word], capsys)


def test_a_page_is_no_wall_of_pinned_layers(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("timm")
    assert main(["inspect", "timm:vit_tiny_patch16_224"]) == 0
    text = capsys.readouterr().out
    assert len(text[text.index("Pinned filters") :].splitlines()) <= 40


def test_the_blocks_that_can_go_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "demo", "--json"]) == 0
    blocks = json.loads(capsys.readouterr().out)["blocks"]
    assert [(block["name"], block["refusal"]) for block in blocks] == [("block1", ""), ("block2", "")]
    assert main(["inspect", "demo"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Residual blocks that can go as a whole (--drop-blocks), 2: block{1,2}" in said
