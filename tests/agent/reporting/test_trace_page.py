"""The page that `secateur inspect` prints: complete, plain, and of any width."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.agent.cli import main
from secateur.agent.reporting.trace_page import describe, page, pinned_markdown
from secateur.envs.models import get_model
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tracing.naming import abbreviated
from support.networks import LiteralSizes

COMPONENTS = st.sampled_from(["conv1", "conv2", "conv3", "conv01", "conv02", "bn", "0", "1", "2", "block1-0"])
NAMES = st.lists(st.lists(COMPONENTS, min_size=1, max_size=4).map(".".join), unique=True)


def expanded(pattern: str) -> list[str]:
    """Do what a shell does with braces."""
    parts = []
    for plain, braced in re.findall(r"([^{]+)|\{([^}]*)\}", pattern):
        if span := re.fullmatch(r"(\d+)-(\d+)", braced):
            parts.append([str(k) for k in range(int(span[1]), int(span[2]) + 1)])
        else:
            parts.append([plain] if plain else braced.split(","))
    return ["".join(choice) for choice in itertools.product(*parts)]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["layer1.1.conv3", "layer1.2.conv3", "fc"], "layer1.{1,2}.conv3, fc"),
        ([f"layer{n}.conv2" for n in (2, 3, 4)], "layer{2-4}.conv2"),
        (["a.0.left", "a.0.right", "a.1.left", "a.1.right"], "a.{0,1}.{left,right}"),
        (["stem.0", "stem.0.conv"], "stem.0, stem.0.conv"),
        ([], ""),
    ],
)
def test_names_that_differ_in_one_component_are_joined(names: list[str], short: str) -> None:
    assert abbreviated(names) == short


@given(NAMES)
def test_an_abbreviation_names_exactly_what_was_given(names: list[str]) -> None:
    patterns = re.findall(r"(?:[^,{]|\{[^}]*\})+", abbreviated(names).replace(", ", ","))
    assert sorted(name for pattern in patterns for name in expanded(pattern)) == sorted(names)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v3_small"])
def test_a_page_fits_its_width_and_names_every_layer(name: str, width: int) -> None:
    model = get_model(name, num_classes=10, in_channels=3)
    network = trace_exactly(model, torch.zeros(2, 3, 32, 32))
    lines = page(describe(name, (3, 32, 32), network), width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)
    assert {layer.name for layer in network.layers} <= {line.split()[0] for line in lines if line}


def test_a_page_says_once_what_stays_because_of_which_operation_and_line() -> None:
    network = trace_exactly(LiteralSizes(), torch.zeros(2, 3, 8, 8))
    text = " ".join(page(describe("literal", (3, 8, 8), network), 100).split())
    assert re.search(
        r"conv3 10 of 10 filters: its cut was tried and refused: .*; support/networks.py:\d+", text
    )
    assert text.endswith("fc 4 of 4 filters: the network's output")


def test_what_stays_is_a_table_in_markdown() -> None:
    network = trace_exactly(get_model("demo", num_classes=10, in_channels=1), torch.zeros(2, 1, 8, 8))
    assert pinned_markdown(network).splitlines() == [
        "| layer | pinned filters | reason |",
        "| --- | ---: | --- |",
        "| `classifier` | 10 of 10 | the network's output |",
    ]


def test_inspect_is_a_page_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "resnet20"]) == 0
    text = capsys.readouterr().out
    assert "layer2.0.conv1" in text
    assert "padded channels stay" in text
    assert main(["inspect", "resnet20", "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description["macs"] == 40_551_040
    assert {layer["name"] for layer in description["layers"]} >= {"conv1", "layer3.2.conv1"}


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "secateur", "inspect", "resnet20"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_network_that_keeps_all_filters_and_a_small_one_are_described_without_wrong_numbers() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    network = trace_exactly(linear, torch.zeros(2, 1, 8, 8))
    assert network.prunable_share == 0.0
    said = page(describe("linear", (1, 8, 8), network), 100)
    assert said.startswith("linear at 1x8x8: 640 MACs, 650 parameters.\nNo filter can be removed.\n")
    assert "layer keeps one filter" not in said
