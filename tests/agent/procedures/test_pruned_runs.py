"""Folders of runs that were started from Python, read again by what knows no objects of that program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
from secateur.agent.procedures.pruned_runs import load_pruned_network, load_pruned_run
from secateur.envs.tasks import Task, get_task
from support.small import plain_network

NAME = "support.small:plain_network"
OPTIONS: dict[str, Any] = {"method": "l2-uniform", "epochs": 0, "search_images": 32}


@pytest.fixture
def own_task() -> Task:
    digits = get_task("digits", root=Path())
    splits = ("train", "val", "test")
    parts: dict[str, Any] = {name: digits.batch(name, torch.arange(64)) for name in splits}
    return secateur.TensorTask(
        **parts,
        loss=torch.nn.functional.cross_entropy,
        metric=lambda out, wanted: (out.argmax(1) == wanted).float(),
    )


def test_a_network_with_a_name_is_built_again(tmp_path: Path) -> None:
    result = secateur.prune(plain_network(), "digits", name=NAME, out=tmp_path / "run", **OPTIONS)
    images = torch.rand(4, 1, 8, 8)
    network, _ = load_pruned_network(tmp_path / "run")
    other, task = load_pruned_run(tmp_path / "run", None)
    assert task.name == "digits"
    for loaded in (network, other):
        assert torch.equal(loaded(images), result.model.eval()(images))


@pytest.mark.parametrize("load", [load_pruned_network, lambda folder: load_pruned_run(folder, None)])
def test_a_network_without_a_name_is_told_how_to_be_loaded(load: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    secateur.prune(plain_network(), "digits", out=folder, **OPTIONS)
    with pytest.raises(ValueError, match=r"a Sequential, was an object of a Python program; load it with"):
        load(folder)
    assert isinstance(secateur.load(plain_network, folder), torch.nn.Module)


def test_a_network_is_never_measured_on_other_data_than_the_runs(own_task: Task, tmp_path: Path) -> None:
    secateur.prune(plain_network(), own_task, name=NAME, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match=r"the data of .*, 'own data', were an object of a Python program"):
        load_pruned_run(tmp_path / "run", None)
    load_pruned_network(tmp_path / "run")


def test_what_is_no_folder_is_no_run() -> None:
    with pytest.raises(TypeError, match="the folder is NoneType; give the path of a finished run"):
        secateur.load(plain_network, None)


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    secateur.prune(plain_network(), "digits", name=NAME, out=tmp_path / "run", **OPTIONS)
    (tmp_path / "run" / "report.json").write_text("[]")
    for load in (
        lambda: load_pruned_run(tmp_path / "run", None),
        lambda: secateur.load(plain_network, tmp_path / "run"),
    ):
        with pytest.raises(ValueError, match=r"report\.json is damaged: it is not a JSON object"):
            load()
